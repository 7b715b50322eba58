"""Slices with synthetic lesions, drawn anew for every index: what a small network is trained on."""

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
_AIR = 0.03  # what is darker is no tissue
_CLEAN = 0.9  # of the scans of a brain alone, which come out of other programs with nothing around


class LesionSlices(Dataset):
    """Windows of slices with synthetic lesions, and where each concept is.

    MONAI's ``GridPatchDataset`` and ``PatchWSIDataset`` cut patches out of images that are given; here image and label
    are made for the item, and windows are places in a slice that stays whole.

    Item ``i`` of epoch ``e`` depends on ``seed``, ``e`` and ``i`` alone, so training can be resumed anywhere and runs
    the same with any number of workers. Over the first ``easy_items`` items lesions begin large and clear, contrasts
    near the scan's own, and both widen to what the settings say.

    An item is a dictionary: ``image`` (3, S, S), a slice in [0, 1] with its neighbours beside it; ``tokens`` (w, T),
    the patches of each window; ``label`` (w, T, k k, concepts) and ``weight`` (w, T, k k, 1), 0 where a voxel may be a
    lesion that nobody labelled and, with ``small_weight``, more than 1 in a small lesion, which has few voxels. Two
    items in a row share the slab that is cut, not what is painted. One window as large as the slice is the slice.

    Args:
        volumes: items with ``anatomy``, and perhaps ``frequency`` (1 by default), ``planes`` as in
            :class:`~monai_zsad.synthesis.slabs.SlabSettings`, and ``extracted``, the fraction of slabs (0 by default)
            of which only the places for lesions are left, as of a head whose brain was extracted; ``bare: true``
            says that nothing surrounds the body already, so that there is no noise around it either.
        length: items in an epoch.
        image_size: S in pixels.
        patch_size: side of a patch in pixels.
        subpatches: k of the k x k parts of a patch.
        windows: w, windows of each slice.
        window: side of a window in patches; T is its square.
        names: concepts; default: all.
        seed: of everything drawn.
        easy_items: see above.
        max_lesions: of a slice.
        empty: fraction of slices without a lesion.
        small_weight: largest weight of a voxel; 3 is that of lesions of a ninth of 50 square mm or less.
        background_weight: factor for the weights of patches that are dark all over. Whole slices hold many of them.
        varied: fraction of slices in which one tissue is brighter here than there (:func:`vary_tissue`).
        flair: fraction of slices of several sequences that look like FLAIR, beside those that do so anyway
            (:func:`random_contrast`).
        lesions: what they look like.
        slabs: how slices are cut.

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
                "side must hold whole multiples of the next, and a window must fit into the slice"
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
        """Draw the item of ``index``, or of ``(epoch, index)`` as of a :class:`ResumableSampler`, epochs from 0."""
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
        # Lesions that only a neighbour shows teach that the neighbours' brightness is not the slice's.
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
        """The slab of this number, and whether nothing surrounds it; the last one is kept, as cutting takes long."""
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
        """Weight of each pixel of a slice: 1, or more in small lesions."""
        areas = np.bincount(labels.ravel()) * spacing[0] * spacing[1]
        weights = np.sqrt(_SMALL_MM2 / np.maximum(areas, 1e-3)).clip(1, max(1.0, self.small_weight))
        weights[0] = 1
        return weights[labels].astype(np.float32)

    def _settings(self, eased: float) -> LesionSettings:
        """Clear and large at first, as set in the end."""

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
        """Windows around lesions or anything else of the body, (w, T)."""
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
