"""Batches of the included model's training: what is in them, what never is, and that they can be made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from monai_zsad.errors import ConfigurationError
from monai_zsad.prompts import concepts
from monai_zsad.training import ResumableSampler
from monai_zsad.training.slices.bank import NormalBank
from monai_zsad.training.slices.batches import TrainingBatches, accumulated_parts, calibration_slices
from monai_zsad.training.slices.filled import FilledSlices
from tests.training.toy import SIZE, filled_bank, outlined_bank, tumour_slices

NAMES = list(concepts())


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> NormalBank:
    return filled_bank(tmp_path_factory.mktemp("bank"))


def batches(bank: NormalBank, levels: dict[str, int] | None = None, **options: Any) -> TrainingBatches:
    """Batches of toy data; a pixel above 250 is of slices whose level is given as 255."""
    tumours, volumes = tumour_slices(**(levels or {})), tumour_slices(6, **{"glioma": 200, **(levels or {})})
    filled = FilledSlices(tumours.images.copy(), tumours.masks > 0, np.arange(12))
    return TrainingBatches(bank, tumours, volumes, filled, **{"steps": 4, "counts": (3, 2, 2), **options})


def test_items_are_whole_batches(bank: NormalBank) -> None:
    data = batches(bank)
    assert len(data) == 8
    for number in range(3):
        item = data[number]
        assert item["image"].shape == (7, 3, SIZE, SIZE)
        assert item["label"].shape == item["weight"].shape == (7, SIZE // 2, SIZE // 2, len(NAMES))
        assert ((item["image"] >= 0) & (item["image"] <= 1)).all()
        assert ((item["label"] >= 0) & (item["label"] <= 1)).all()
        assert (item["weight"] >= 0).all()
        assert int(item["step"]) == number // 2
        lesion = item["label"][..., 0].float()
        assert lesion[:3].flatten(1).amax(1).min() > 0.9, "each has its tumour"
        assert not item["label"][5:].any(), "nothing is left"
        # Every concept is part of "lesion", where it is known.
        assert (item["label"].float().amax(-1) <= lesion + 1e-3).all()
    assert batches(bank, names=["lesion"])[0]["label"].shape[-1] == 1


def test_a_step_has_the_same_batch_again(bank: NormalBank) -> None:
    first, again = batches(bank), batches(bank)
    _ = again[3]
    for index in ((1, 2), 5):
        one, other = first[index], again[index]
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert torch.equal(first[1, 2]["image"], batches(bank, steps=20)[0, 10]["image"]), "epochs follow each other"
    images = [first[index]["image"] for index in ((0, 0), (0, 1), (0, 2), (1, 0))]
    assert len({float(image.sum()) for image in images}) == 4
    assert not torch.equal(images[0], batches(bank, seed=2)[0]["image"])
    with pytest.raises(IndexError):
        first[8]


def test_processes_share_the_parts_of_a_step(bank: NormalBank) -> None:
    data = batches(bank)

    def loaded(rank: int, count: int, skip: int = 0) -> list[dict[str, torch.Tensor]]:
        sampler = ResumableSampler(data, shuffle=False, num_replicas=count, rank=rank)
        sampler.skip = skip
        return list(DataLoader(data, sampler=sampler, batch_size=None))

    one, first, second = loaded(0, 1), loaded(0, 2), loaded(1, 2)
    assert len(first) == len(second) == 4
    for step in range(4):
        for whole, part in zip(one[2 * step : 2 * step + 2], (first[step], second[step]), strict=True):
            assert int(whole["step"]) == int(part["step"]) == step
            assert torch.equal(whole["image"], part["image"])
    assert torch.equal(loaded(1, 2, skip=3)[0]["image"], second[3]["image"])
    assert [accumulated_parts(2, world) for world in (1, 2)] == [2, 1]
    with pytest.raises(ConfigurationError, match="parts=2"):
        accumulated_parts(2, 3)


@pytest.mark.parametrize("marked", ["held_out", "meningioma", "glioma", "pituitary"])
def test_what_is_held_or_left_out_is_never_seen(marked: str, bank: NormalBank) -> None:
    levels = {marked: 255}
    leave_out = None if marked == "held_out" else marked
    if leave_out != "glioma":
        levels.setdefault("glioma", 200)

    def brightest(**options: Any) -> float:
        data = batches(bank, levels, **options)
        return float(data.known_slices(120).flatten(1).quantile(0.5, dim=1).max())

    assert brightest(leave_out=leave_out) < 0.9
    if leave_out is not None:
        assert brightest() > 0.98, "it would be seen"
    data = batches(bank, levels, leave_out=leave_out)
    found = calibration_slices(data, [], leave_out=leave_out, known=4)  # type: ignore[arg-type]
    images, blocks = found["tumours"]
    if leave_out is None:
        assert set(blocks) == {4}
        assert (images == 255).all()
    else:
        assert not (images == 255).all((1, 2)).any()
        assert not (found["normal"] == 1).flatten(1).all(1).any()


def test_leaving_out_ms_or_schwannoma_leaves_the_tumours(bank: NormalBank) -> None:
    whole = batches(bank)[0]["image"]
    for leave_out in ("ms", "schwannoma"):
        assert torch.equal(batches(bank, leave_out=leave_out)[0]["image"], whole)
    with pytest.raises(ConfigurationError, match="stroke"):
        batches(bank, leave_out="stroke")


def test_volumes_are_shown_but_without_glioma(bank: NormalBank) -> None:
    def medians(**options: Any) -> np.ndarray:
        tumours, volumes = tumour_slices(glioma=100, meningioma=100, pituitary=100), tumour_slices(6)
        volumes.images[:] = 255
        volumes.kinds[:] = "glioma"
        data = TrainingBatches(bank, tumours, volumes, steps=4, counts=(2, 0, 0), **options)
        return data.known_slices(60).flatten(1).quantile(0.5, dim=1).numpy()

    assert (medians() > 0.9).any()
    assert (medians(leave_out="glioma") < 0.6).all()


def test_normal_scans_alone(bank: NormalBank) -> None:
    data = TrainingBatches(bank, steps=3, parts=1, counts=(0, 4, 0))
    labels = torch.stack([item["label"] for item in (data[n] for n in range(3))])
    assert labels.shape == (3, 4, SIZE // 2, SIZE // 2, len(NAMES))
    assert labels[..., 0].any()
    for counts, name in (((1, 1, 0), "tumours"), ((0, 1, 1), "filled")):
        with pytest.raises(ConfigurationError, match=name):
            TrainingBatches(bank, steps=1, counts=counts)
    with pytest.raises(ConfigurationError, match="fracture"):
        TrainingBatches(bank, steps=1, counts=(0, 1, 0), names=["fracture"])


def test_doubtful_voxels_and_background_count_less(bank: NormalBank, monkeypatch: pytest.MonkeyPatch) -> None:
    data = TrainingBatches(bank, steps=20, parts=1, counts=(0, 4, 0))
    plain = torch.stack([data[n]["weight"] for n in range(20)])
    assert plain.min() == pytest.approx(0.2, abs=0.01), "background"
    masks = np.array(bank.masks)
    monkeypatch.setattr(bank, "masks", np.where(masks & 1, masks | 4, masks).astype(np.uint8))
    items = [data[n] for n in range(20)]
    assert (torch.stack([item["weight"] for item in items]) == 0).float().mean() > 0.1
    assert not any(item["label"].any() for item in items), "no lesion has its centre there"


def test_slices_for_the_calibration(bank: NormalBank) -> None:
    data = batches(bank)
    image = torch.rand(3, SIZE, SIZE)
    validation: Any = [{"image": image, "label": label} for label in (torch.zeros(1, 4, 4), torch.ones(1, 4, 4))]
    found = calibration_slices(data, validation, known=9)
    assert found["tumours"][0].shape == (2, SIZE, SIZE)
    assert found["normal"].shape == (3, 3, SIZE, SIZE), "two that were filled, one of the validation"
    assert torch.equal(found["normal"][2], image)
    assert found["known"].shape == (9, 3, SIZE, SIZE)
    assert torch.equal(found["known"], data.known_slices(9))


def test_outlined_lesions_are_learned_beside_painted_ones(bank: NormalBank, tmp_path: Path) -> None:
    outlined = outlined_bank(tmp_path)
    data = TrainingBatches(bank, outlined=outlined, steps=12, parts=1, counts=(0, 0, 0, 4), alike=1)
    names = {name: number for number, name in enumerate(NAMES)}
    seen = 0
    for item in (data[number] for number in range(12)):
        label, weight, image = (item[key].float() for key in ("label", "weight", "image"))
        bright = torch.nn.functional.avg_pool2d(image[:, 1], 2)
        for one, known, pixels in zip(label, weight, bright, strict=True):
            real = (one[..., names["hyperintense"]] > 0.99) & (one[..., names["small"]] + one[..., names["large"]] == 0)
            unknown = known[..., names["small"]] == 0
            # The outlined ball counts as bright, and it is unknown whether it is small or large.
            if (where := real & unknown & (known[..., names["lesion"]] > 1.5)).sum() > 4:
                seen += 1
                assert pixels[where].mean() > pixels[known[..., names["lesion"]] > 0].mean()
                assert not one[where][:, names["hypointense"]].any()
    assert seen > 12
    with pytest.raises(ConfigurationError, match="outlined lesions"):
        TrainingBatches(bank, steps=1, counts=(0, 1, 0, 1))
    with pytest.raises(ConfigurationError, match="up to 4 numbers"):
        TrainingBatches(bank, steps=1, counts=(0, 1, 0, 0, 1))
