"""Volumes of real or synthetic anatomy, prepared for painting lesions."""

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
    """A volume into which lesions can be painted.

    Attributes:
        volume: (C + 3, P, L, S), float32: C registered images in [0, 1], then three masks of 0 and 1: the body, the
            places for the centres of lesions, and doubtful voxels, which may already belong to a lesion. A fourth mask
            has outlined lesions.
        spacing: mm along each axis.
        masks: 3, or 4 with outlined lesions.
    """

    volume: torch.Tensor
    spacing: tuple[float, float, float]
    masks: int = 3


class PrepareAnatomy(Transform):
    """Find the body, the places for lesions and doubtful voxels of a volume.

    MONAI has no transform for this. A volume is taken as normal, except for known lesions and, with ``bright_limit``,
    bright voxels. A voxel is bright if it exceeds the median of the places by this number of robust standard
    deviations, as unlabelled lesions on FLAIR do. Doubtful voxels count neither as normal nor as abnormal.

    Args:
        depth_mm: smallest distance between the centre of a lesion and the surface of the body; 14 excludes scalp and
            skull.
        bright_limit: see above; ``None`` for images in which bright voxels are normal.
        threshold: value of the first image above which a voxel belongs to the body.

    >>> anatomy = PrepareAnatomy(depth_mm=2)(MetaTensor(torch.ones(1, 12, 12, 6)))
    >>> anatomy.volume.shape, float(anatomy.volume[2].mean()) < 1
    (torch.Size([4, 12, 12, 6]), True)
    """

    def __init__(self, depth_mm: float = 4.0, bright_limit: float | None = None, threshold: float = 0.08) -> None:
        self.depth_mm = depth_mm
        self.bright_limit = bright_limit
        self.threshold = threshold

    def __call__(
        self, images: torch.Tensor, lesions: torch.Tensor | None = None, outlines: torch.Tensor | None = None
    ) -> Anatomy:
        """Prepare a volume.

        Args:
            images: (C, P, L, S) in [0, 1], axes towards posterior, left, superior; a MetaTensor has its spacing.
            lesions: (1, P, L, S), above 0 where there is a known lesion, which is doubtful; a margin of 2 voxels is
                added.
            outlines: (1, P, L, S), 1 where there is a lesion to learn, 2 where voxels are doubtful.

        Raises:
            InputError: if there is no body.
        """
        spacing = images.pixdim.tolist() if isinstance(images, MetaTensor) else [1.0] * 3
        array = np.asarray(images, dtype=np.float32)
        body = _body(array[0] > self.threshold)
        if not body.any():
            raise InputError("no body was found in the volume: scale its intensities to [0, 1]")
        # With a border of background, the faces of the volume count as surface, too.
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
        masks = [body, places, doubtful]
        if outlines is not None:
            labels = np.asarray(outlines)[0].round()
            masks = [body, places, doubtful | (labels == 2), labels == 1]
        volume = torch.from_numpy(np.concatenate([array, np.stack(masks).astype(np.float32)]))
        return Anatomy(volume, (float(spacing[0]), float(spacing[1]), float(spacing[2])), len(masks))


class PrepareAnatomyd(MapTransform):
    """Dictionary form of :class:`PrepareAnatomy`: joins registered images, and writes ``anatomy``.

    Args:
        keys: keys of registered images, in their order; missing ones are left out.
        lesion_key: key of known lesions; may be missing.
        outline_key: key of outlined lesions; may be missing.
        depth_mm: see :class:`PrepareAnatomy`; an entry ``depth_mm`` of the item has priority.
        bright_limit: see :class:`PrepareAnatomy`; an entry ``bright_limit`` of the item has priority.
    """

    def __init__(
        self,
        keys: KeysCollection,
        lesion_key: str = "lesions",
        depth_mm: float = 4.0,
        bright_limit: float | None = None,
        outline_key: str = "outlines",
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.lesion_key = lesion_key
        self.outline_key = outline_key
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
        others = (self.lesion_key, self.outline_key)
        anatomy = prepare(joined, *(data.get(key) for key in others))
        return {key: value for key, value in data.items() if key not in (*self.keys, *others)} | {"anatomy": anatomy}


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
    """Prepared volumes of scans and of phantoms.

    Args:
        records: one per scan: files by key, relative to ``folder``, and settings such as ``depth_mm`` or ``frequency``.
        folder: folder of the files.
        preparation: transforms that end with :class:`PrepareAnatomyd`.
        heads: number of head phantoms without lesions, each with a random contrast.
        abdomens: number of abdomen phantoms, in the same way.
        phantom_frequency: ``frequency`` of each phantom.
        seed: seed of the first phantom; the others count up from it.

    Returns:
        The records, with ``anatomy`` in place of the files; ``phantom`` is true for phantoms. Volumes with thick slices
        are cut in axial planes only.

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
                f"{missing[0]} is missing: get the data that the docs of the bundle list for this training"
            )
        found.append(preparation(dict(record) | {key: str(path) for key, path in files.items()}))
    prepare = PrepareAnatomy(depth_mm=6)
    phantoms = [phantom_head(*_HEAD_GRID, seed=seed + n, lesion=False, contrast="random") for n in range(heads)]
    phantoms += [
        phantom_abdomen(*_ABDOMEN_GRID, seed=seed + n, lesion=None, contrast="random") for n in range(abdomens)
    ]
    for phantom in phantoms:
        # The axes of a phantom point to right, anterior, superior.
        image = torch.from_numpy(np.ascontiguousarray(phantom.image[::-1, ::-1].transpose(1, 0, 2)))
        low, high = np.percentile(phantom.image, (0.5, 99.5))
        scaled = ((image - low) / (high - low)).clamp(0, 1).unsqueeze(0)
        right, anterior, superior = np.diag(phantom.affine)[:3]
        spacing = np.diag([anterior, right, superior, 1.0])
        anatomy = prepare(MetaTensor(scaled, affine=spacing))
        found.append({"anatomy": anatomy, "frequency": phantom_frequency, "phantom": True})
    for item in found:
        if max(item["anatomy"].spacing) > 2 * min(item["anatomy"].spacing):
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
