"""Slices with real tumours and their masks, what is held out of the training, and labels of the concepts."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import Dataset

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.prompts import Concept

__all__ = ["PATHOLOGIES", "HeldOutSlices", "TumourSlices", "read_tumour_slices", "read_tumour_volumes", "tumour_labels"]

PATHOLOGIES = ("meningioma", "glioma", "pituitary", "ms", "schwannoma")
"""What can be left out of a training. No training scan shows a schwannoma, so leaving it out changes nothing."""

# Beside a mask there is often oedema that is not outlined.
RING = 10
_MARGIN = 10
_LARGE, _SMALL = 900, 250
_CONTRAST = 0.06


@dataclass(frozen=True)
class TumourSlices:
    """Slices with a tumour.

    Attributes:
        images: (N, S, S), uint8, the body in the middle.
        masks: (N, S, S), uint8, 0 to 255.
        kinds: (N,), pathology of each slice.
        groups: (N,), block of numbers or patient. Slices of one group belong together.
        held_out: (N,), bool, slices for validation and calibration.
    """

    images: np.ndarray
    masks: np.ndarray
    kinds: np.ndarray
    groups: np.ndarray
    held_out: np.ndarray

    def chosen(self, *, held_out: bool, leave_out: str | None = None) -> np.ndarray:
        """Numbers of the slices for training, or of those that are held out.

        Args:
            held_out: which of both.
            leave_out: a pathology that neither of them may show.
        """
        return np.flatnonzero((self.held_out == held_out) & (self.kinds != (leave_out or "")))


def check_pathology(leave_out: str | None) -> None:
    """Refuse to leave out a pathology that is unknown.

    Raises:
        ConfigurationError: it is not one of :data:`PATHOLOGIES`.
    """
    if leave_out is not None and leave_out not in PATHOLOGIES:
        raise ConfigurationError(f"leave_out={leave_out!r} is unknown; choose from {', '.join(PATHOLOGIES)}, or null")


def read_tumour_slices(folder: str | os.PathLike[str], size: int, *, every: int = 5, held: int = 4) -> TumourSlices:
    """Read slices from image files: ``image/N.*``, ``mask/N.*`` and ``index.csv`` with number, class and block.

    This is the form of the contrast-enhanced T1 slices of Cheng et al. (figshare 1512427). Its files do not name the
    patients, and neighbouring numbers often belong to one patient. So whole blocks of numbers are held out.

    Args:
        folder: folder of the data.
        size: S, side of the slices in pixels.
        every: of this number of blocks, one is held out.
        held: which one, counted from 0.

    Raises:
        InputError: a file is missing or damaged.

    References:
        Cheng et al., "Enhanced Performance of Brain Tumor Classification via Tumor Region Augmentation and Partition",
        PLoS ONE 2015.
    """
    root = Path(folder).expanduser()
    try:
        with (root / "index.csv").open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        images, masks = ({int(f.stem.split("_")[0]): f for f in (root / d).iterdir()} for d in ("image", "mask"))
        pairs = []
        for row in rows:
            number = int(row["number"])
            image, mask = (np.asarray(Image.open(files[number]).convert("L")) for files in (images, masks))
            pixels = image.astype(np.float32)
            low, high = np.percentile(pixels[image > 12], [0.5, 99.5])
            scaled = ((pixels - min(low, 12)) / (high - min(low, 12))).clip(0, 1).astype(np.float32)
            pairs.append(_squared(scaled, mask > 0, image > 12, size))
        kinds, blocks = np.array([row["class"] for row in rows]), np.array([int(row["block"]) for row in rows])
    except (OSError, LookupError, ValueError) as error:
        raise InputError(
            f"{root}: not a folder of slices with masks ({error}); it needs index.csv (number, class, block), image/ "
            "and mask/ with files that begin with the number"
        ) from error
    return _gathered(pairs, kinds, blocks, blocks % every == held)


def read_tumour_volumes(
    folder: str | os.PathLike[str], size: int, *, held_out: Iterable[int] = (), kind: str = "glioma"
) -> TumourSlices:
    """Read the axial slices with a mask from volumes ``N.nii.gz`` and ``N_mask.nii.gz``, N the number of the patient.

    This is the form of the post-contrast T1 volumes of Brain-Tumor-Progression (The Cancer Imaging Archive). Slices
    without a mask are left out, as they can show oedema.

    Args:
        folder: folder of the data.
        size: S, side of the slices in pixels.
        held_out: numbers of the patients for validation and calibration.
        kind: pathology of all patients.

    Raises:
        InputError: there are no volumes, or a mask is missing.
    """
    root = Path(folder).expanduser()
    masks = sorted(root.glob("*_mask.nii.gz"))
    if not masks:
        raise InputError(f"{root}: no volumes with masks; it needs N.nii.gz and N_mask.nii.gz for each patient")
    pairs, patients = [], []
    for file in masks:
        name = file.name.removesuffix("_mask.nii.gz")
        try:
            scan, marked = (
                nibabel.as_closest_canonical(nibabel.load(path)) for path in (root / f"{name}.nii.gz", file)
            )
            image, mask = np.asarray(scan.dataobj, float), np.asarray(marked.dataobj) > 0
        except (OSError, nibabel.filebasedimages.ImageFileError) as error:
            raise InputError(f"{file}: mask or volume cannot be read ({error}); give both files") from error
        body = image[image > np.percentile(image, 99.5) * 0.05]
        low, high = np.percentile(body, [0.5, 99.5])
        scaled = ((image - min(low, 0)) / (high - min(low, 0))).clip(0, 1)
        for place in np.flatnonzero(mask.any((0, 1))):
            # Rows towards posterior, columns towards the patient's left.
            upright, outline = (part[::-1, ::-1, place].T for part in (scaled, mask))
            pairs.append(_squared(upright.astype(np.float32), outline, upright > 0.06, size))
            patients.append(int(name))
    numbers = np.array(patients)
    return _gathered(pairs, np.full(len(numbers), kind), numbers, np.isin(numbers, list(held_out)))


def tumour_labels(
    images: torch.Tensor, masks: torch.Tensor, concepts: Sequence[Concept]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and weights of the concepts at half the resolution.

    A tumour is bright or dark if it differs from the tissue in its ring, and large or small by its area. Between the
    limits, and for attributes that cannot be seen from mask and image, the concept has no weight in tumour and ring.
    The ring of 10 pixels around a mask has no weight at all.

    Args:
        images: (B, 1, S, S) in [0, 1], before the appearance is varied.
        masks: (B, 1, S, S) in [0, 1].
        concepts: concepts, for the last axis.

    Returns:
        Labels and weights, each (B, S/2, S/2, concepts).
    """
    near = F.max_pool2d(masks, 2 * RING + 1, 1, RING)
    ring = ((near > 0.05) & (masks < 0.05)).float()
    inside = (masks > 0.5).float()
    tissue = ring * (images > 0.03)
    difference = _mean(images, inside) - _mean(images, tissue)
    area = inside.sum((1, 2, 3))
    never = area < 0
    attributes = {
        "lesion": (~never, never),
        "hyperintense": (difference > _CONTRAST, difference < -_CONTRAST),
        "hypointense": (difference < -_CONTRAST, difference > _CONTRAST),
        "large": (area > _LARGE, area < _SMALL),
        "small": (area < _SMALL, area > _LARGE),
    }
    label = F.avg_pool2d(masks, 2)[:, 0]
    weight = 1 - F.max_pool2d(ring, 2)[:, 0]
    uncertain = (F.max_pool2d(near, 2) > 0.05)[:, 0]
    labels, weights = [], []
    for concept in concepts:
        known = attributes.keys() >= set(concept.attributes)
        pairs = [attributes[name] for name in concept.attributes] if known else [(never, never)]
        has, lacks = torch.stack([yes for yes, _ in pairs]).all(0), torch.stack([no for _, no in pairs]).any(0)
        labels.append(torch.where(has[:, None, None], label, torch.zeros(())))
        unknown = ~(has | lacks)[:, None, None] & uncertain
        weights.append(torch.where(unknown, torch.zeros(()), weight))
    return torch.stack(labels, -1), torch.stack(weights, -1)


class HeldOutSlices(Dataset):
    """Held-out tumour slices for validation: ``image`` (3, S, S) in [0, 1], ``label`` (1, S, S).

    The label is 1 in the tumour, and -1 in the ring around it, which counts neither as normal nor as abnormal.

    Args:
        tumours: slices.
        leave_out: a pathology that is not validated either.
        every: take every n-th slice.
    """

    def __init__(self, tumours: TumourSlices, leave_out: str | None = None, every: int = 1) -> None:
        self.tumours = tumours
        self.numbers = tumours.chosen(held_out=True, leave_out=leave_out)[::every]

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """A slice and its label."""
        number = self.numbers[index]
        image = torch.from_numpy(self.tumours.images[number]).float()[None] / 255
        mask = torch.from_numpy(self.tumours.masks[number]).float()[None] / 255
        near = F.max_pool2d(mask[None], 2 * RING + 1, 1, RING)[0] > 0.05
        label = torch.where(mask > 0.5, 1.0, torch.where(near, -1.0, 0.0))
        return {"image": image.expand(3, -1, -1).clone(), "label": label}


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (values * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3)).clamp_min(1)


def _squared(image: np.ndarray, mask: np.ndarray, body: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image in [0, 1] and mask, cropped to the body with a margin, in the middle of a square of ``size`` pixels."""
    rows, columns = np.where(body)
    box = tuple(slice(max(places.min() - _MARGIN, 0), places.max() + _MARGIN + 1) for places in (rows, columns))
    parts = []
    for part in (image[box] * 255, mask[box] * 255.0):
        side = max(part.shape)
        square = np.zeros((side, side), np.uint8)
        top, left = ((side - length) // 2 for length in part.shape)
        square[top : top + part.shape[0], left : left + part.shape[1]] = part.astype(np.uint8)
        parts.append(np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR)))
    return parts[0], parts[1]


def _gathered(
    pairs: list[tuple[np.ndarray, np.ndarray]], kinds: np.ndarray, groups: np.ndarray, held_out: np.ndarray
) -> TumourSlices:
    images, masks = (np.stack(part) for part in zip(*pairs, strict=True))
    return TumourSlices(images, masks, kinds, groups, held_out)
