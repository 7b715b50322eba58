"""Slices for validation: their lesions come from another generator than those of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.utils.data import Dataset

from monai_zsad.errors import ConfigurationError
from monai_zsad.synthesis.anatomy import Anatomy
from monai_zsad.synthesis.slabs import SlabSettings, cut_slab, extract_slab

__all__ = ["ValidationSlices", "add_balls"]

_RADIUS_MM = (1.5, 9.0)


class ValidationSlices(Dataset):
    """Slices with smooth clusters of balls, brighter or darker than the tissue, in the scans' own contrasts.

    They serve to choose the best epoch: a network that has only learned the artefacts of one generator fails on the
    lesions of another generator. The items are the same every time: ``image`` (3, S, S), ``label`` (1, S, S), float32.
    Every third slice has no lesion. A slice in which a lesion has no place has none, either.

    Args:
        volumes: items with ``anatomy`` that are not used for training, and optionally ``extracted``: the fraction of
            slices (0) in which only the places for lesions are kept, as in a head whose brain was extracted.
        length: number of slices.
        image_size: S in pixels.
        seed: seed of all random draws.
        slabs: settings of the slabs.

    Raises:
        ConfigurationError: if there are no volumes.

    >>> from monai_zsad.synthesis import PrepareAnatomy
    >>> volume = {"anatomy": PrepareAnatomy(depth_mm=2)(torch.ones(1, 24, 24, 12))}
    >>> slices = ValidationSlices([volume], 2, image_size=32)
    >>> bool(slices[0]["label"].any()), bool(slices[1]["label"].any())
    (False, True)
    """

    def __init__(
        self,
        volumes: Sequence[Mapping[str, Any]],
        length: int,
        *,
        image_size: int,
        seed: int = 1,
        slabs: SlabSettings | None = None,
    ) -> None:
        settings = replace(
            slabs or SlabSettings(planes=(("axial", 1.0),), field_mm=(1.05, 1.15), tilt_degrees=0, turn_degrees=5),
            size=image_size,
        )
        if not volumes:
            raise ConfigurationError("volumes is empty: give at least one volume with its anatomy")
        self.items = []
        for number in range(length):
            rng = np.random.default_rng([seed, number])
            volume = volumes[number % len(volumes)]
            anatomy: Anatomy = volume["anatomy"]
            slab = cut_slab(anatomy.volume, 3, anatomy.spacing, rng, settings)
            if rng.uniform() < volume.get("extracted", 0):
                slab = extract_slab(slab, rng)
            image = slab.images[0]
            label = np.zeros(image.shape[:2], dtype=bool)
            if number % 3 and slab.masks[1][..., 1].any():
                image, label = add_balls(image, slab.masks, slab.spacing, rng)
            pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))
            self.items.append({"image": pixels, "label": torch.from_numpy(label[None].astype(np.float32))})

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """A slice and its mask."""
        return dict(self.items[index])


def add_balls(
    image: np.ndarray, masks: np.ndarray, spacing: tuple[float, float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A slab with clusters of balls, and their mask on the middle slice.

    Args:
        image: (rows, columns, slices) in [0, 1].
        masks: masks of a slab: the body, the places for lesions, doubtful voxels.
        spacing: mm along each axis.
        rng: random generator.
    """
    body, places, doubtful = masks
    steps = np.array(spacing)
    grid = np.indices(image.shape, dtype=np.float32)
    candidates = np.argwhere(places[..., 1] & ~doubtful[..., 1])
    share = np.zeros(image.shape, dtype=np.float32)
    changed = image.copy()
    if not len(candidates):
        return changed, share[..., 1] > 0.5
    for _ in range(int(rng.integers(1, 4))):
        center = np.append(candidates[rng.integers(len(candidates))], 1) * steps
        one = np.zeros_like(share)
        radius = float(np.exp(rng.uniform(*np.log(_RADIUS_MM))))
        for _ in range(3):
            shifted = center + rng.normal(0, 0.5 * radius, 3)
            distance = sum(((grid[a] * steps[a]) - shifted[a]) ** 2 for a in range(3))
            one = np.maximum(one, (distance < (0.7 * radius) ** 2).astype(np.float32))
        one = gaussian_filter(one, [0.8 / steps[0], 0.8 / steps[1], 0]) * body
        near = body & (one > 0.05)
        if not near.any():
            continue
        delta = rng.choice([-1, 1]) * rng.uniform(0.12, 0.35)
        # The fine texture of the scan is kept, because a network could find a smooth ball by its smoothness.
        tissue = gaussian_filter(changed, [1.0 / steps[0], 1.0 / steps[1], 0])
        changed = changed + one * (np.median(image[near]) + delta - tissue)
        share = np.maximum(share, one)
    return changed.clip(0, 1).astype(np.float32), share[..., 1] > 0.5
