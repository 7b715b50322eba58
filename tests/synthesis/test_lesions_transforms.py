"""The lesion transforms: shapes and types, one generator, geometry from the affine, several keys."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose, RandFlipd

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.synthesis import LesionedScan, LesionSettings, RandLesion, RandLesionD, RandLesiond, RandLesionDict

FOCAL = LesionSettings(kinds={"focal": 1}, radius_mm=(5, 6), mass_effect=0)


def plain(image: Any) -> np.ndarray:
    return torch.as_tensor(image).clone().numpy()


def scan(*shape: int, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> MetaTensor:
    """A body of about 100 with some texture in air of 0."""
    image = torch.zeros(shape)
    inside = (slice(None), *[slice(n // 8, n - n // 8) for n in shape[1:]])
    values = torch.rand(image[inside].shape, generator=torch.Generator().manual_seed(0))
    image[inside] = 90 + 20 * values
    return MetaTensor(image, affine=np.diag([*spacing, 1.0]), meta={"filename_or_obj": "scan.nii"})


@pytest.mark.parametrize("shape", [(1, 40, 48), (3, 40, 48), (1, 32, 36, 20), (2, 32, 36, 20)])
@pytest.mark.parametrize("kind", ["meta", "tensor", "numpy"])
def test_any_volume_or_slice(shape: tuple[int, ...], kind: str) -> None:
    image: Any = scan(*shape)
    if kind != "meta":
        image = image.as_tensor() if kind == "tensor" else image.numpy().astype(np.int16)
    before = plain(image)
    found = RandLesion(prob=1.0, count=(2, 2)).set_random_state(seed=3)(image)
    assert type(found.image) is type(found.label) is type(image)
    assert tuple(found.image.shape) == shape
    assert tuple(found.label.shape) == (1, *shape[1:])
    assert plain(found.label).dtype == np.uint8
    assert plain(found.image).dtype == np.float32
    assert set(np.unique(plain(found.label))) == {0, 1}
    assert 1 <= len(found.lesions) <= 2
    np.testing.assert_array_equal(plain(image), before)
    changed = plain(found.image) != before
    assert changed.any(axis=tuple(range(1, len(shape)))).all(), "every channel has the lesions"
    assert (plain(found.label)[0][changed.any(0)] == 1).any()
    assert not changed[before == 0].any()
    if isinstance(found.image, MetaTensor):
        assert found.image.meta["filename_or_obj"] == "scan.nii"
        assert torch.equal(found.image.affine, image.affine)


def test_seeds_and_probability() -> None:
    image = scan(1, 48, 48)
    paint = RandLesion(prob=1.0)
    first = paint.set_random_state(seed=1)(image)
    second = paint(image)
    again = paint.set_random_state(seed=1)(image)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.label, again.label)
    assert first.lesions == again.lesions != second.lesions
    assert torch.equal(paint(image, randomize=False).image, again.image)
    never = RandLesion(prob=0.0)(image)
    assert torch.equal(never.image, image)
    assert not never.label.any()
    assert (never.lesions, never.caption) == ((), "")
    counts = {len(RandLesion(1.0, (2, 4), FOCAL).set_random_state(seed=n)(image).lesions) for n in range(12)}
    assert counts == {2, 3, 4}


def test_the_affine_gives_the_size_in_voxels() -> None:
    extent: list[tuple[float, float]] = []
    for seed in range(4):
        volume = scan(1, 64, 64, 32, spacing=(1.0, 1.0, 4.0))
        mask = torch.zeros(1, 64, 64, 32)
        mask[:, 32, 32, 16] = 1
        found = RandLesion(1.0, (1, 1), FOCAL, (1, 1, 1)).set_random_state(seed=seed)(volume)
        thick = RandLesion(1.0, (1, 1), FOCAL).set_random_state(seed=seed)(volume)
        extent.append((float(found.label.sum()), 4 * float(thick.label.sum())))
    given, from_affine = np.mean(extent, axis=0)
    # Both are mm^3; with slices 4 mm apart a lesion covers a fourth of the voxels.
    assert from_affine == pytest.approx(given, rel=0.35)


def test_foreground_and_masks() -> None:
    ct = torch.full((1, 40, 40), -1000.0)
    ct[:, 10:30, 10:30] = 40
    ct[:, 18:22, 18:22] = 90
    np.testing.assert_array_equal(RandLesion.foreground(ct), (ct > 0).numpy())
    found = RandLesion(1.0, (3, 3)).set_random_state(seed=0)(ct)
    assert not found.label[ct < 0].any()
    assert torch.equal(found.image[ct < 0], ct[ct < 0])
    mask = torch.zeros(1, 40, 40)
    mask[:, 12:20, 12:20] = 1
    masked = RandLesion(1.0, (3, 3)).set_random_state(seed=0)(ct, mask)
    assert masked.label.any()
    assert not masked.label[mask == 0].any()
    assert RandLesion.foreground(torch.ones(1, 4, 4)).all()


def test_dictionary() -> None:
    t1, t2 = scan(1, 40, 40, 16), 2 * scan(1, 40, 40, 16)
    paint = RandLesiond(["t1", "t2"], prob=1.0, count=(3, 3), lesions_key="lesions").set_random_state(seed=5)
    data: dict[Hashable, Any] = {"t1": t1, "t2": t2, "case": "a"}
    found = paint(data)
    assert set(found) == {"t1", "t2", "case", "label", "caption", "lesions"}
    assert set(data) == {"t1", "t2", "case"}
    assert found["caption"] == LesionedScan(t1, t1, found["lesions"]).caption != ""
    assert all(lesion.caption in found["caption"] for lesion in found["lesions"])
    assert isinstance(found["label"], MetaTensor)
    assert found["label"].dtype == torch.uint8
    # The same lesions in both, each in its own intensities.
    torch.testing.assert_close(torch.as_tensor(found["t2"]), 2 * torch.as_tensor(found["t1"]), rtol=1e-4, atol=1e-2)
    again = RandLesionDict(["t1", "t2"], prob=1.0, count=(3, 3)).set_random_state(seed=5)(data)
    assert RandLesionD is RandLesiond
    assert torch.equal(again["label"], found["label"])
    assert torch.equal(again["t2"], found["t2"])
    assert not RandLesiond("t1", prob=0.0)(data)["label"].any()


def test_a_label_that_is_there_is_kept() -> None:
    known = torch.zeros(1, 40, 40)
    known[:, 1:3, 1:3] = 4
    data: dict[Hashable, Any] = {"image": scan(1, 40, 40), "label": known}
    found = RandLesiond("image", prob=1.0, caption_key=None).set_random_state(seed=0)(data)
    assert set(found) == {"image", "label"}
    assert found["label"][:, 1:3, 1:3].eq(1).all()
    assert found["label"].sum() > 4
    assert known.max() == 4


def test_in_a_pipeline() -> None:
    pipeline = Compose([RandLesiond("image", prob=1.0), RandFlipd(["image", "label"], prob=1.0, spatial_axis=0)])
    items = []
    for _ in range(2):
        pipeline.set_random_state(seed=9)
        items.append(pipeline({"image": scan(1, 32, 32)}))
    assert torch.equal(items[0]["image"], items[1]["image"])
    batch = list_data_collate(items)
    assert batch["label"].shape == (2, 1, 32, 32)
    assert batch["caption"] == [items[0]["caption"]] * 2


def test_what_cannot_be_used() -> None:
    for count in ((0, 2), (3, 2), (1, 256)):
        with pytest.raises(ConfigurationError, match="count"):
            RandLesion(count=count)
    with pytest.raises(ConfigurationError, match="label_key"):
        RandLesiond("image", label_key="image")
    with pytest.raises(ConfigurationError, match="mask_key='brain' is not among image"):
        RandLesiond("image", mask_key="brain")({"image": torch.ones(1, 8, 8)})
    with pytest.raises(InputError, match=r"shape \(8, 8\)"):
        RandLesion(1.0)(torch.ones(8, 8))
    with pytest.raises(InputError, match="replace them"):
        RandLesion(1.0)(torch.full((1, 8, 8), torch.nan))
    with pytest.raises(ConfigurationError, match="must have the shape"):
        RandLesion(1.0)(torch.ones(1, 8, 8), torch.ones(1, 9, 9))
    with pytest.raises(KeyError):
        RandLesiond("other", prob=1.0)({"image": torch.ones(1, 8, 8)})
    assert set(RandLesiond("other", allow_missing_keys=True)({"a": 1})) == {"a", "caption"}
