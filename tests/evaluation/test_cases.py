"""Images and volumes on their way in and out."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_zsad.data import LoadMask
from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.evaluation.cases import (
    LoadTruth,
    PictureCased,
    benchmark_cases,
    region_of,
    volume_prediction,
)
from tests.evaluation.runs import head_ct, volumes


def test_masks_in_both_ways(tmp_path: Path) -> None:
    values = np.zeros((20, 20), np.uint8)
    values[::2, 3] = 7
    values[10:16, 10:17] = 255
    Image.fromarray(values).save(tmp_path / "mask.png")
    nearest = LoadTruth(10, "nearest")(tmp_path / "mask.png")
    # The nearest pixel of (i, j) is (2 i + 1, 2 j + 1).
    assert torch.equal(nearest[0], torch.from_numpy((values[1::2, 1::2] > 0).astype(np.float32)))
    area = LoadTruth(10)(tmp_path / "mask.png")
    assert torch.equal(area, LoadMask(10)(tmp_path / "mask.png"))
    assert not torch.equal(area, nearest)
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read as a mask"):
        LoadTruth(10, "nearest")(tmp_path / "mask.png")


def test_pictures_in_grey(tmp_path: Path) -> None:
    (first, *_) = benchmark_cases("headct", head_ct(tmp_path, 1))
    record: dict[Any, Any] = {**first}
    assert record["mask"] == ""
    colour, grey = (PictureCased(size=8, channels=channels)(record) for channels in ("rgb", "grey"))
    torch.testing.assert_close(grey["image"], colour["image"].mean(0, keepdim=True))
    assert grey["mask"].sum() == 0
    assert Path(record["image"]).is_file()


def test_cases_of_a_table_hold_no_path_of_this_machine(tmp_path: Path) -> None:
    folder = volumes(tmp_path / "scans")
    table = tmp_path / "lists" / "mine.csv"
    table.parent.mkdir()
    lines = [f"{folder}/case{n}.nii.gz,{folder}/case{n}_mask.nii.gz" for n in range(2)]
    table.write_text("\n".join(["image,mask", *lines]))
    found = benchmark_cases("volumes", table)
    assert [record["case"] for record in found] == ["case0.nii.gz", "case1.nii.gz"]
    assert all(record["label"] == 1 for record in found)


def scan_of(shape: tuple[int, int, int] = (6, 7, 5)) -> MetaTensor:
    values = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    return MetaTensor(values, affine=torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0])))


def answer(scan: MetaTensor, slices: list[dict[str, Any]]) -> dict[Hashable, Any]:
    return {"pred": scan * 0.5, "scan": scan, "volume_score": 0.25, "slice_scores": slices}


def slices_along(axis: int, count: int) -> list[dict[str, Any]]:
    found = []
    for number in range(count):
        position = [2.5, 6.0, 6.0]
        position[axis] = number * [1.0, 2.0, 3.0][axis]
        found.append({"slice": number, "position_mm": position, "score": number / 10, "scored": number != 1})
    return found


RECORD: dict[str, Any] = {"case": "a", "class_name": "brain", "label": 0, "mask": "", "image": "a.nii.gz"}


def test_slice_scores_are_those_of_the_third_axis() -> None:
    scan = scan_of()
    own = volume_prediction(answer(scan, slices_along(2, 5)), RECORD, "all").slice_scores
    np.testing.assert_array_equal(own, [0.0, np.nan, 0.2, 0.3, 0.4])
    assert volume_prediction(answer(scan, slices_along(1, 7)), RECORD, "all").slice_scores is None


def test_a_volume_without_a_mask_is_normal_all_over() -> None:
    found = volume_prediction(answer(scan_of(), slices_along(2, 5)), RECORD, 0.5)
    assert found.truth is not None
    assert found.region is not None
    assert not found.truth.any()
    assert 0 < found.region.mean() < 1
    # Without a lesion the most suspicious slice is shown.
    assert found.picture_slice == int(np.argmax(found.anomaly.max((0, 1))))
    assert found.score == 0.25


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    scan = scan_of()
    for shape, affine in (((6, 7, 4), np.diag([1.0, 2, 3, 1])), ((6, 7, 5), np.diag([1.0, 2, 4, 1]))):
        nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.uint8), affine), tmp_path / "mask.nii.gz")
        record = RECORD | {"mask": str(tmp_path / "mask.nii.gz")}
        with pytest.raises(InputError, match=r"mask.nii.gz: lies on another grid than a.nii.gz .* resample the mask"):
            volume_prediction(answer(scan, []), record, "all")


def test_regions() -> None:
    scan = scan_of()
    values = scan.as_tensor().numpy()[0]
    assert region_of(scan, "all").all()
    np.testing.assert_array_equal(region_of(scan, "0.5"), values > 0.5 * np.percentile(values, 99))
    for wrong in ("liver", "nan", None):
        with pytest.raises(ConfigurationError, match="choose body, all, or a fraction"):
            region_of(scan, wrong)  # type: ignore[arg-type]  # what a user may type
    with pytest.raises(ConfigurationError, match="is empty in a scan"):
        region_of(scan, 5.0)
