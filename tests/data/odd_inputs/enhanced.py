"""Enhanced multi-frame DICOM."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from tests.data.odd_inputs.catalogue import AXIAL, Odd, Truth, kind
from tests.data.samples import CT, MR, write_series


def enhanced(file: Path, places: Sequence[float], tilt: float = 0.0, rescale: bool = True, sop: str = MR) -> Truth:
    """An enhanced multi-frame file with an axial frame at every place, in mm."""
    (source,) = write_series(file.parent / "source", slices=1, orientation=AXIAL)
    ds = pydicom.dcmread(source)
    shutil.rmtree(file.parent / "source")
    for key in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(ds, key)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID(f"{sop}.1")
    ds.Modality = "MR" if sop == MR else "CT"
    pixels = np.random.default_rng(4).integers(0, 2000, (len(places), 7, 5)).astype("<i2")
    ds.NumberOfFrames, ds.PixelData = len(places), pixels.tobytes()
    shared, plane, measure = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = list(AXIAL)
    measure.PixelSpacing, measure.SliceThickness, measure.SpacingBetweenSlices = [0.75, 0.5], 3, -3
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measure]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames, positions, values = [], [], []
    rows, columns = np.indices((7, 5)).reshape(2, -1)
    for index, z in enumerate(places):
        frame, place, transform = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-11, 7 + tilt * z, z]
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = index + 1, -10, "US"
        frame.PlanePositionSequence = [place]
        slope, intercept = (index + 1, -10) if rescale else (1, 0)
        if rescale:
            frame.PixelValueTransformationSequence = [transform]
        frames.append(frame)
        positions.append(
            np.stack([11 - 0.5 * columns, -7 - tilt * z - 0.75 * rows, np.full(35, z)], axis=1, dtype=float)
        )
        values.append((pixels[index].reshape(-1) * float(slope) + intercept).astype(np.float32))
    ds.PerFrameFunctionalGroupsSequence = frames
    pydicom.dcmwrite(file, ds)
    return np.concatenate(positions), np.concatenate(values)


@kind("ok")
def enhanced_shuffled(folder: Path) -> Odd:
    return Odd(folder, [enhanced(folder / "e", [6, 0, 3, 12, 9])])


@kind("ok")
def enhanced_ct(folder: Path) -> Odd:
    return Odd(folder, [enhanced(folder / "e", [6, 0, 3, 12, 9], sop=CT)])


@kind("refused missing-slices")
def enhanced_with_gap(folder: Path) -> Odd:
    return Odd(folder, [enhanced(folder / "e", [6, 0, 3, 12])])


@kind("refused several-volumes")
def enhanced_with_two_at_a_place(folder: Path) -> Odd:
    return Odd(folder, [enhanced(folder / "e", [0, 0, 3, 3, 6, 6])])


@kind("refused tilted-gantry")
def enhanced_tilted(folder: Path) -> Odd:
    return Odd(folder, [enhanced(folder / "e", [0, 3, 6, 9], tilt=0.03)])


@kind("refused no-rescale")
def enhanced_ct_without_rescale(folder: Path) -> Odd:
    return Odd(folder, [enhanced(folder / "e", [0, 3, 6], rescale=False, sop=CT)])


def changed_frames(folder: Path, change: Callable[[Dataset, Dataset], Any]) -> Odd:
    """An enhanced file after a change of the whole or of its second frame."""
    truth = enhanced(folder / "e", [6, 0, 3, 12, 9])
    ds = pydicom.dcmread(folder / "e")
    change(ds, ds.PerFrameFunctionalGroupsSequence[1])
    pydicom.dcmwrite(folder / "e", ds)
    return Odd(folder, [truth])


def change_shared(group: str, **values: Any) -> Callable[[Dataset, Dataset], None]:
    return lambda ds, _: ds.SharedFunctionalGroupsSequence[0][group][0].update(values)


def frame_echo(ds: Dataset, frame: Dataset) -> None:
    for one in ds.PerFrameFunctionalGroupsSequence:
        one.MREchoSequence = [Dataset()]
        one.MREchoSequence[0].EffectiveEchoTime = 80.0 if one is frame else 10.0


def outer_rescale(ds: Dataset, _: Dataset) -> None:
    ds.RescaleSlope, ds.RescaleIntercept = 5, 1


ENHANCED: dict[str, tuple[str, Callable[[Dataset, Dataset], Any]]] = {
    "enhanced_with_outer_rescale": ("ok", outer_rescale),
    "enhanced_with_two_echoes": ("refused several-volumes", frame_echo),
    "enhanced_without_frame_of_reference": (
        "refused no-frame-of-reference", lambda ds, _: delattr(ds, "FrameOfReferenceUID")
    ),
    "enhanced_skewed": (
        "refused bad-affine", change_shared("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0.7, 0.7, 0])
    ),
    "enhanced_nan_spacing": (
        "refused no-geometry", change_shared("PixelMeasuresSequence", PixelSpacing=[math.nan, 1])
    ),
    "enhanced_nan_position": (
        "refused no-geometry",
        lambda _, frame: frame.PlanePositionSequence[0].update({"ImagePositionPatient": [0, math.nan, 0]}),
    ),
    "enhanced_frame_without_position": (
        "refused no-geometry", lambda _, frame: frame.PlanePositionSequence[0].clear()
    ),
}  # fmt: skip


def _add_enhanced(name: str, verdict: str, change: Callable[[Dataset, Dataset], Any]) -> None:
    def build(folder: Path) -> Odd:
        return changed_frames(folder, change)

    build.__name__ = name
    kind(verdict)(build)


for _name, (_verdict, _change) in ENHANCED.items():
    _add_enhanced(_name, _verdict, _change)
