"""Labelled data in the layouts in which data sets are distributed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from monai_zsad.data.benchmarks.datalists import LAYOUTS, are_volumes, find_labelled, split_cases
from monai_zsad.errors import ConfigurationError, InputError
from tests.data.labelled import make_bmad, make_decathlon, make_meta, make_mvtec, make_visa, make_volumes

MAKERS = {
    "meta": (make_meta, 4, 2),
    "mvtec": (lambda root: make_mvtec(root, ("bolt", "metal_nut"), 2), 8, 4),
    "visa": (make_visa, 4, 2),
    "bmad": (make_bmad, 4, 2),
    "decathlon": (make_decathlon, 2, 0),
    "volumes": (make_volumes, 3, 0),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_recognised(layout: str, tmp_path: Path) -> None:
    make, count, normal = MAKERS[layout]
    make(tmp_path)
    records = find_labelled(tmp_path)
    assert records == find_labelled(tmp_path, layout)
    assert len(records) == count
    assert sum(record["anomalous"] == 0 for record in records) == normal
    for record in records:
        assert Path(record["image"]).is_file()
        assert (record["label"] == "") == (record["anomalous"] == 0)
        assert not record["label"] or Path(record["label"]).is_file()
    assert len({record["case"] for record in records}) == count
    assert are_volumes(records) == (layout in ("decathlon", "volumes"))


def test_masks_belong_to_their_images(tmp_path: Path) -> None:
    make_mvtec(tmp_path, ("bolt", "metal_nut"), 3)
    for record in find_labelled(tmp_path):
        if record["anomalous"]:
            image, label = Path(record["image"]), Path(record["label"])
            assert label.name == f"{image.stem}_mask.png"
            assert label.parents[2] == image.parents[2]
    assert {record["name"] for record in find_labelled(tmp_path)} == {"bolt", "metal nut"}


def test_one_class_is_a_data_set(tmp_path: Path) -> None:
    make_mvtec(tmp_path, ("bolt",), 2)
    assert len(find_labelled(tmp_path / "bolt")) == 4


def test_parts(tmp_path: Path) -> None:
    make_bmad(tmp_path)
    assert all("/valid/" in record["image"] for record in find_labelled(tmp_path))
    assert all("/test/" in record["image"] for record in find_labelled(tmp_path, parts=["test"]))
    with pytest.raises(InputError, match="in the parts nowhere"):
        find_labelled(tmp_path, "bmad", parts=["nowhere"])


@pytest.mark.parametrize("ending", ["_seg", "_lesions", "_gt"])
def test_endings_of_masks(ending: str, tmp_path: Path) -> None:
    make_volumes(tmp_path, 2, ending)
    assert [Path(record["label"]).name for record in find_labelled(tmp_path)] == [
        f"case{i}{ending}.nii.gz" for i in range(2)
    ]


def test_missing_mask_is_named(tmp_path: Path) -> None:
    make_mvtec(tmp_path, ("bolt",), 2)
    (tmp_path / "bolt" / "ground_truth" / "spot" / "001_mask.png").unlink()
    with pytest.raises(InputError, match=r"001\.png is in a folder of anomalous images but has no mask"):
        find_labelled(tmp_path)


def test_normal_images_alone_do_not_train(tmp_path: Path) -> None:
    make_mvtec(tmp_path, ("bolt",), 2)
    with pytest.raises(InputError, match="--parts"):
        find_labelled(tmp_path, parts=["train"])


def test_folders_without_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        find_labelled(tmp_path / "nowhere")
    with pytest.raises(InputError, match="Data without masks cannot train") as caught:
        find_labelled(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert all(files in str(caught.value) for files in LAYOUTS.values())
    with pytest.raises(ConfigurationError, match="choose auto"):
        find_labelled(tmp_path, "mvtech")


def test_damaged_meta(tmp_path: Path) -> None:
    make_meta(tmp_path)
    (tmp_path / "meta.json").write_text('{"test": {"bolt": [{"img_path": "x.png"}]}}')
    with pytest.raises(InputError, match=r"meta\.json is damaged"):
        find_labelled(tmp_path)


def test_split(tmp_path: Path) -> None:
    make_mvtec(tmp_path, ("bolt", "nut"), 10)
    records = find_labelled(tmp_path)
    training, validation = split_cases(records, 0.2, seed=1)
    cases = [{record["case"] for record in part} for part in (training, validation)]
    assert not cases[0] & cases[1]
    assert cases[0] | cases[1] == {record["case"] for record in records}
    for name in ("bolt", "nut"):
        for anomalous in (0, 1):
            assert sum((r["name"], r["anomalous"]) == (name, anomalous) for r in validation) == 2
    assert split_cases(records, 0.2, seed=1) == (training, validation)
    assert split_cases(records, 0.2, seed=2) != (training, validation)
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        split_cases(records, 1.0)
    with pytest.raises(InputError, match="--validation_dir"):
        split_cases(records[:1], 0.5)


def test_hidden_files_are_not_looked_at(tmp_path: Path) -> None:
    make_mvtec(tmp_path, ("bolt",), 2)
    image = tmp_path / "bolt" / "test" / "spot" / "000.png"
    shutil.copy(image, image.with_name("._000.png"))
    assert len(find_labelled(tmp_path)) == 4
