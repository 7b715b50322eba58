"""Slices with synthetic lesions for training a small network; every index has its own lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from monai_zsad.errors import ConfigurationError
from monai_zsad.prompts import concepts
from monai_zsad.synthesis.anatomy import Anatomy
from monai_zsad.synthesis.contrast import degrade, random_contrast, vary_tissue
from monai_zsad.synthesis.lesions import ATTRIBUTES, LesionSettings, paint_lesions
from monai_zsad.synthesis.slabs import Slab, SlabSettings, cut_slab, extract_slab

__all__ = ["LesionSlices"]

_SMALL_MM2 = 50.0
# Darker pixels are not tissue.
_AIR = 0.03
# Fraction of the extracted brains with an empty background, as brain extraction programs write it.
_CLEAN = 0.9


class LesionSlices(Dataset):
    """Windows of slices with synthetic lesions, and the masks of each concept.

    MONAI's ``GridPatchDataset`` and ``PatchWSIDataset`` were not enough: they cut patches out of given images. Here
    image and label are made for each item, and a window is a selection of the patches of a complete slice.

    Item ``i`` of epoch ``e`` depends only on ``seed``, ``e`` and ``i``. Training can therefore be resumed at any item,
    and gives the same result with any number of workers. The first ``easy_items`` items get gradually harder: lesions
    begin large and clear, and contrasts begin near that of the scan.

    An item is a dictionary: ``image`` (3, S, S), a slice in [0, 1] between its neighbours; ``tokens`` (w, T), the
    patches of each window; ``label`` (w, T, k k, concepts) and ``weight`` (w, T, k k, 1). The weight is 0 where a voxel
    may belong to an unlabelled lesion and, with ``small_weight``, more than 1 in a small lesion, which has few voxels.
    Two consecutive items share the slab, but not the lesions. A window as large as the slice is the complete slice.

    Args:
        volumes: items with ``anatomy``, and optionally ``frequency`` (1 by default), ``planes`` as in
            :class:`~monai_zsad.synthesis.slabs.SlabSettings`, and ``extracted``: the fraction of slabs (0 by default)
            in which only the places for lesions are kept, as in a head whose brain was extracted. ``bare: true`` says
            that the background of the volume is empty, so that no noise is added to it.
        length: items in an epoch.
        image_size: S in pixels.
        patch_size: side of a patch in pixels.
        subpatches: k of the k x k parts of a patch.
        windows: w, windows of each slice.
        window: side of a window in patches; T is its square.
        names: concepts; default: all.
        seed: seed of all random draws.
        easy_items: see above.
        max_lesions: largest number of lesions in a slice.
        empty: fraction of slices without a lesion.
        small_weight: largest weight of a voxel. A lesion of A square mm has the weight sqrt(50 / A), within 1 and this.
        background_weight: factor for the weights of completely dark patches. Complete slices have many of them.
        varied: fraction of slices in which the brightness of one tissue varies (:func:`vary_tissue`).
        flair: fraction of slices of several sequences that look like FLAIR, in addition to those of
            :func:`random_contrast` without it.
        lesions: appearance of the lesions.
        slabs: settings of the slabs.

    Raises:
        ConfigurationError: if sizes do not fit, there is no volume, or ``names`` holds an unknown concept.

    >>> from monai_zsad.synthesis import PrepareAnatomy
    >>> volume = {"anatomy": PrepareAnatomy(depth_mm=2)(torch.ones(1, 24, 24, 12))}
    >>> slices = LesionSlices([volume], 4, image_size=32, patch_size=8, subpatches=2, windows=3, window=2)
    >>> {key: tuple(value.shape) for key, value in slices[1, 0].items()}
    {'image': (3, 32, 32), 'tokens': (3, 4), 'label': (3, 4, 4, 14), 'weight': (3, 4, 4, 1)}
    """

    def __init__(
        self,
        volumes: Sequence[Mapping[str, Any]],
        length: int,
        *,
        image_size: int,
        patch_size: int,
        subpatches: int = 1,
        windows: int = 4,
        window: int = 12,
        names: Sequence[str] | None = None,
        seed: int = 0,
        easy_items: int = 4000,
        max_lesions: int = 7,
        empty: float = 0.15,
        small_weight: float = 1.0,
        background_weight: float = 1.0,
        varied: float = 0.5,
        flair: float = 0.0,
        lesions: LesionSettings | None = None,
        slabs: SlabSettings | None = None,
    ) -> None:
        if image_size % patch_size or patch_size % subpatches or window * patch_size > image_size:
            raise ConfigurationError(
                f"image_size={image_size}, patch_size={patch_size}, subpatches={subpatches}, window={window}: each "
                "size must be a multiple of the next one, and a window must fit into the slice"
            )
        self.volumes = list(volumes)
        if not self.volumes:
            raise ConfigurationError("volumes is empty: give at least one volume with its anatomy")
        frequency = np.array([float(volume.get("frequency", 1)) for volume in self.volumes])
        self._chances = frequency / frequency.sum()
        self.length, self.seed = length, seed
        self.side, self.patch, self.subpatches = image_size // patch_size, patch_size, subpatches
        self.windows, self.window = windows, window
        known = concepts()
        if unknown := [name for name in names or () if name not in known]:
            raise ConfigurationError(f"names={unknown}: unknown concepts; choose from {', '.join(known)}")
        self._members = [[ATTRIBUTES.index(a) for a in known[name].attributes] for name in (names or known)]
        self.easy_items, self.max_lesions, self.empty = easy_items, max_lesions, empty
        self.small_weight, self.background_weight = small_weight, background_weight
        self.lesions = lesions or LesionSettings()
        self.slabs = replace(slabs or SlabSettings(), size=image_size)
        self.varied, self.flair = varied, flair
        self._last: tuple[int, Slab, bool] | None = None

    def __len__(self) -> int:
        """Items in an epoch."""
        return self.length

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, torch.Tensor]:
        """The item of ``index``, or of ``(epoch, index)`` from a :class:`ResumableSampler`, with epochs from 0."""
        epoch, item = index if isinstance(index, tuple) else (0, index)
        if not 0 <= item < self.length:
            raise IndexError(index)
        number = epoch * self.length + item
        eased = min(1.0, number / self.easy_items) if self.easy_items else 1.0
        slab, bare = self._slab(number // 2)

        rng = np.random.default_rng([self.seed, 1, number])
        image = random_contrast(slab.images, rng, 0.4 + 0.6 * eased, self.flair)
        body, places, doubtful = slab.masks
        weights = (places & ~doubtful).astype(np.float32)
        # Some lesions are only in a neighbour, so that the network learns to ignore bright spots of neighbours.
        weights[..., [0, 2]] *= 0.15
        count = 0 if rng.uniform() < self.empty else int(rng.integers(1, self.max_lesions + 1))
        tissue = body & (image > _AIR)
        if rng.uniform() < self.varied:
            image = vary_tissue(image, tissue, slab.spacing, rng)
        painted = paint_lesions(image, slab.spacing, tissue, count, rng, self._settings(eased), places=weights)
        scanned = degrade(painted.image, rng, slab.spacing)
        if bare and rng.uniform() < _CLEAN:
            scanned = scanned * body
        if rng.uniform() < 0.1:
            scanned = np.repeat(scanned[..., 1:2], 3, axis=-1)
        pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(scanned, -1, 0)))
        known = torch.from_numpy(painted.attribute_masks()[..., 1].astype(np.float32))
        unsure = torch.from_numpy((doubtful & (painted.labels == 0))[..., 1].astype(np.float32))

        step = self.patch // self.subpatches
        attributes = self._by_token(F.avg_pool2d(known[None], step)[0])
        label = torch.stack([attributes[..., members].amin(-1) for members in self._members], dim=-1)
        importance = torch.from_numpy(self._importance(painted.labels[..., 1], slab.spacing))
        weight, unsure = (self._by_token(F.max_pool2d(part[None, None], step)[0]) for part in (importance, unsure))
        lit = F.max_pool2d(pixels[None, 1:2], self.patch).reshape(-1, 1, 1) > _AIR
        weight = weight * (1 - unsure) * torch.where(lit, 1.0, self.background_weight)
        tokens = self._draw_windows(pixels, label, rng)
        return {"image": pixels, "tokens": tokens, "label": label[tokens], "weight": weight[tokens]}

    def _slab(self, number: int) -> tuple[Slab, bool]:
        """The slab of this number, and whether its background is empty. The last slab is kept: cutting is slow."""
        if self._last is None or self._last[0] != number:
            rng = np.random.default_rng([self.seed, 0, number])
            volume = self.volumes[int(rng.choice(len(self.volumes), p=self._chances))]
            anatomy: Anatomy = volume["anatomy"]
            slabs = replace(self.slabs, planes=tuple(volume["planes"])) if "planes" in volume else self.slabs
            slab = cut_slab(anatomy.volume, 3, anatomy.spacing, rng, slabs)
            extracted = rng.uniform() < volume.get("extracted", 0)
            slab = extract_slab(slab, rng) if extracted else slab
            self._last = number, slab, extracted or bool(volume.get("bare", False))
        return self._last[1:]

    def _importance(self, labels: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        """Weight of each pixel of a slice: 1, and more in small lesions."""
        areas = np.bincount(labels.ravel()) * spacing[0] * spacing[1]
        weights = np.sqrt(_SMALL_MM2 / np.maximum(areas, 1e-3)).clip(1, max(1.0, self.small_weight))
        weights[0] = 1
        return weights[labels].astype(np.float32)

    def _settings(self, eased: float) -> LesionSettings:
        """Settings of the lesions, from easy (``eased`` 0) to those of the user (1)."""

        def blend(easy: float, wanted: float) -> float:
            return easy + (wanted - easy) * eased

        low, high = self.lesions.contrast
        small, large = self.lesions.radius_mm
        contrast = (blend(max(low, 0.5 * high), low), high)
        return replace(self.lesions, contrast=contrast, radius_mm=(blend(max(small, 0.3 * large), small), large))

    def _by_token(self, grid: torch.Tensor) -> torch.Tensor:
        """(C, side k, side k) to (side side, k k, C)."""
        k, side = self.subpatches, self.side
        return grid.unflatten(1, (side, k)).unflatten(3, (side, k)).permute(1, 3, 2, 4, 0).flatten(2, 3).flatten(0, 1)

    def _draw_windows(self, pixels: torch.Tensor, label: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Windows around lesions or other parts of the body, (w, T)."""
        side, window = self.side, self.window
        lesion = np.flatnonzero(label[..., 0].amax(-1).numpy() > 0.3)
        body = np.flatnonzero((F.max_pool2d(pixels[None, :1], self.patch)[0, 0].flatten() > 0.08).numpy())
        found = []
        for _ in range(self.windows):
            around = lesion if len(lesion) and rng.uniform() < 0.65 else body if len(body) else np.arange(side * side)
            row, column = divmod(int(rng.choice(around)), side)
            top, left = (int(np.clip(n - rng.integers(0, window), 0, side - window)) for n in (row, column))
            rows = torch.arange(top, top + window).reshape(-1, 1)
            found.append((rows * side + torch.arange(left, left + window)).flatten())
        return torch.stack(found)
