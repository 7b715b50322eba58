"""Several volumes under one SeriesInstanceUID or in one enhanced file, and single volumes that look like several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from tests.data.odd_inputs.catalogue import AXIAL, Odd, Truth, kind, series_truth
from tests.data.odd_inputs.enhanced import enhanced
from tests.data.samples import CT, write_series

Change = Callable[[Dataset, int], None]
SLICES = 8


def alternating(index: int) -> int:
    return index % 2


def halves(index: int) -> int:
    return 2 * index // SLICES


def state(part: Callable[[int], int], *values: Any, key: str) -> Change:
    """Set a field to the value of the slice's volume; None leaves it out."""

    def change(ds: Dataset, index: int) -> None:
        if values[part(index)] is not None:
            setattr(ds, key, values[part(index)])

    return change


def private_b(creator: str, group: int, element: int, vr: str, *values: Any) -> Change:
    def change(ds: Dataset, index: int) -> None:
        ds.private_block(group, creator, create=True).add_new(element, vr, values[alternating(index)])

    return change


def ge_component(ds: Dataset, index: int) -> None:
    ds.private_block(0x43, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", alternating(index))


def directions(ds: Dataset, index: int) -> None:
    ds.DiffusionBValue, ds.DiffusionGradientOrientation = 1000.0, [1.0, 0, 0] if halves(index) else [0, 0.6, 0.8]


def together(ds: Dataset, places: int) -> int:
    """Move a slice to one of a few places; returns which of the slices there it is."""
    index = round(float(ds.ImagePositionPatient[2]) - 40) // 3
    ds.ImagePositionPatient = [-11, 7, 40 + 3 * (index % places)]
    return index // places


def diffusion_at_one_place(ds: Dataset, _: int) -> None:
    number = together(ds, 4)
    ds.DiffusionBValue, ds.DiffusionGradientOrientation = [
        (0.0, [0, 0, 0]),
        (995.0, [0, 0, 1.0]),
        (1003.0, [0, 1.0, 0]),
    ][number]
    ds.AcquisitionNumber = number + 1


def heart_phases(ds: Dataset, index: int) -> None:
    """Times of a beat that is not the same at each place, in a scan of one place after another."""
    ds.TriggerTime = (31.0 + index % 4 / 8) * together(ds, 4)


def unfinished_second_time(ds: Dataset, _: int) -> None:
    ds.TemporalPositionIdentifier = together(ds, 5)


CLASSIC: dict[str, tuple[int, Callable[[int], int], Change]] = {
    "b_values_alternating": (8, alternating, state(alternating, 0.0, 1000.0, key="DiffusionBValue")),
    "b_values_in_halves": (8, halves, state(halves, 0.0, 1000.0, key="DiffusionBValue")),
    "no_b_value_for_zero": (8, alternating, state(alternating, None, 800.0, key="DiffusionBValue")),
    "siemens_b_values": (8, alternating, private_b("SIEMENS MR HEADER", 0x19, 0x0C, "IS", 0, 1000)),
    "ge_b_values": (
        8,
        alternating,
        private_b("GEMS_PARM_01", 0x43, 0x39, "IS", [0, 8, 0, 0], [1000000700, 8, 0, 0]),
    ),
    "philips_b_values": (8, alternating, private_b("Philips Imaging DD 001", 0x2001, 0x03, "FL", 0.0, 1000.0)),
    "unknown_private_b_values": (
        8,
        alternating,
        private_b("Philips Imaging DD 001", 0x2001, 0x03, "UN", bytes(4), np.float32(1000).tobytes()),
    ),
    "gradient_directions": (8, lambda index: 1 - (halves(index) == 0), directions),
    "magnitude_and_phase": (
        8,
        alternating,
        state(alternating, ["ORIGINAL", "PRIMARY", "M", "ND"], ["ORIGINAL", "PRIMARY", "P", "ND"], key="ImageType"),
    ),
    "real_and_imaginary": (
        8,
        lambda index: 1 - halves(index),
        state(halves, ["DERIVED", "PRIMARY", "REAL"], ["DERIVED", "PRIMARY", "IMAGINARY"], key="ImageType"),
    ),
    "magnitude_and_phase_of_ge": (8, alternating, ge_component),
    "water_and_fat": (
        8,
        lambda index: 1 - halves(index),
        state(halves, ["DERIVED", "PRIMARY", "M", "WATER"], ["DERIVED", "PRIMARY", "M", "FAT"], key="ImageType"),
    ),
    "times_alternating": (8, alternating, state(alternating, 1, 2, key="TemporalPositionIdentifier")),
    "times_in_halves": (8, halves, state(halves, 1, 2, key="TemporalPositionIdentifier")),
    "heart_phases_alternating": (8, alternating, state(alternating, 60.0, 500.0, key="TriggerTime")),
    "echo_numbers": (8, alternating, state(alternating, 1, 2, key="EchoNumbers")),
    "echo_times": (8, halves, state(halves, 10.0, 80.0, key="EchoTime")),
    "inversion_times": (8, alternating, state(alternating, 700.0, 2500.0, key="InversionTime")),
    "flip_angles": (8, halves, state(halves, 4.0, 20.0, key="FlipAngle")),
    "before_and_after_contrast": (8, halves, state(halves, None, "Gd", key="ContrastBolusAgent")),
    "kernels": (8, halves, state(halves, "B30f", "B70f", key="ConvolutionKernel")),
    "diffusion_of_equal_places": (12, lambda index: index // 4, diffusion_at_one_place),
    "heart_phases_of_equal_places": (12, lambda index: index // 4, heart_phases),
    "second_time_unfinished": (8, lambda index: index // 5, unfinished_second_time),
}
"""Number of slices, the volume of each slice, and what is changed in it."""


def written(folder: Path, slices: int, change: Change, **options: Any) -> list[Path]:
    files = write_series(folder / "s", slices=slices, step=3, orientation=AXIAL, **options)
    for index, file in enumerate(files):
        ds = pydicom.dcmread(file)
        change(ds, index)
        ds.save_as(file)
    return files


def divided(files: Sequence[Path], part: Callable[[int], int]) -> list[list[Path]]:
    parts: dict[int, list[Path]] = {}
    for index, file in enumerate(files):
        parts.setdefault(part(index), []).append(file)
    return [parts[number] for number in sorted(parts)]


def _add_classic(name: str, slices: int, part: Callable[[int], int], change: Change) -> None:
    kernel = {"sop_class": CT, "modality": "CT"} if name == "kernels" else {}

    def in_a_folder(folder: Path) -> Odd:
        parts = divided(written(folder, slices, change, **kernel), part)
        return Odd(folder / "s", [series_truth(files) for files in sorted(parts, key=min)])

    def as_one(folder: Path) -> Odd:
        return Odd(written(folder, slices, change, **kernel))

    def last_chosen(folder: Path) -> Odd:
        files = written(folder, slices, change, **kernel)
        parts = divided(files, part)
        return Odd(files, [series_truth(parts[-1])], {"volume": len(parts) - 1})

    builds = ((in_a_folder, "repaired several-volumes-split"), (as_one, "refused several-volumes"), (last_chosen, "ok"))
    for build, verdict in builds:
        build.__name__ = f"{name}_{build.__name__}"
        kind(verdict)(build)


for _name, _classic in CLASSIC.items():
    _add_classic(_name, *_classic)


def norm_on_one(ds: Dataset, index: int) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", *(["NORM"] if index == 3 else []), "DIS2D"]


def clocks(ds: Dataset, index: int) -> None:
    ds.ContentTime = ds.AcquisitionTime = f"1011{10 + index}.5"
    ds.InstanceCreationTime, ds.ContentDate, ds.RepetitionTime = f"1012{10 + index}", "20260101", 2000 + index


def slightly_different(ds: Dataset, index: int) -> None:
    ds.EchoTime, ds.InversionTime, ds.FlipAngle = 9.98 + index / 200, 900 + index / 2, 90 + index / 20
    ds.DiffusionBValue = 998.0 + index


def all_but(missing: int, *, key: str, value: Any) -> Change:
    return lambda ds, index: setattr(ds, key, value) if index != missing else None


def of_each(values: Callable[[int], Any], *, key: str) -> Change:
    return lambda ds, index: setattr(ds, key, values(index))


def two_in_a_beat(ds: Dataset, index: int) -> None:
    ds.TriggerTime, ds.CardiacNumberOfImages = 60.0 + 440 * alternating(index), 1


_BEATS = (602.0, 600.0, 602.0, 610.0, 600.0, 602.0, 597.0, 600.0)
ORDINARY: dict[str, tuple[int, Change]] = {
    "norm_flag_on_one_slice": (8, norm_on_one),
    "acquisition_number_of_each_slice": (8, of_each(lambda i: i + 1, key="AcquisitionNumber")),
    "acquisition_numbers_of_two_packages": (8, of_each(lambda i: 1 + i % 2, key="AcquisitionNumber")),
    "trigger_time_of_each_slice": (8, of_each(lambda i: 80.0 * i, key="TriggerTime")),
    "trigger_times_of_three_slices_at_once": (18, of_each(lambda i: 90.0 * (i % 6), key="TriggerTime")),
    "trigger_times_of_two_slices_at_once": (8, of_each(lambda i: 90.0 * (i % 4), key="TriggerTime")),
    "trigger_times_of_an_uneven_heart": (8, of_each(lambda i: _BEATS[i], key="TriggerTime")),
    "trigger_time_of_another_beat": (8, of_each(lambda i: 570.0 if i < 4 else 630.0, key="TriggerTime")),
    "two_slices_in_each_beat": (8, two_in_a_beat),
    "time_of_each_slice": (8, of_each(lambda i: i + 1, key="TemporalPositionIdentifier")),
    "another_time_on_one_slice": (8, of_each(lambda i: 1 + (i == 4), key="TemporalPositionIdentifier")),
    "inversion_time_of_each_slice": (8, of_each(lambda i: 300.0 + 50 * i, key="InversionTime")),
    "inversion_times_of_two_slices_at_once": (8, of_each(lambda i: 300.0 + 50 * (i % 4), key="InversionTime")),
    "another_echo_number_on_one_slice": (8, of_each(lambda i: 1 + (i == 4), key="EchoNumbers")),
    "slightly_different_times": (8, slightly_different),
    "clocks_of_each_slice": (8, clocks),
    "one_slice_without_echo_time": (8, all_but(3, key="EchoTime", value=10.0)),
    "one_slice_without_b_value": (8, all_but(3, key="DiffusionBValue", value=1000.0)),
    "one_slice_without_component": (8, all_but(3, key="ImageType", value=["ORIGINAL", "PRIMARY", "M"])),
    "one_slice_without_contrast_agent": (8, all_but(3, key="ContrastBolusAgent", value="Gd")),
    "half_of_the_slices_without_time": (
        8,
        lambda ds, i: setattr(ds, "TemporalPositionIdentifier", 1) if i % 2 else None,
    ),
}


def _add_ordinary(name: str, slices: int, change: Change) -> None:
    def build(folder: Path) -> Odd:
        return Odd(folder / "s", [series_truth(written(folder, slices, change))])

    build.__name__ = name
    kind("ok")(build)


for _name, (_count, _change) in ORDINARY.items():
    _add_ordinary(_name, _count, _change)


@kind("refused several-volumes")
def echo_time_of_each_slice(folder: Path) -> Odd:
    written(folder, 8, of_each(lambda i: 10.0 * (i + 1), key="EchoTime"))
    return Odd(folder / "s")


@kind("refused missing-slices")
def volume_of_several_with_a_gap(folder: Path) -> Odd:
    written(folder, 14, state(alternating, 0.0, 1000.0, key="DiffusionBValue"))[6].unlink()
    return Odd(folder / "s")


@kind("refused no-such-volume")
def third_of_two_volumes(folder: Path) -> Odd:
    files = written(folder, 8, state(alternating, 0.0, 1000.0, key="DiffusionBValue"))
    return Odd(files, (), {"volume": 2})


def item(frame: Dataset, *groups: str, **values: Any) -> None:
    """Set fields of a frame in a functional group, or in a sequence inside of one."""
    for group in groups:
        if group not in frame:
            setattr(frame, group, [Dataset()])
        frame = frame[group][0]
    for key, value in values.items():
        setattr(frame, key, value)


def frame_directions(frame: Dataset, index: int) -> None:
    item(frame, "MRDiffusionSequence", DiffusionBValue=1000.0, DiffusionDirectionality="DIRECTIONAL")
    direction = [[1.0, 0, 0], [0, 1.0, 0]][alternating(index)]
    item(
        frame,
        "MRDiffusionSequence",
        "DiffusionGradientDirectionSequence",
        DiffusionGradientOrientation=direction,
    )


Frame = Callable[[Dataset, int], None]


def each(*groups: str, **values: Callable[[int], Any]) -> Frame:
    return lambda frame, index: item(frame, *groups, **{key: value(index) for key, value in values.items()})


FRAMES: dict[str, tuple[Sequence[float], Callable[[int], int], Frame]] = {
    "frames_of_two_b_values": (
        range(0, 24, 3), alternating,
        each("MRDiffusionSequence", DiffusionBValue=lambda i: 1000.0 * alternating(i)),
    ),
    "frames_of_two_directions": (range(0, 24, 3), lambda i: 1 - alternating(i), frame_directions),
    "frames_of_two_times": (
        range(0, 24, 3), halves, each("FrameContentSequence", TemporalPositionIndex=lambda i: 1 + halves(i))
    ),
    "frames_of_two_times_at_one_place": (
        [0, 0, 3, 3, 6, 6], alternating,
        each("FrameContentSequence", TemporalPositionIndex=lambda i: 1 + alternating(i)),
    ),
    "frames_of_two_echoes": (
        range(0, 24, 3), halves, each("MREchoSequence", EffectiveEchoTime=lambda i: (10.0, 80.0)[halves(i)])
    ),
    "frames_of_magnitude_and_phase": (
        range(0, 24, 3), alternating,
        each("MRImageFrameTypeSequence", ComplexImageComponent=lambda i: ("MAGNITUDE", "PHASE")[alternating(i)]),
    ),
    "frames_of_two_types": (
        range(0, 24, 3), alternating,
        each(
            "MRImageFrameTypeSequence",
            FrameType=lambda i: ["ORIGINAL", "PRIMARY", "M", ("ADC", "DIFFUSION")[alternating(i)]],
        ),
    ),
    "frames_of_two_inversion_times": (
        range(0, 24, 3), alternating,
        each("MRModifierSequence", InversionTimes=lambda i: (700.0, 2500.0)[alternating(i)]),
    ),
    "frames_of_two_heart_phases": (
        range(0, 24, 3), alternating,
        each("CardiacSynchronizationSequence", NominalCardiacTriggerDelayTime=lambda i: (60.0, 500.0)[alternating(i)]),
    ),
    "frames_of_label_and_control": (
        range(0, 24, 3), alternating,
        each("MRArterialSpinLabelingSequence", ASLContext=lambda i: ("CONTROL", "LABEL")[alternating(i)]),
    ),
}  # fmt: skip
"""Place of each frame in mm, its volume, and what is changed in its functional groups."""


def with_frames(folder: Path, places: Sequence[float], change: Frame) -> Truth:
    truth = enhanced(folder / "e", places)
    ds = pydicom.dcmread(folder / "e")
    for index, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        change(frame, index)
    pydicom.dcmwrite(folder / "e", ds)
    return truth


def of_part(truth: Truth, part: Callable[[int], int], number: int) -> Truth:
    size = 35
    kept = np.array([part(index // size) == number for index in range(len(truth[1]))])
    return truth[0][kept], truth[1][kept]


def _add_frames(name: str, places: Sequence[float], part: Callable[[int], int], change: Frame) -> None:
    def together_(folder: Path) -> Odd:
        with_frames(folder, places, change)
        return Odd(folder / "e")

    def second_chosen(folder: Path) -> Odd:
        truth = with_frames(folder, places, change)
        return Odd(folder / "e", [of_part(truth, part, 1)], {"volume": 1})

    for build, verdict in ((together_, "refused several-volumes"), (second_chosen, "ok")):
        build.__name__ = f"{name}_{build.__name__}".rstrip("_")
        kind(verdict)(build)


for _name, _frames in FRAMES.items():
    _add_frames(_name, *_frames)


@kind("ok")
def compressed_frames_of_the_second_volume(folder: Path) -> Odd:
    places, part, change = FRAMES["frames_of_two_b_values"]
    truth = with_frames(folder, places, change)
    ds = pydicom.dcmread(folder / "e")
    ds.compress(RLELossless)
    ds.save_as(folder / "e")
    return Odd(folder / "e", [of_part(truth, part, 1)], {"volume": 1})


@kind("refused no-such-volume")
def third_of_two_volumes_of_frames(folder: Path) -> Odd:
    places, _, change = FRAMES["frames_of_two_b_values"]
    with_frames(folder, places, change)
    return Odd(folder / "e", (), {"volume": 2})


def multi_frame_files(folder: Path, **fields: str) -> list[Truth]:
    """Two multi-frame files of one series, at the same places."""
    truths = []
    for name in ("a", "b"):
        truths.append(enhanced(folder / name, [0, 3, 6]))
        ds = pydicom.dcmread(folder / name)
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID, ds.StudyInstanceUID = "1.2.3", "1.2.4", "1.2.5"
        for key, value in fields.items():
            setattr(ds, key, value)
        ds.save_as(folder / name)
    return truths


@kind("repaired several-volumes-split")
def multi_frame_file_of_each_volume(folder: Path) -> Odd:
    return Odd(folder, multi_frame_files(folder))


@kind("refused several-multi-frame")
def multi_frame_files_of_one_image(folder: Path) -> Odd:
    multi_frame_files(folder, ConcatenationUID="1.2.6")
    return Odd(folder)


ORDINARY_FRAMES: dict[str, Frame] = {
    "stack_of_each_frame": each("FrameContentSequence", StackID=str, InStackPositionNumber=lambda i: 1),
    "stacks_of_two_slabs": each("FrameContentSequence", StackID=lambda i: str(1 + halves(i))),
    "time_of_each_frame": each("FrameContentSequence", TemporalPositionIndex=lambda i: i + 1),
    "delay_of_each_frame": each("CardiacSynchronizationSequence", NominalCardiacTriggerDelayTime=lambda i: 80.0 * i),
    "acquisition_of_each_frame": each(
        "FrameContentSequence", FrameAcquisitionNumber=lambda i: i + 1, FrameAcquisitionDuration=lambda i: 5.0 + i
    ),
    "slightly_different_echoes": each("MREchoSequence", EffectiveEchoTime=lambda i: 10 + i / 200),
}


def _add_ordinary_frames(name: str, change: Frame) -> None:
    def build(folder: Path) -> Odd:
        return Odd(folder / "e", [with_frames(folder, range(0, 24, 3), change)])

    build.__name__ = name
    kind("ok")(build)


for _name, _frame in ORDINARY_FRAMES.items():
    _add_ordinary_frames(_name, _frame)


@kind("ok")
def one_frame_without_b_value(folder: Path) -> Odd:
    def change(frame: Dataset, index: int) -> None:
        if index:
            item(frame, "MRDiffusionSequence", DiffusionBValue=900.0)

    return Odd(folder / "e", [with_frames(folder, range(0, 24, 3), change)])
