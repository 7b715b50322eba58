"""Series whose slices have a SeriesInstanceUID each, as some scanners and converters write them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_zsad.dicom_numbers import numbers_of

__all__ = ["SliceIdentity", "identity_of", "is_split_series"]

_FEWEST_SLICES = 4
_EVEN = 0.1
_LABELS = ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesNumber", "Modality", "Rows", "Columns")


@dataclass(frozen=True)
class SliceIdentity:
    """Where a slice belongs.

    Attributes:
        uid: SeriesInstanceUID.
        labels: what all slices of one series have in common, its orientation and pixel spacing included.
        place: along the normal, in mm.
    """

    uid: str
    labels: tuple[str, ...]
    place: float


def identity_of(dataset: Any) -> SliceIdentity | None:
    """The identity of a file, or None if it does not state what is compared, or holds several frames.

    Args:
        dataset: header of the file.
    """
    labels = [str(dataset.get(key) or "") for key in _LABELS]
    numbers = [numbers_of(dataset, key) for key in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")]
    if not all(labels) or [len(one) for one in numbers] != [3, 6, 2] or int(dataset.get("NumberOfFrames") or 1) > 1:
        return None
    position, orientation, spacing = numbers
    labels.append(str(dataset.get("SeriesDescription") or ""))
    # Rounded, because the last digits may differ between slices; adding 0 turns -0 into 0.
    labels += [f"{round(value, 3) + 0:.3f}" for value in (*orientation, *spacing)]
    place = float(np.cross(orientation[:3], orientation[3:]) @ position)
    return SliceIdentity(str(dataset.get("SeriesInstanceUID") or ""), tuple(labels), place)


def is_split_series(slices: Sequence[SliceIdentity | None]) -> bool:
    """Whether slices of several series are one series.

    They are if study, frame of reference, number, description, modality, size, orientation and spacing are equal, each
    UID has one place, and at least four places follow each other at one distance, a few gaps aside. Localizers and
    other short series stay apart.

    Args:
        slices: of each file.

    Example:
        >>> slices = [SliceIdentity(f"1.2.{index}", ("study", "4"), 3.0 * index) for index in range(5)]
        >>> is_split_series(slices), is_split_series(slices[:3])
        (True, False)
    """
    known = [one for one in slices if one is not None]
    if len(known) < len(slices) or len({one.labels for one in known}) != 1:
        return False
    places: defaultdict[str, list[float]] = defaultdict(list)
    for one in known:
        places[one.uid].append(one.place)
    if len(places) < _FEWEST_SLICES or any(max(of_uid) - min(of_uid) > _EVEN * 0.1 for of_uid in places.values()):
        return False
    steps = np.diff(np.sort([of_uid[0] for of_uid in places.values()]))
    if steps.min() <= _EVEN * 0.1:
        return False
    counts = steps / steps.min()
    even = np.abs(counts - np.round(counts)).max() <= _EVEN
    return bool(even and np.round(counts).sum() < 2 * len(places))
