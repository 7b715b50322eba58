"""Validation slices: always the same, and labels where balls are."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from monai_zsad.synthesis import PrepareAnatomy, ValidationSlices
from monai_zsad.synthesis.validation_slices import add_balls


def even() -> dict[str, object]:
    image = torch.zeros(1, 40, 40, 24)
    image[:, 4:36, 4:36] = 0.5
    return {"anatomy": PrepareAnatomy(depth_mm=9)(MetaTensor(image, affine=np.diag([4.0, 4.0, 4.0, 1.0])))}


def test_the_same_every_time() -> None:
    volumes = [even()]
    first, again = (ValidationSlices(volumes, 7, image_size=64) for _ in range(2))
    assert len(first) == 7
    for one, other in ((first[number], again[number]) for number in range(7)):
        assert one.keys() == other.keys() == {"image", "label"}
        assert all(torch.equal(one[key], other[key]) for key in one)
    other_seed = ValidationSlices(volumes, 2, image_size=64, seed=2)
    assert not torch.equal(other_seed[1]["image"], first[1]["image"])
    item = first[1]
    item["image"] = item["image"] * 0
    assert first[1]["image"].any()


def test_balls_are_where_the_label_is() -> None:
    data = ValidationSlices([even()], 12, image_size=96)
    signs: set[float] = set()
    shown = 0
    for number in range(12):
        item = data[number]
        image, label = item["image"].numpy(), item["label"].numpy()[0] > 0
        assert image.shape == (3, 96, 96)
        assert item["label"].dtype == item["image"].dtype == torch.float32
        assert 0 <= image.min() <= image.max() <= 1
        if not label.any():
            continue
        assert number % 3, "every third slice has no lesion"
        shown += 1
        assert np.abs(image[1][label] - 0.5).min() > 0.04
        signs |= set(np.sign(image[1][label] - 0.5).tolist())
        # The body's surface is blurred by interpolation; it may lie just beyond the picture.
        air = np.pad(image[1] < 0.02, 1, constant_values=True)
        far = ~binary_dilation(label, iterations=8) & ~binary_dilation(air, iterations=6)[1:-1, 1:-1]
        assert far.sum() > 1000
        np.testing.assert_allclose(image[1][far], 0.5, atol=0.02)
    assert signs == {-1.0, 1.0}
    assert shown >= 5


def test_balls_keep_the_grain_of_the_scan() -> None:
    noise = np.random.default_rng(0).normal(0, 0.03, (48, 48, 3)).astype(np.float32)
    image = np.clip(0.5 + noise, 0, 1)
    masks = np.stack([np.ones(image.shape), np.zeros(image.shape), np.zeros(image.shape)]).astype(bool)
    masks[1, 20:28, 20:28, 1] = True
    changed, label = add_balls(image, masks, (1.0, 1.0, 3.0), np.random.default_rng(3))
    inside = binary_erosion(label, iterations=2)
    assert inside.sum() > 20
    fine = [part - gaussian_filter(part, 1.0) for part in (changed[..., 1], image[..., 1])]
    assert 0.8 < fine[0][inside].std() / fine[1][inside].std() < 1.2


def test_doubtful_places_get_none() -> None:
    volume = even()
    anatomy = volume["anatomy"]
    covered = anatomy.volume.clone()  # type: ignore[attr-defined]
    covered[3] = 1
    doubtful = {"anatomy": anatomy._replace(volume=covered)}  # type: ignore[attr-defined]
    assert not any(
        item["label"].any() for item in map(ValidationSlices([doubtful], 3, image_size=32).__getitem__, range(3))
    )
