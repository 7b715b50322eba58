"""The catalogue of odd inputs: a kind is how it is built, what the reader must say, and which value lies where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

AXIAL = (1, 0, 0, 0, 1, 0)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
AFFINE = np.array([[0, -2.0, 0.1, 5], [1.5, 0, 0, -6], [0, 0.1, 3, 7], [0, 0, 0, 1]])
Truth = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Odd:
    """An input: a path to search or files to read, what every voxel of every scan must be, and the reader's options."""

    source: Path | Sequence[Path]
    truths: Sequence[Truth] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A kind of input and its verdict.

    ``ok``, ``repaired CODES``, ``refused CODE``, or ``left-out CODE``: the scan is read, and what lies beside it is
    listed with this code.
    """

    verdict: str
    build: Callable[[Path], Odd]


CATALOGUE: dict[str, Case] = {}


def kind(verdict: str) -> Callable[[Callable[[Path], Odd]], Callable[[Path], Odd]]:
    def add(build: Callable[[Path], Odd]) -> Callable[[Path], Odd]:
        CATALOGUE[build.__name__] = Case(verdict, build)
        return build

    return add


def volume_truth(values: np.ndarray, affine: np.ndarray) -> Truth:
    index = np.indices(values.shape).reshape(3, -1)
    places = affine @ np.vstack([index, np.ones(index.shape[1])])
    return places[:3].T, values.reshape(-1).astype(np.float32)


def series_truth(files: Sequence[Path]) -> Truth:
    """RAS position and rescaled value of every pixel as the files state them, without highdicom."""
    places, values = [], []
    for file in files:
        ds = pydicom.dcmread(file)
        row, column = np.split(np.array(ds.ImageOrientationPatient, dtype=float), 2)
        pixels = ds.pixel_array * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
        rows, columns = np.indices(pixels.shape).reshape(2, -1)
        place = np.array(ds.ImagePositionPatient, dtype=float)
        place = place + np.outer(columns * float(ds.PixelSpacing[1]), row)
        place = place + np.outer(rows * float(ds.PixelSpacing[0]), column)
        places.append(place * [-1, -1, 1])
        values.append(pixels.reshape(-1).astype(np.float32))
    return np.concatenate(places), np.concatenate(values)
