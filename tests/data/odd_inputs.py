"""The catalogue of odd inputs: how each is built, what the reader must say, and which value lies where."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import math
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pydicom.valuerep import DSfloat

from tests.data.samples import CAPTURE, CT, MR, SEG, strip_mark, write_nifti, write_series

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
    """A kind of input and its verdict: ``ok``, ``repaired CODE`` or ``refused CODE``."""

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


def along_z(step: float = 3.0, **at: Callable[[int], float]) -> Callable[[int], list[float]]:
    """Slice positions on an axial stack; ``x``, ``y``, ``z`` add to them."""
    return lambda i: [at.get("x", lambda _: 0)(i), at.get("y", lambda _: 0)(i), step * i + at.get("z", lambda _: 0)(i)]


def long_decimals(index: int) -> list[DSfloat]:
    texts = ("-11.0000000000000000", "7.00000000000000000000", f"{40 + 3 * index}.000000000000000000")
    return [DSfloat(text, validation_mode=pydicom.config.IGNORE) for text in texts]


SERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("ok", {}),
    "oblique": ("ok", {"orientation": (0.8, 0.6, 0, 0, 0, -1)}),
    "sagittal": ("ok", {"orientation": (0, 1, 0, 0, 0, -1)}),
    "no_extension": ("ok", {"suffix": ""}),
    "numbered_names": ("ok", {"suffix": ".0001"}),
    "negative_spacing_between_slices": ("ok", {"SpacingBetweenSlices": -2.5}),
    "wrong_spacing_between_slices": ("ok", {"SpacingBetweenSlices": 99.0}),
    "single_slice": ("ok", {"slices": 1}),
    "two_slices": ("ok", {"slices": 2}),
    "no_rescale_mr": ("ok", {}),
    "unsigned": ("ok", {"PixelRepresentation": 0, "PixelData": lambda i: np.arange(35, dtype="<u2").tobytes()}),
    "rescale_differs": ("ok", {"sop_class": CT, "modality": "CT"}),
    "rescale_fraction": ("ok", {"RescaleSlope": lambda i: 0.1 * (i + 1), "RescaleIntercept": -0.5}),
    "hidden_jitter": ("ok", {"orientation": AXIAL, "ImagePositionPatient": along_z(z=lambda i: 0.004 * (i % 2))}),
    "empty_patient_id": ("ok", {"PatientID": ""}),
    "monochrome1": ("repaired monochrome1", {"PhotometricInterpretation": "MONOCHROME1"}),
    "overlong_decimals": ("repaired overlong-decimals", {"orientation": AXIAL, "ImagePositionPatient": long_decimals}),
    "gap": ("refused missing-slices", {"ImagePositionPatient": along_z(z=lambda i: 9.0 * (i > 3))}),
    "one_slice_missing": ("refused missing-slices", {"ImagePositionPatient": along_z(z=lambda i: 3.0 * (i > 2))}),
    "uneven": ("refused uneven-slices", {"ImagePositionPatient": along_z(z=lambda i: 0.4 * (i == 3))}),
    "growing_steps": ("refused uneven-slices", {"ImagePositionPatient": along_z(z=lambda i: 0.03 * i * i)}),
    "gantry_tilt": ("refused tilted-gantry", {"ImagePositionPatient": along_z(y=lambda i: 0.6 * i)}),
    "small_tilt": ("refused tilted-gantry", {"ImagePositionPatient": along_z(y=lambda i: 0.06 * i)}),
    "one_slice_sideways": ("refused tilted-gantry", {"ImagePositionPatient": along_z(x=lambda i: 2.0 * (i == 2))}),
    "different_at_one_place": ("refused duplicate-slices", {"ImagePositionPatient": lambda i: [0, 0, 3.0 * max(i, 1)]}),
    "all_at_one_place": ("refused duplicate-slices", {"ImagePositionPatient": [0, 0, 0]}),
    "no_position": ("refused no-geometry", {"ImagePositionPatient": None}),
    "no_orientation": ("refused no-geometry", {"ImageOrientationPatient": None}),
    "no_pixel_spacing": ("refused no-geometry", {"PixelSpacing": None}),
    "zero_pixel_spacing": ("refused no-geometry", {"PixelSpacing": [0, 0.5]}),
    "skewed_orientation": ("refused bad-affine", {"ImageOrientationPatient": [1, 0, 0, 0.7, 0.7, 0]}),
    "zero_orientation": ("refused bad-affine", {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}),
    "no_frame_of_reference": ("refused no-frame-of-reference", {"FrameOfReferenceUID": None}),
    "several_frames_of_reference": (
        "refused several-frames-of-reference",
        {"FrameOfReferenceUID": lambda i: f"1.2.{i // 3}"},
    ),
    "several_patients": ("refused several-patients", {"PatientID": lambda i: f"P{i // 3}"}),
    "mixed_sizes": (
        "refused mixed-sizes",
        {"Rows": lambda i: 5 if i else 7, "Columns": lambda i: 7 if i else 5},
    ),
    "mixed_orientations": (
        "refused mixed-orientations",
        {"ImageOrientationPatient": lambda i: list(AXIAL) if i else [0, 1, 0, 1, 0, 0]},
    ),
    "mixed_spacings": ("refused mixed-spacings", {"PixelSpacing": lambda i: [0.75, 0.5 if i else 0.6]}),
    "ct_without_rescale": ("refused no-rescale", {"sop_class": CT, "Modality": "CT"}),
    "zero_rescale": ("refused bad-rescale", {"RescaleSlope": 0, "RescaleIntercept": 0}),
    "colour_slices": ("refused colour", {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}),
    "palette": ("refused colour", {"PhotometricInterpretation": "PALETTE COLOR"}),
    "frames_without_positions": ("refused frames-without-positions", {"NumberOfFrames": 2}),
    "one_slice_without_pixels": (
        "refused no-pixels",
        {"PixelData": lambda i: None if i == 2 else b"\1" * 70},
    ),
    "one_slice_cut_short": ("refused undecodable", {"PixelData": lambda i: b"\1" * (30 if i == 2 else 70)}),
    "huge_slices": ("refused too-large", {"Rows": 65535, "Columns": 65535}),
    "no_thickness": ("refused no-thickness", {"slices": 1, "SliceThickness": None}),
    "mosaic": ("refused frames-without-positions", {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}),
    "high_bit_elsewhere": ("refused undecodable", {"BitsStored": 12}),
    "empty_rescale": (
        "refused no-rescale",
        {"sop_class": CT, "modality": "CT", "RescaleSlope": "", "RescaleIntercept": ""},
    ),
    "nan_rescale": ("refused bad-rescale", {"RescaleSlope": 1, "RescaleIntercept": lambda i: math.nan if i else 0}),
    "several_studies": ("refused several-series", {"StudyInstanceUID": lambda i: f"1.2.{i // 3}"}),
    "several_modalities": ("refused several-series", {"Modality": lambda i: "PT" if i else "MR"}),
    "last_digits_differ": (
        "ok",
        {
            "orientation": AXIAL,
            "ImageOrientationPatient": lambda i: [1, 0, (4.9e-6, 5.1e-6)[i % 2], 0, 1, 0],
            "PixelSpacing": lambda i: [0.75, (0.5000049, 0.5000051)[i % 2]],
            "EchoTime": lambda i: (9.994, 9.996)[i % 2],
        },
    ),
    "constant_series": ("refused constant", {"PixelData": b"\1" * 70}),
    "echo_per_slice": ("refused several-volumes", {"EchoTime": lambda i: 10.0 if i % 2 else 80.0}),
}


def _add_series(name: str, verdict: str, changes: dict[str, Any]) -> None:
    def build(folder: Path) -> Odd:
        options = dict(changes)
        if verdict.startswith("refused"):
            options.setdefault("orientation", AXIAL)
        files = write_series(folder / "s", **options)
        return Odd(folder / "s", () if verdict.startswith("refused") else [series_truth(files)])

    build.__name__ = name
    kind(verdict)(build)


for _name, (_verdict, _changes) in SERIES.items():
    _add_series(_name, _verdict, _changes)


def compress(folder: Path, syntax: str) -> Odd:
    files = write_series(folder / "s")
    truth = series_truth(files)
    for file in files:
        ds = pydicom.dcmread(file)
        if syntax in (RLELossless, JPEGLSLossless):
            ds.compress(syntax, generate_instance_uid=False)
        elif syntax == ExplicitVRBigEndian:
            ds.PixelData = ds.pixel_array.astype(">i2").tobytes()
        elif syntax == JPEG2000Lossless:
            ds.PixelRepresentation = 0
            stream = io.BytesIO()
            Image.fromarray((ds.pixel_array.astype(np.int32) + 300).astype(np.uint16)).save(
                stream, "JPEG2000", no_jp2=True, irreversible=False, num_resolutions=1
            )
            ds.RescaleSlope, ds.RescaleIntercept = 1, -300
            ds.PixelData = encapsulate([stream.getvalue()])
        elif syntax != DeflatedExplicitVRLittleEndian:
            ds.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        if syntax != ExplicitVRBigEndian:
            ds["PixelData"].VR = "OB" if ds.file_meta.TransferSyntaxUID.is_compressed else "OW"
        pydicom.dcmwrite(
            file, ds, little_endian=syntax != ExplicitVRBigEndian, implicit_vr=False, enforce_file_format=False
        )
    return Odd(folder / "s", [truth])


def _add_syntax(name: str, verdict: str, syntax: str) -> None:
    def build(folder: Path) -> Odd:
        return compress(folder, syntax)

    build.__name__ = name
    kind(verdict)(build)


for _name, _verdict, _syntax in (
    ("big_endian", "ok", ExplicitVRBigEndian),
    ("deflated", "ok", DeflatedExplicitVRLittleEndian),
    ("rle", "ok", RLELossless),
    ("jpeg_ls", "ok", JPEGLSLossless),
    ("jpeg_2000", "ok", JPEG2000Lossless),
    ("jpeg_lossless", "refused no-codec", JPEGLosslessSV1),
    ("jpeg_12_bit", "refused no-codec", JPEGExtended12Bit),
    ("htj2k", "refused no-codec", HTJ2KLossless),
):
    _add_syntax(_name, _verdict, _syntax)


@kind("ok")
def without_mark(folder: Path) -> Odd:
    """Bare data sets: no preamble, no file meta information, so that nothing states how they are coded."""
    files = write_series(folder / "s")
    truth = series_truth(files)
    for file in files:
        strip_mark(file)
    return Odd(folder / "s", [truth])


@kind("ok")
def without_mark_and_ending(folder: Path) -> Odd:
    files = write_series(folder / "s", suffix="")
    truth = series_truth(files)
    for file in files:
        strip_mark(file)
    return Odd(folder / "s", [truth])


@kind("refused damaged")
def text_as_dicom(folder: Path) -> Odd:
    (folder / "a.dcm").write_text("no scan, but long enough to be taken for a header")
    return Odd([folder / "a.dcm"])


@kind("repaired jitter")
def jitter(folder: Path) -> Odd:
    files = write_series(folder / "s", orientation=AXIAL, ImagePositionPatient=along_z(z=lambda i: 0.05 * (i == 2)))
    places, values = series_truth(files)
    return Odd(folder / "s", [(places, values)])


@kind("repaired duplicates-dropped")
def identical_copies(folder: Path) -> Odd:
    files = write_series(folder / "s")
    shutil.copy(files[2], folder / "s" / "copy.dcm")
    shutil.copy(files[5], folder / "s" / "again.dcm")
    return Odd(folder / "s", [series_truth(files)])


@kind("ok")
def stray_files(folder: Path) -> Odd:
    files = write_series(folder / "s", suffix="")
    (folder / "s" / "notes.txt").write_text("nothing")
    (folder / "s" / "Thumbs.db").write_bytes(b"\0" * 10)
    Image.new("L", (4, 4)).save(folder / "s" / "preview.png")
    return Odd(folder / "s", [series_truth(files)])


@kind("repaired set-aside")
def dicomdir_beside(folder: Path) -> Odd:
    files = write_series(folder / "s")
    ds = pydicom.dcmread(files[0])
    for key in [element.keyword for element in ds if element.keyword]:
        delattr(ds, key)
    ds.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.1.3.10")
    pydicom.dcmwrite(folder / "s" / "DICOMDIR", ds)
    return Odd(folder / "s", [series_truth(files)])


@kind("repaired set-aside")
def dicomdir_itself(folder: Path) -> Odd:
    odd = dicomdir_beside(folder)
    return Odd(folder / "s" / "DICOMDIR", odd.truths)


@kind("ok")
def linked_folder(folder: Path) -> Odd:
    """Links to a folder elsewhere, to the same one again, and in a circle."""
    files = write_series(folder / "elsewhere")
    (folder / "s").mkdir()
    for name, target in (("a", folder / "elsewhere"), ("b", folder / "elsewhere"), ("c", folder / "s")):
        (folder / "s" / name).symlink_to(target)
    (folder / "elsewhere" / "d").symlink_to(folder)
    return Odd(folder / "s", [series_truth(files)])


@kind("ok")
def pipe_beside(folder: Path) -> Odd:
    files = write_series(folder / "s")
    os.mkfifo(folder / "s" / "pipe")
    return Odd(folder / "s", [series_truth(files)])


@kind("repaired set-aside")
def localizer_and_captures_beside(folder: Path) -> Odd:
    files = write_series(folder / "s", prefix="a")
    write_series(folder / "s", prefix="l", slices=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(folder / "s", prefix="c", slices=1, sop_class=CAPTURE)
    write_series(folder / "s", prefix="g", slices=1, sop_class=SEG)
    return Odd(folder / "s", [series_truth(files)])


@kind("ok")
def two_series_in_a_folder(folder: Path) -> Odd:
    files = [write_series(folder / "s", prefix=prefix, number=ord(prefix)) for prefix in "ab"]
    return Odd(folder / "s", [series_truth(series) for series in files])


@kind("refused several-series")
def two_series_as_one(folder: Path) -> Odd:
    files = [write_series(folder / "s", prefix=prefix, number=ord(prefix)) for prefix in "ab"]
    return Odd([*files[0], *files[1]])


def echoes(folder: Path) -> list[list[Path]]:
    series = []
    for prefix, echo in (("a", 10.0), ("b", 80.0)):
        uid = "1.2.3.4"
        series.append(
            write_series(
                folder / "s", prefix=prefix, number=ord(prefix), EchoTime=echo, SeriesInstanceUID=uid, SeriesNumber=1,
                FrameOfReferenceUID="1.2.3", StudyInstanceUID="1.2",
            )
        )  # fmt: skip
    return series


@kind("ok")
def two_echoes_in_a_folder(folder: Path) -> Odd:
    return Odd(folder / "s", [series_truth(files) for files in echoes(folder)])


@kind("refused several-volumes")
def two_echoes_as_one(folder: Path) -> Odd:
    return Odd(list(itertools.chain(*echoes(folder))))


@kind("refused several-volumes")
def two_time_points_as_one(folder: Path) -> Odd:
    files = echoes(folder)
    for number, group in enumerate(files):
        for file in group:
            ds = pydicom.dcmread(file)
            ds.EchoTime, ds.TemporalPositionIdentifier = 10.0, number
            ds.save_as(file)
    return Odd(list(itertools.chain(*files)))


@kind("refused empty-file")
def empty_slice(folder: Path) -> Odd:
    files = write_series(folder / "s")
    files[-1].write_bytes(b"")
    return Odd(folder / "s")


@kind("refused empty-file")
def empty_slice_without_extension(folder: Path) -> Odd:
    files = write_series(folder / "s", suffix="")
    files[-1].write_bytes(b"")
    return Odd(folder / "s")


@kind("refused undecodable")
def truncated_slice(folder: Path) -> Odd:
    files = write_series(folder / "s")
    files[3].write_bytes(files[3].read_bytes()[:-20])
    return Odd(folder / "s")


@kind("refused no-pixels")
def slice_cut_in_its_header(folder: Path) -> Odd:
    files = write_series(folder / "s", suffix="")
    files[-1].write_bytes(files[-1].read_bytes()[:150])
    return Odd(folder / "s")


@kind("refused no-scan")
def empty_folder(folder: Path) -> Odd:
    return Odd(folder)


@kind("refused missing-file")
def missing_path(folder: Path) -> Odd:
    return Odd(folder / "gone.nii.gz")


@kind("refused is-folder")
def folder_for_the_reader(folder: Path) -> Odd:
    return Odd([folder])


@kind("refused not-an-image")
def segmentation_object(folder: Path) -> Odd:
    return Odd(write_series(folder / "s", slices=1, sop_class=SEG))


@kind("refused implausible-compression")
def deflated_bomb(folder: Path) -> Odd:
    (file,) = write_series(folder / "s", slices=1)
    ds = pydicom.dcmread(file)
    ds.PixelData = bytes(80_000_000)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    pydicom.dcmwrite(file, ds, little_endian=True, implicit_vr=False)
    return Odd([file])


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


def radiographs(folder: Path, slices: int, **changes: Any) -> list[Path]:
    plain = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "FrameOfReferenceUID": None}
    sop = "1.2.840.10008.5.1.4.1.1.1.1"
    return write_series(folder, slices=slices, sop_class=sop, modality="DX", **plain, **changes)


def picture_truth(pixels: np.ndarray, rows: float = 1.0, columns: float = 1.0) -> Truth:
    return volume_truth(pixels.T[..., None], np.diag([-columns, -rows, 1, 1]))


@kind("repaired no-position")
def radiograph(folder: Path) -> Odd:
    (file,) = radiographs(folder / "s", 1)
    return Odd(folder / "s", [picture_truth(pydicom.dcmread(file).pixel_array, 0.75, 0.5)])


@kind("repaired no-position")
def two_radiographs_of_one_series(folder: Path) -> Odd:
    files = sorted(radiographs(folder / "s", 2, PixelSpacing=None))
    return Odd(folder / "s", [picture_truth(pydicom.dcmread(file).pixel_array) for file in files])


GREY = np.random.default_rng(5).integers(0, 255, (6, 9)).astype(np.uint8)


@kind("repaired no-position")
def png(folder: Path) -> Odd:
    Image.fromarray(GREY).save(folder / "a.png")
    return Odd(folder, [picture_truth(GREY)])


@kind("repaired no-position")
def png_of_16_bits(folder: Path) -> Odd:
    pixels = GREY.astype(np.uint16) * 200
    Image.fromarray(pixels).save(folder / "a.png")
    return Odd(folder / "a.png", [picture_truth(pixels)])


@kind("repaired no-position")
def png_of_equal_channels(folder: Path) -> Odd:
    Image.fromarray(np.stack([GREY] * 3, axis=-1)).save(folder / "a.png")
    return Odd(folder / "a.png", [picture_truth(GREY)])


@kind("repaired no-position")
def jpeg(folder: Path) -> Odd:
    Image.fromarray(GREY).save(folder / "a.jpg")
    return Odd(folder / "a.jpg", [picture_truth(np.asarray(Image.open(folder / "a.jpg")))])


@kind("repaired no-position")
def jpeg_stored_lying(folder: Path) -> Odd:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(folder / "a.jpg", exif=exif)
    return Odd(folder / "a.jpg", [picture_truth(np.rot90(np.asarray(Image.open(folder / "a.jpg")), -1))])


@kind("refused colour")
def colour_png(folder: Path) -> Odd:
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (6, 9, 3)).astype(np.uint8)).save(folder / "a.png")
    return Odd(folder / "a.png")


@kind("refused damaged")
def truncated_jpeg(folder: Path) -> Odd:
    Image.fromarray(np.tile(GREY, (20, 20))).save(folder / "a.jpg")
    (folder / "a.jpg").write_bytes((folder / "a.jpg").read_bytes()[:-2000])
    return Odd(folder / "a.jpg")


@kind("refused too-large")
def huge_png(folder: Path) -> Odd:
    Image.new("1", (15000, 15000)).save(folder / "a.png")
    return Odd(folder / "a.png")


def nifti(folder: Path, name: str = "a.nii.gz", **options: Any) -> tuple[Path, Truth]:
    values = write_nifti(folder / name, affine=AFFINE, **options)
    return folder / name, volume_truth(values, AFFINE)


def change_header(file: Path, **fields: Any) -> None:
    """Overwrite fields of a NIfTI file's header without nibabel's corrections."""
    packed = file.name.endswith(".gz")
    raw = bytearray(gzip.decompress(file.read_bytes()) if packed else file.read_bytes())
    header = np.frombuffer(bytes(raw[:348]), dtype=nibabel.Nifti1Header.template_dtype).copy()
    for key, value in fields.items():
        header[key] = value
    raw[:348] = header.tobytes()
    file.write_bytes(gzip.compress(bytes(raw)) if packed else bytes(raw))


@kind("ok")
def nifti_gz(folder: Path) -> Odd:
    _, truth = nifti(folder)
    return Odd(folder, [truth])


@kind("ok")
def nifti_of_one_slice(folder: Path) -> Odd:
    file, truth = nifti(folder, shape=(8, 9, 1))
    return Odd(file, [truth])


@kind("ok")
def nifti_with_trailing_axis(folder: Path) -> Odd:
    file, _ = nifti(folder, shape=(8, 9, 5, 1))
    values = np.asarray(nibabel.load(file).dataobj)[..., 0]
    return Odd(file, [volume_truth(values, AFFINE)])


@kind("ok")
def nifti_scaled(folder: Path) -> Odd:
    values = np.arange(60, dtype="int16").reshape(3, 4, 5)
    image = nibabel.Nifti1Image(values, AFFINE)
    nibabel.save(image, folder / "a.nii")
    change_header(folder / "a.nii", scl_slope=0.5, scl_inter=-3.0)
    return Odd(folder / "a.nii", [volume_truth(values * 0.5 - 3, AFFINE)])


@kind("ok")
def nifti_of_version_2(folder: Path) -> Odd:
    values = np.arange(60, dtype="int16").reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti2Image(values, AFFINE), folder / "a.nii.gz")
    return Odd(folder, [volume_truth(values, AFFINE)])


@kind("ok")
def nifti_of_two_gzip_members(folder: Path) -> Odd:
    file, truth = nifti(folder)
    raw = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(raw[:400]) + gzip.compress(raw[400:]))
    return Odd(file, [truth])


@kind("ok")
def nifti_with_negative_pixdim(folder: Path) -> Odd:
    file, truth = nifti(folder)
    spacing = np.asarray(nibabel.load(file).header["pixdim"])
    change_header(file, pixdim=spacing * [1, -1, 1, 1, 1, 1, 1, 1])
    return Odd(file, [truth])


@kind("ok")
def nifti_with_qform_only(folder: Path) -> Odd:
    values = np.arange(60, dtype="int16").reshape(3, 4, 5)
    affine = np.diag([-1.0, 1.5, 3, 1])
    image = nibabel.Nifti1Image(values, affine)
    image.set_qform(affine, 1)
    image.set_sform(None, 0)
    nibabel.save(image, folder / "a.nii.gz")
    return Odd(folder, [volume_truth(values, affine)])


def two_forms(folder: Path, qform: np.ndarray, codes: tuple[int, int] = (1, 1)) -> Odd:
    values = np.arange(60, dtype="int16").reshape(3, 4, 5)
    affine = np.diag([1.0, 1.5, 3, 1])
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(qform, codes[1])
    nibabel.save(image, folder / "a.nii.gz")
    return Odd(folder, [volume_truth(values, affine)])


@kind("ok")
def forms_that_agree(folder: Path) -> Odd:
    return two_forms(folder, np.diag([1.0, 1.5, 3, 1]))


@kind("refused forms-disagree")
def forms_of_two_hands(folder: Path) -> Odd:
    return two_forms(folder, np.diag([-1.0, 1.5, 3, 1]))


@kind("refused forms-disagree")
def forms_apart(folder: Path) -> Odd:
    return two_forms(folder, np.array([[1.0, 0, 0, 4], [0, 1.5, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]))


@kind("repaired two-spaces")
def forms_of_two_spaces(folder: Path) -> Odd:
    qform = np.array([[1.0, 0, 0, 4], [0, 1.5, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    return two_forms(folder, qform, codes=(4, 1))


@kind("repaired forms-disagree")
def forms_apart_accepted(folder: Path) -> Odd:
    odd = two_forms(folder, np.diag([-1.0, 1.5, 3, 1]))
    return Odd(odd.source, odd.truths, {"accept": "forms-disagree"})


@kind("repaired pixdim-ignored")
def pixdim_unlike_sform(folder: Path) -> Odd:
    file, truth = nifti(folder)
    change_header(file, pixdim=[1, 1, 1, 1, 1, 1, 1, 1])
    return Odd(file, [truth])


@kind("refused damaged")
def voxels_from_byte_0(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, vox_offset=0)
    return Odd(file)


@kind("refused bad-affine")
def qform_without_spacing(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, sform_code=0, qform_code=1, pixdim=[1, 0, 1.5, 3, 1, 1, 1, 1])
    return Odd(file)


@kind("refused no-geometry")
def no_form(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, sform_code=0, qform_code=0)
    return Odd(file)


@kind("refused bad-affine")
def zero_sform(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, srow_x=0, srow_y=0, srow_z=0)
    return Odd(file)


@kind("refused bad-affine")
def nan_sform(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, srow_x=np.nan)
    return Odd(file)


@kind("refused bad-affine")
def singular_sform(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, srow_x=1, srow_y=1)
    return Odd(file)


@kind("refused wrong-unit")
def microns(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, xyzt_units=3)
    return Odd(file)


@kind("refused not-real")
def complex_voxels(folder: Path) -> Odd:
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), "c8"), AFFINE), folder / "a.nii")
    return Odd(folder)


@kind("refused not-3d")
def time_series(folder: Path) -> Odd:
    write_nifti(folder / "a.nii.gz", shape=(4, 5, 6, 3))
    return Odd(folder)


@kind("ok")
def volume_of_a_time_series(folder: Path) -> Odd:
    values = write_nifti(folder / "a.nii.gz", shape=(4, 5, 6, 3), affine=AFFINE)
    return Odd(folder, [volume_truth(values[..., 2], AFFINE)], {"volume": 2})


@kind("refused no-such-volume")
def volume_beyond_a_time_series(folder: Path) -> Odd:
    write_nifti(folder / "a.nii.gz", shape=(4, 5, 6, 3))
    return Odd(folder, (), {"volume": 3})


def with_values(folder: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), folder / "a.nii.gz")
    return folder / "a.nii.gz"


@kind("repaired non-finite-replaced")
def few_bad_voxels(folder: Path) -> Odd:
    values = np.arange(1.0, 1001.0, dtype="f4").reshape(10, 10, 10)
    clean = values.copy()
    values[3, 3, 3], values[4, 4, 4] = np.nan, np.inf
    clean[3, 3, 3] = clean[4, 4, 4] = 1.0
    return Odd(with_values(folder, values), [volume_truth(clean, AFFINE)])


@kind("refused non-finite")
def many_bad_voxels(folder: Path) -> Odd:
    return Odd(with_values(folder, np.where(np.arange(64) < 9, np.inf, 0).reshape(4, 4, 4).astype("f4")))


@kind("refused non-finite")
def nan_slice(folder: Path) -> Odd:
    """One slice of 200: no more than a hundredth of the voxels, yet the slice is gone."""
    values = np.arange(1.0, 3201.0, dtype="f4").reshape(4, 4, 200)
    values[:, :, 70] = np.nan
    return Odd(with_values(folder, values))


@kind("repaired non-finite-replaced")
def nan_outer_slices(folder: Path) -> Odd:
    """As a resampled scan has outside of its field of view."""
    values = np.arange(1.0, 8001.0, dtype="f4").reshape(4, 4, 500)
    values[:, :, :2], values[:, :, -1] = np.nan, np.nan
    return Odd(with_values(folder, values), [volume_truth(np.where(np.isnan(values), 3.0, values), AFFINE)])


@kind("repaired looks-like-mask")
def mask_given_as_a_scan(folder: Path) -> Odd:
    values = np.zeros((10, 10, 12), "u1")
    values[3:6, 4:7, 5:8] = 1
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), folder / "a.nii.gz")
    return Odd(folder / "a.nii.gz", [volume_truth(values.astype("f4"), AFFINE)])


@kind("refused non-finite")
def only_nan(folder: Path) -> Odd:
    return Odd(with_values(folder, np.full((4, 4, 4), np.nan, "f4")))


@kind("refused constant")
def only_zeros(folder: Path) -> Odd:
    return Odd(with_values(folder, np.zeros((4, 4, 4), "i2")))


@kind("repaired constant")
def empty_mask_accepted(folder: Path) -> Odd:
    values = np.zeros((4, 4, 4), "i2")
    return Odd(with_values(folder, values), [volume_truth(values, AFFINE)], {"accept": ["constant"]})


@kind("refused damaged")
def truncated_gz(folder: Path) -> Odd:
    file, _ = nifti(folder)
    file.write_bytes(file.read_bytes()[:-9])
    return Odd(file)


@kind("refused damaged")
def rubbish_after_gz(folder: Path) -> Odd:
    file, _ = nifti(folder)
    file.write_bytes(file.read_bytes() + b"rubbish")
    return Odd(file)


@kind("refused damaged")
def truncated_nii(folder: Path) -> Odd:
    file, _ = nifti(folder, "a.nii")
    file.write_bytes(file.read_bytes()[:-9])
    return Odd(file)


@kind("refused size-mismatch")
def fewer_slices_than_data(folder: Path) -> Odd:
    file, _ = nifti(folder, shape=(20, 20, 20))
    change_header(file, dim=[3, 20, 20, 12, 1, 1, 1, 1])
    return Odd(file)


@kind("repaired trailing-bytes")
def few_bytes_after_the_voxels(folder: Path) -> Odd:
    file, truth = nifti(folder)
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()) + bytes(100)))
    return Odd(file, [truth])


@kind("refused empty-file")
def empty_nii(folder: Path) -> Odd:
    (folder / "a.nii").touch()
    return Odd(folder)


@kind("refused damaged")
def text_as_nii(folder: Path) -> Odd:
    (folder / "a.nii.gz").write_text("no scan")
    return Odd(folder)


@kind("refused too-large")
def huge_dimensions(folder: Path) -> Odd:
    file, _ = nifti(folder)
    change_header(file, dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    return Odd(file)


@kind("refused implausible-compression")
def gzip_bomb(folder: Path) -> Odd:
    return Odd(bomb(folder, (800, 800, 800)))


@kind("refused size-mismatch")
def gzip_bomb_behind_a_small_header(folder: Path) -> Odd:
    file = bomb(folder, (800, 800, 800))
    small = bomb(folder, (4, 4, 4), "small.nii.gz")
    file.write_bytes(gzip.compress(gzip.decompress(small.read_bytes())) + file.read_bytes())
    return Odd(file)


def bomb(folder: Path, shape: tuple[int, int, int], name: str = "a.nii.gz") -> Path:
    """Zeros of this shape: one packed piece, again and again."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header.set_sform(AFFINE, 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    whole, rest = divmod(math.prod(shape), 1 << 24)
    piece = gzip.compress(bytes(1 << 24)) * whole + gzip.compress(bytes(rest))
    (folder / name).write_bytes(gzip.compress(header.binaryblock + bytes(4)) + piece)
    return folder / name


def nrrd(folder: Path, name: str = "a.nrrd", data: bytes | None = None, **changes: Any) -> tuple[Path, Truth]:
    values = np.arange(60, dtype="<i2").reshape(3, 4, 5, order="F")
    fields: dict[str, str | None] = {
        "type": "int16",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "3 4 5",
        "space directions": "(1,0,0) (0,2,0) (0,0,3)",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(5,6,7)",
        **{key.replace("_", " "): value for key, value in changes.items()},
    }
    head = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in fields.items() if value is not None) + "\n"
    raw = values.tobytes(order="F")
    packed = gzip.compress(raw) if fields["encoding"] == "gzip" else raw
    (folder / name).write_bytes(head.encode() + (packed if data is None else data))
    return folder / name, volume_truth(
        values, LPS_TO_RAS @ np.array([[1, 0, 0, 5], [0, 2, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    )


def _add_nrrd(name: str, verdict: str, data: bytes | None, changes: Mapping[str, Any]) -> None:
    def build(folder: Path) -> Odd:
        file, truth = nrrd(folder, data=data, **changes)
        return Odd(file, [truth])

    build.__name__ = name
    kind(verdict)(build)


_PACKED = gzip.compress(np.arange(60, dtype="<i2").tobytes(), mtime=0)
for _name, _verdict, _data, _fields in (
    ("nrrd_raw", "ok", None, {}),
    ("nrrd_packed", "ok", None, {"encoding": "gzip"}),
    ("nrrd_truncated", "refused damaged", b"\1" * 50, {}),
    ("nrrd_bad_checksum", "refused damaged", _PACKED[:-6] + b"\1" + _PACKED[-5:], {"encoding": "gzip"}),
    ("nrrd_cut_stream", "refused damaged", _PACKED[:-10], {"encoding": "gzip"}),
    ("nrrd_without_space", "refused no-geometry", None,
     {"space": None, "space directions": None, "space origin": None}),
    ("nrrd_spacings_only", "refused no-geometry", None,
     {"space": None, "space directions": None, "space origin": None, "spacings": "1 2 3"}),
    ("nrrd_in_microns", "refused wrong-unit", None, {"space units": '"um" "um" "um"'}),
    ("nrrd_elsewhere", "refused detached-data", b"", {"data file": "../b.raw"}),
    ("nrrd_absolute", "refused detached-data", b"", {"data file": "/etc/hostname"}),
    ("nrrd_missing_data", "refused detached-data", b"", {"data file": "b.raw"}),
    ("nrrd_huge", "refused too-large", None, {"sizes": "30000 30000 30000"}),
    ("nrrd_bomb", "refused implausible-compression", None, {"sizes": "500 500 500", "encoding": "gzip"}),
    ("nrrd_without_origin", "refused no-geometry", None, {"space_origin": None}),
    ("nrrd_without_a_direction", "refused no-geometry", None, {"space_directions": "none (0,2,0) (0,0,3)"}),
    ("nrrd_skipping", "ok", b"x" * 13 + np.arange(60, dtype="<i2").tobytes(), {"byte_skip": "-1"}),
    ("nrrd_skipping_truncated", "refused damaged", b"\1" * 100, {"byte_skip": "-1"}),
    ("nrrd_constant", "refused constant", bytes(120), {}),
):  # fmt: skip
    _add_nrrd(_name, _verdict, _data, _fields)


@kind("ok")
def nrrd_detached_beside(folder: Path) -> Odd:
    file, truth = nrrd(folder, "a.nhdr", data=b"", data_file="a.raw")
    (folder / "a.raw").write_bytes(np.arange(60, dtype="<i2").tobytes())
    return Odd(file, [truth])


def metaimage(folder: Path, data: bytes | None = None, **changes: str | None) -> Odd:
    values = np.arange(60, dtype="<i2").reshape(3, 4, 5, order="F")
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "5 6 7",
        "ElementSpacing": "1 2 3",
        "DimSize": "3 4 5",
        "ElementType": "MET_SHORT",
        **changes,
        "ElementDataFile": "LOCAL",
    }
    head = "".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None)
    (folder / "a.mha").write_bytes(head.encode() + (values.tobytes(order="F") if data is None else data))
    affine = LPS_TO_RAS @ np.array([[1, 0, 0, 5], [0, 2, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    return Odd(folder, [volume_truth(values, affine)])


def _add_metaimage(name: str, verdict: str, data: bytes | None, changes: Mapping[str, Any]) -> None:
    def build(folder: Path) -> Odd:
        return metaimage(folder, data, **changes)

    build.__name__ = name
    kind(verdict)(build)


_ZLIB = zlib.compress(np.arange(60, dtype="<i2").tobytes())
for _name, _verdict, _data, _fields in (
    ("metaimage_raw", "ok", None, {}),
    ("metaimage_packed", "ok", _ZLIB, {"CompressedData": "True", "CompressedDataSize": str(len(_ZLIB))}),
    ("metaimage_packed_without_size", "refused damaged", _ZLIB, {"CompressedData": "True"}),
    ("metaimage_packed_with_small_size", "refused damaged", _ZLIB,
     {"CompressedData": "True", "CompressedDataSize": "30"}),
    ("metaimage_packed_with_large_size", "refused damaged", _ZLIB,
     {"CompressedData": "True", "CompressedDataSize": "3000"}),
    ("metaimage_truncated", "refused damaged", b"\1" * 100, {}),
    ("metaimage_from_the_end_truncated", "refused damaged", b"\1" * 100, {"HeaderSize": "-1"}),
    ("metaimage_without_spacing", "refused no-geometry", None, {"ElementSpacing": None}),
    ("metaimage_without_offset", "refused no-geometry", None, {"Offset": None}),
    ("metaimage_without_directions", "refused no-geometry", None, {"TransformMatrix": None}),
    ("metaimage_in_microns", "refused wrong-unit", None, {"DistanceUnits": "um"}),
    ("metaimage_scaled", "refused bad-rescale", None, {"ElementToIntensityFunctionSlope": "2"}),
):  # fmt: skip
    _add_metaimage(_name, _verdict, _data, _fields)


def slice_with(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, dtype="<i2").tobytes()


RAMP = np.arange(35).reshape(7, 5)


@kind("repaired slices-interpolated")
def gap_filled(folder: Path) -> Odd:
    files = write_series(folder / "s", slices=7, PixelData=lambda i: slice_with(RAMP + 100 * i))
    truth = series_truth(files)
    for index in (2, 4, 5):
        files[index].unlink()
    return Odd(folder / "s", [truth], {"repair": "missing-slices"})


@kind("refused missing-slices")
def more_gap_than_slices(folder: Path) -> Odd:
    files = write_series(folder / "s", slices=12)
    for file in files[3:-1]:
        file.unlink()
    return Odd(folder / "s", (), {"repair": "missing-slices"})


@kind("refused uneven-slices")
def gap_of_no_whole_slices(folder: Path) -> Odd:
    write_series(folder / "s", orientation=AXIAL, ImagePositionPatient=along_z(z=lambda i: 4.0 * (i > 3)))
    return Odd(folder / "s", (), {"repair": "missing-slices"})


@kind("repaired slices-resampled")
def uneven_made_even(folder: Path) -> Odd:
    places = (0, 2, 5, 8, 9, 12)
    files = write_series(
        folder / "s",
        orientation=AXIAL,
        ImagePositionPatient=lambda i: [0, 0, places[i]],
        PixelData=lambda i: slice_with(RAMP + 100 * places[i]),
    )
    values = np.stack([(RAMP + 300 * k).T for k in range(5)], axis=2)
    affine = LPS_TO_RAS @ np.diag([0.5, 0.75, 3, 1])
    assert len(files) == 6
    return Odd(folder / "s", [volume_truth(values, affine)], {"repair": ["uneven-slices"]})


@kind("repaired duplicates-first")
def first_of_two_kept(folder: Path) -> Odd:
    files = write_series(folder / "s", ImagePositionPatient=lambda i: [0, 0, 3.0 * max(i, 1)], orientation=AXIAL)
    # Instances are numbered downwards, so the second file is the first of the two.
    return Odd(folder / "s", [series_truth(files[1:])], {"repair": "duplicate-slices"})


@kind("refused duplicate-slices")
def slices_side_by_side(folder: Path) -> Odd:
    write_series(folder / "s", ImagePositionPatient=lambda i: [i % 2, 0, 3.0 * (i // 2)], orientation=AXIAL)
    return Odd(folder / "s", (), {"repair": "duplicate-slices"})


@kind("refused duplicate-slices")
def all_at_one_place_is_no_scan(folder: Path) -> Odd:
    write_series(folder / "s", orientation=AXIAL, ImagePositionPatient=[0, 0, 0])
    return Odd(folder / "s", (), {"repair": "duplicate-slices"})


@kind("repaired tilt-resheared")
def tilt_by_whole_pixels(folder: Path) -> Odd:
    files = write_series(folder / "s", slices=4, orientation=AXIAL, ImagePositionPatient=along_z(y=lambda i: -0.75 * i))
    slices = [pydicom.dcmread(file).pixel_array for file in files]
    values = np.full((5, 10, 4), np.min(slices))
    for k, pixels in enumerate(slices):
        values[:, 3 - k : 10 - k, k] = pixels.T
    affine = LPS_TO_RAS @ np.array([[0.5, 0, 0, 0], [0, 0.75, 0, -2.25], [0, 0, 3, 0], [0, 0, 0, 1]])
    return Odd(folder / "s", [volume_truth(values, affine)], {"repair": "tilted-gantry"})


@kind("refused tilted-gantry")
def one_slice_sideways_is_no_tilt(folder: Path) -> Odd:
    write_series(folder / "s", orientation=AXIAL, ImagePositionPatient=along_z(x=lambda i: 2.0 * (i == 2)))
    return Odd(folder / "s", (), {"repair": "tilted-gantry"})


@kind("refused tilted-gantry")
def sheared_beyond_any_gantry(folder: Path) -> Odd:
    write_series(folder / "s", orientation=AXIAL, ImagePositionPatient=along_z(y=lambda i: 4.0 * i))
    return Odd(folder / "s", (), {"repair": "tilted-gantry"})


def zipped(folder: Path, *names: str, **members: bytes) -> Path:
    with zipfile.ZipFile(folder / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(folder / name, name)
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / "z.zip"


@kind("ok")
def archive_of_two(folder: Path) -> Odd:
    files = write_series(folder / "s")
    _, truth = nifti(folder, "n.nii.gz")
    names = [str(file.relative_to(folder)) for file in files]
    return Odd(zipped(folder, "n.nii.gz", *names), [truth, series_truth(files)])


@kind("refused unsafe-archive")
def archive_that_climbs(folder: Path) -> Odd:
    return Odd(zipped(folder, **{"../../evil.nii": b"x"}))


@kind("refused unsafe-archive")
def archive_with_absolute_path(folder: Path) -> Odd:
    return Odd(zipped(folder, **{"/tmp/evil.nii": b"x"}))


@kind("refused unsafe-archive")
def archive_with_link(folder: Path) -> Odd:
    link = zipfile.ZipInfo("a.nii")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    return Odd(folder / "z.zip")


@kind("refused implausible-compression")
def archive_bomb(folder: Path) -> Odd:
    return Odd(zipped(folder, **{"a.nii": bytes(80_000_000)}))


@kind("refused damaged")
def archive_cut_short(folder: Path) -> Odd:
    nifti(folder)
    file = zipped(folder, "a.nii.gz")
    file.write_bytes(file.read_bytes()[:-30])
    return Odd(file)


@kind("ok")
def csv_list(folder: Path) -> Odd:
    files = write_series(folder / "s")
    _, truth = nifti(folder)
    (folder / "list.csv").write_text("image,case,modality\na.nii.gz,anna,mr\ns,ben,\n")
    return Odd(folder / "list.csv", [truth, series_truth(files)])


@kind("ok")
def json_list(folder: Path) -> Odd:
    files = write_series(folder / "s")
    images = [str(file.relative_to(folder)) for file in files]
    (folder / "list.json").write_text(json.dumps({"scans": [{"image": images, "case": "ben"}]}))
    return Odd(folder / "list.json", [series_truth(files)])


@kind("refused bad-datalist")
def csv_without_images(folder: Path) -> Odd:
    (folder / "list.csv").write_text("file,case\na.nii.gz,anna\n")
    return Odd(folder / "list.csv")


@kind("refused bad-datalist")
def csv_with_a_case_twice(folder: Path) -> Odd:
    (folder / "list.csv").write_text("image,case\na.nii.gz,anna\nb.nii.gz,Anna\n")
    return Odd(folder / "list.csv")


@kind("refused bad-datalist")
def json_of_something_else(folder: Path) -> Odd:
    (folder / "list.json").write_text('{"a": 1}')
    return Odd(folder / "list.json")


@kind("refused missing-file")
def csv_with_a_missing_scan(folder: Path) -> Odd:
    (folder / "list.csv").write_text("image\ngone.nii.gz\n")
    return Odd(folder / "list.csv")
