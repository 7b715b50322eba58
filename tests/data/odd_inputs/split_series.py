"""One series whose slices have a SeriesInstanceUID each, and short series that must stay apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid

from tests.data.odd_inputs.catalogue import AXIAL, Odd, kind, series_truth
from tests.data.samples import TILTED_FRAME, write_series

Field = Callable[[int], Any]


def split(folder: Path, slices: int = 6, **changes: Any) -> list[Path]:
    """A series of one frame of reference, in which every slice has a UID of its own."""
    uids = [generate_uid() for _ in range(slices)]
    return write_series(folder / "s", slices=slices, **{"SeriesInstanceUID": lambda i: uids[i], **changes})


@kind("repaired series-joined")
def uid_of_each_slice(folder: Path) -> Odd:
    return Odd(folder / "s", [series_truth(split(folder))])


@kind("repaired series-joined")
def uid_of_each_slice_as_files(folder: Path) -> Odd:
    files = split(folder)
    return Odd(files, [series_truth(files)])


@kind("repaired series-joined")
def uid_of_each_slice_with_last_digits(folder: Path) -> Odd:
    files = split(
        folder, orientation=AXIAL, SeriesDescription="T2", PixelSpacing=lambda i: [0.75, (0.5000049, 0.5000051)[i % 2]]
    )
    return Odd(folder / "s", [series_truth(files)])


@kind("refused missing-slices")
def uid_of_each_slice_with_a_gap(folder: Path) -> Odd:
    split(folder, slices=9)[4].unlink()
    return Odd(folder / "s")


@kind("refused several-patients")
def uid_of_each_slice_and_two_patients(folder: Path) -> Odd:
    split(folder, PatientID=lambda i: f"P{i // 3}")
    return Odd(folder / "s")


def sideways(index: int) -> list[float]:
    return [0, 0, (0, 3, 40, 41.7, 90, 112)[index]]


APART: dict[str, dict[str, Any]] = {
    "three_slices_of_a_uid_each": {"slices": 3},
    "two_slices_of_a_uid_each": {"slices": 2},
    "numbers_of_a_uid_each": {"SeriesNumber": lambda i: i + 1},
    "no_number_and_a_uid_each": {"SeriesNumber": None},
    "descriptions_of_a_uid_each": {"SeriesDescription": lambda i: f"slice {i}"},
    "frames_of_reference_of_a_uid_each": {"FrameOfReferenceUID": lambda i: f"1.2.{i + 1}"},
    "studies_of_a_uid_each": {"StudyInstanceUID": lambda i: f"1.2.{i + 1}"},
    "spacings_of_a_uid_each": {"PixelSpacing": lambda i: [0.5 + i / 10, 0.5]},
    "planes_of_a_uid_each": {
        "ImageOrientationPatient": lambda i: list((AXIAL, TILTED_FRAME, (0, 1, 0, 0, 0, -1))[i % 3]),
    },
    "far_places_of_a_uid_each": {"orientation": AXIAL, "ImagePositionPatient": sideways},
    "one_place_of_a_uid_each": {"orientation": AXIAL, "ImagePositionPatient": [0, 0, 0]},
}
"""What keeps slices with a UID each apart."""


def truths(files: Sequence[Path]) -> list[Any]:
    return [series_truth([file]) for file in sorted(files)]


def _add_apart(name: str, changes: dict[str, Any]) -> None:
    def build(folder: Path) -> Odd:
        return Odd(folder / "s", truths(split(folder, **changes)))

    def as_files(folder: Path) -> Odd:
        return Odd(split(folder, **changes))

    build.__name__, as_files.__name__ = name, f"{name}_as_files"
    kind("ok")(build)
    kind("refused several-series")(as_files)


for _name, _changes in APART.items():
    _add_apart(_name, _changes)


@kind("ok")
def whole_series_of_one_number(folder: Path) -> Odd:
    """Two series of several slices each are never one, even if their places follow each other."""
    same = {"FrameOfReferenceUID": "1.2.3", "StudyInstanceUID": "1.2", "SeriesNumber": 1, "slices": 3}
    files = [
        write_series(
            folder / "s", prefix=prefix, number=ord(prefix), orientation=AXIAL,
            ImagePositionPatient=lambda i, begin=begin: [0, 0, begin + 3.0 * i], **same,
        )
        for prefix, begin in (("a", 0.0), ("b", 9.0), ("c", 18.0), ("d", 27.0))
    ]  # fmt: skip
    return Odd(folder / "s", [series_truth(series) for series in files])
