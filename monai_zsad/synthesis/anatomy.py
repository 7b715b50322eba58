"""Volumes of real or synthetic anatomy, prepared for painting lesions into them."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from scipy import ndimage

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.synthesis.phantoms import phantom_abdomen, phantom_head

__all__ = ["anatomies", "Anatomy", "PrepareAnatomy", "PrepareAnatomyD", "PrepareAnatomyDict", "PrepareAnatomyd"]


_HEAD_GRID = ((170, 200, 56), (1.1, 1.1, 3.0))
_ABDOMEN_GRID = ((220, 170, 56), (1.7, 1.7, 4.0))


class Anatomy(NamedTuple):
    """A volume that lesions can be painted into.

    Attributes:
        volume: (C + 3, P, L, S), float32: C registered images in [0, 1], then masks of 0 and 1: the body, where lesions
            may have their centre, and what may be a lesion already and is neither.
        spacing: mm along each axis.
    """

    volume: torch.Tensor
    spacing: tuple[float, float, float]


class PrepareAnatomy(Transform):
    """Find in a volume the body, places for lesions, and what may be a lesion already.

    MONAI has no transform for this. A volume without labels is taken as normal, but for what is told or looks
    suspicious: with ``bright_limit``, voxels brighter than the median of the places by so many robust standard
    deviations (as unlabelled lesions on FLAIR are) count neither as normal nor as abnormal.

    Args:
        depth_mm: distance of lesions' centres from the body's surface; 14 leaves out scalp and skull.
        bright_limit: see above; ``None`` for images where bright voxels are nothing special.
        threshold: the body is brighter than this on the first image.

    >>> anatomy = PrepareAnatomy(depth_mm=2)(MetaTensor(torch.ones(1, 12, 12, 6)))
    >>> anatomy.volume.shape, float(anatomy.volume[2].mean()) < 1
    (torch.Size([4, 12, 12, 6]), True)
    """

    def __init__(self, depth_mm: float = 4.0, bright_limit: float | None = None, threshold: float = 0.08) -> None:
        self.depth_mm = depth_mm
        self.bright_limit = bright_limit
        self.threshold = threshold

    def __call__(self, images: torch.Tensor, lesions: torch.Tensor | None = None) -> Anatomy:
        """Prepare a volume.

        Args:
            images: (C, P, L, S) in [0, 1], axes towards posterior, left, superior; a MetaTensor tells the spacing.
            lesions: (1, P, L, S), above 0 where there is a known lesion; a margin of 2 voxels is added.

        Raises:
            InputError: if there is no body.
        """
        spacing = images.pixdim.tolist() if isinstance(images, MetaTensor) else [1.0] * 3
        array = np.asarray(images, dtype=np.float32)
        body = _body(array[0] > self.threshold)
        if not body.any():
            raise InputError("the volume holds no body: is its intensity scaled to [0, 1]?")
        # A border of background, so that the volume's faces are surface too.
        padded = np.pad(body, 1)
        depth = ndimage.distance_transform_edt(padded, sampling=spacing)[1:-1, 1:-1, 1:-1]
        places = depth > self.depth_mm
        doubtful = np.zeros_like(body)
        if lesions is not None:
            doubtful |= ndimage.binary_dilation(np.asarray(lesions)[0] > 0, iterations=2)
        if self.bright_limit is not None and places.any():
            median = np.median(array[0][places])
            deviation = 1.4826 * np.median(np.abs(array[0][places] - median))
            bright = ndimage.gaussian_filter(array[0], 0.7) > median + self.bright_limit * deviation
            doubtful |= ndimage.binary_dilation(bright & places)
        masks = np.stack([body, places, doubtful]).astype(np.float32)
        volume = torch.from_numpy(np.concatenate([array, masks]))
        return Anatomy(volume, (float(spacing[0]), float(spacing[1]), float(spacing[2])))


class PrepareAnatomyd(MapTransform):
    """Dictionary form of :class:`PrepareAnatomy`: joins registered images, and writes ``anatomy``.

    Args:
        keys: keys of registered images, in their order; missing ones are left out.
        lesion_key: key of known lesions; may be missing.
        depth_mm: see :class:`PrepareAnatomy`; an entry ``depth_mm`` of the item comes first.
        bright_limit: see :class:`PrepareAnatomy`; an entry ``bright_limit`` of the item comes first.
    """

    def __init__(
        self,
        keys: KeysCollection,
        lesion_key: str = "lesions",
        depth_mm: float = 4.0,
        bright_limit: float | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.lesion_key = lesion_key
        self.depth_mm = depth_mm
        self.bright_limit = bright_limit

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add ``anatomy`` and drop the images."""
        found: Sequence[torch.Tensor] = [data[key] for key in self.key_iterator(dict(data))]
        if not found:
            raise ConfigurationError(f"the item has none of {', '.join(map(str, self.keys))}: give at least one image")
        prepare = PrepareAnatomy(data.get("depth_mm", self.depth_mm), data.get("bright_limit", self.bright_limit))
        joined = torch.cat(list(found))
        if isinstance(found[0], MetaTensor):
            joined = MetaTensor(
                joined.as_tensor() if isinstance(joined, MetaTensor) else joined, affine=found[0].affine
            )
        anatomy = prepare(joined, data.get(self.lesion_key))
        return {key: value for key, value in data.items() if key not in (*self.keys, self.lesion_key)} | {
            "anatomy": anatomy
        }


def anatomies(
    records: Sequence[Mapping[str, Any]],
    folder: str | os.PathLike[str],
    preparation: Callable[[dict[str, Any]], Any],
    *,
    heads: int = 0,
    abdomens: int = 0,
    phantom_frequency: float = 1.0,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Prepared volumes of scans, and of phantoms beside them.

    Args:
        records: of each scan: files by key, relative to ``folder``, and settings such as ``depth_mm`` or ``frequency``.
        folder: where the files are.
        preparation: transforms that end with :class:`PrepareAnatomyd`.
        heads: number of head phantoms without lesions, each of a random contrast.
        abdomens: likewise of the abdomen.
        phantom_frequency: of each phantom, as of a record.
        seed: of the first phantom; the others follow.

    Returns:
        The records with ``anatomy`` in place of the files. Thick slices are cut axially only.

    Raises:
        InputError: if a file is missing.
    """
    found = []
    root = Path(folder).expanduser()
    for record in records:
        files = {
            key: root / str(value) for key, value in record.items() if str(value).endswith((".nii.gz", ".nii", ".nrrd"))
        }
        if missing := [str(path) for path in files.values() if not path.is_file()]:
            raise InputError(
                f"{missing[0]} is missing: the data that this training needs are listed in the bundle's docs"
            )
        found.append(preparation(dict(record) | {key: str(path) for key, path in files.items()}))
    prepare = PrepareAnatomy(depth_mm=6)
    phantoms = [phantom_head(*_HEAD_GRID, seed=seed + n, lesion=False, contrast="random") for n in range(heads)]
    phantoms += [
        phantom_abdomen(*_ABDOMEN_GRID, seed=seed + n, lesion=None, contrast="random") for n in range(abdomens)
    ]
    for phantom in phantoms:
        # From axes towards right, anterior, superior.
        image = torch.from_numpy(np.ascontiguousarray(phantom.image[::-1, ::-1].transpose(1, 0, 2)))
        low, high = np.percentile(phantom.image, (0.5, 99.5))
        scaled = ((image - low) / (high - low)).clamp(0, 1).unsqueeze(0)
        right, anterior, superior = np.diag(phantom.affine)[:3]
        spacing = np.diag([anterior, right, superior, 1.0])
        found.append({"anatomy": prepare(MetaTensor(scaled, affine=spacing)), "frequency": phantom_frequency})
    for item in found:
        anatomy: Anatomy = item["anatomy"]
        if max(anatomy.spacing) > 2 * min(anatomy.spacing):
            item.setdefault("planes", (("axial", 1.0),))
    return found


def _body(foreground: np.ndarray) -> np.ndarray:
    """The largest connected part, holes within slices filled."""
    labels, count = ndimage.label(ndimage.binary_opening(foreground, iterations=2))
    if count == 0:
        return foreground
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    filled = np.stack([ndimage.binary_fill_holes(largest[..., k]) for k in range(largest.shape[-1])], axis=-1)
    return ndimage.binary_closing(filled, iterations=2) | filled


PrepareAnatomyD = PrepareAnatomyDict = PrepareAnatomyd
