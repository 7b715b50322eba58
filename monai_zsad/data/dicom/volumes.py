"""Volumes of one DICOM series or enhanced file: which slices belong together, decided by values and positions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_zsad.data.codes import CODES, refusal
from monai_zsad.data.dicom.volume_keys import KEYS, Key, Value
from monai_zsad.data.scan import ReadOptions

__all__ = ["SAME_PLACE_MM", "Volumes", "choose_volume", "find_volumes", "normal_to"]

SAME_PLACE_MM = 0.01
"""Slices that are nearer to each other than this along their normal lie at one place."""

_SAME_DIRECTION = 0.02
_NEAR = 0.05
_SAME_PHASE_MS = 20.0
_SAME_PHASE = 0.2
_MOST_PHASES = 4
_Slices = Sequence[tuple[Value, ...]]


@dataclass(frozen=True)
class Volumes:
    """Volumes among slices.

    Attributes:
        parts: indices of the slices of each volume, ordered by the values that tell the volumes apart.
        keys: names of these values, of :data:`KEYS`; empty if there is one volume.
        mixed: of each part, names of the contrasts that still differ: one slice of each cannot be divided.
    """

    parts: list[list[int]]
    keys: tuple[str, ...]
    mixed: list[tuple[str, ...]]


def normal_to(orientation: Sequence[float] | np.ndarray) -> np.ndarray:
    """Normal of a slice, (3,), from the six numbers of its ImageOrientationPatient."""
    axes = np.asarray([float(value) for value in orientation])
    return np.asarray(np.cross(axes[:3], axes[3:]))


def find_volumes(places: Sequence[float], values: _Slices) -> Volumes:
    """Divide slices into volumes.

    Two b values, echo times, or magnitude and phase are two volumes, wherever their slices lie. Other fields divide
    slices only in groups of several slices, because scanners also write a number of each slice into them: a trigger
    time or acquisition number for each slice is one volume. Slices at one place are divided by any of these fields if
    that gives volumes that are largely complete.

    Args:
        places: of the slices along their normal, in mm.
        values: of each slice, see :func:`~monai_zsad.data.dicom.volume_keys.file_values`.

    Returns:
        The volumes. If one of them is divided again, it is one volume.

    Example:
        >>> from pydicom import Dataset
        >>> from monai_zsad.data.dicom.volume_keys import file_values
        >>> slices = [Dataset() for _ in range(6)]
        >>> for index, one in enumerate(slices):
        ...     one.DiffusionBValue, one.AcquisitionNumber = (0, 1000)[index % 2], index
        >>> found = find_volumes([0, 3, 6, 9, 12, 15], [file_values(one) for one in slices])
        >>> found.parts, found.keys
        ([[0, 2, 4], [1, 3, 5]], ('DiffusionBValue',))
    """
    return _Division(_numbered(places), places, values).result()


def choose_volume(found: Volumes, where: Path, options: ReadOptions) -> list[int] | None:
    """Indices of the slices to read, or None for all.

    Args:
        found: among the slices.
        where: of the series, or the file of all slices; named in messages.
        options: with the volume that was asked for.

    Raises:
        InputError: if there are several volumes and none of them was chosen.
    """
    last = len(found.parts) - 1
    if last and options.volume is None:
        finding = f"holds {last + 1} volumes, which differ in {', '.join(found.keys)}"
        way = f"choose one, from 0 to {last}, with `--set volume=0` of screen, in Python with ScanReader(volume=0)"
        folders = "" if where.is_file() else f"{CODES['several-volumes'].remedy}, or "
        raise refusal(where, "several-volumes", finding, folders + way)
    number = options.volume or 0 if last else 0
    if number > last:
        raise refusal(where, "no-such-volume", f"has the volumes 0 to {last}, not volume={number}")
    if found.mixed[number]:
        finding = f"holds slices of several volumes, which differ in {', '.join(found.mixed[number])}"
        raise refusal(where, "several-volumes", finding)
    return found.parts[number] if last else None


def _numbered(places: Sequence[float]) -> list[int]:
    """The number of the place of every slice, counted along the normal."""
    order = np.argsort(places, kind="stable")
    steps = np.diff(np.asarray(places, dtype=float)[order]) >= SAME_PLACE_MM
    numbers = np.empty(len(order), int)
    numbers[order] = np.concatenate([[0], np.cumsum(steps)])[: len(order)]
    return numbers.tolist()


class _Division:
    """Recursive division of slices; ``at`` is the number of each slice's place."""

    def __init__(self, at: list[int], places: Sequence[float], values: _Slices) -> None:
        self.at, self.places, self.values = at, places, values
        self.keys: list[str] = []

    def result(self) -> Volumes:
        parts = self.divide(list(range(len(self.at))))
        keys = tuple(dict.fromkeys(key.name for key in KEYS if key.name in self.keys))
        return Volumes(parts, keys, [self.mixed(part) for part in parts])

    def mixed(self, indices: list[int]) -> tuple[str, ...]:
        contrasts = [(number, key) for number, key in enumerate(KEYS) if key.rule == "contrast"]
        return tuple(key.name for number, key in contrasts if len(self.groups(key, number, indices)) > 1)

    def divide(self, indices: list[int]) -> list[list[int]]:
        for number, key in enumerate(KEYS):
            groups = self.groups(key, number, indices)
            if len(groups) > 1 and self.is_needed(key, groups):
                self.keys.append(key.name)
                return [part for group in groups for part in self.divide(group)]
        return self.phases(indices) or [indices]

    def groups(self, key: Key, number: int, indices: list[int]) -> list[list[int]]:
        """Slices of equal value, in the order of the values; slices without a value come first."""
        stated = [index for index in indices if self.values[index][number] is not None]
        absent = [index for index in indices if self.values[index][number] is None]
        groups = _equal(stated, [self.values[index][number] for index in stated], key)
        if key.rule == "trigger" and not self.meet(groups):
            groups = _nearby(stated, [self.values[index][number] for index in stated])
        if not absent or not groups:
            return groups or [absent]
        beside = [group for group in groups if not self.meet([group, absent])]
        fitting = [group for group in beside if self.fits(group, absent)]
        if len(absent) == 1 and len(fitting) == 1:
            fitting[0] += absent
        elif len(groups) == 1 and beside and not (key.absence and min(len(absent), len(groups[0])) > 1):
            groups[0] += absent
        else:
            groups = [absent, *groups]
        return groups

    def meet(self, groups: list[list[int]]) -> bool:
        """Whether slices of two groups lie at one place."""
        places = [{self.at[index] for index in group} for group in groups]
        return sum(map(len, places)) > len(set().union(*places))

    def fits(self, group: list[int], others: list[int]) -> bool:
        """Whether the first of some slices fills a gap in a group, or continues it."""
        along = np.unique([self.places[index] for index in group])
        if len(along) < 2:
            return False
        step = float(np.diff(along).min())
        away = (self.places[others[0]] - along[0]) / step
        inside = -1 - _NEAR <= away <= (along[-1] - along[0]) / step + 1 + _NEAR
        return bool(inside and abs(away - round(away)) < _NEAR)

    def is_needed(self, key: Key, groups: list[list[int]]) -> bool:
        sizes = [len(group) for group in groups]
        places = [len({self.at[index] for index in group}) for group in groups]
        everywhere = len({self.at[index] for group in groups for index in group})
        if everywhere == 1:
            return True
        together = self.meet(groups)
        if key.rule == "contrast":
            return max(sizes) > 1
        if key.rule == "place" or (key.rule == "trigger" and together):
            return together and 2 * min(places) >= everywhere
        if key.rule == "trigger":
            return len(groups) <= _MOST_PHASES and min(sizes) > max(2, len(groups)) and all(map(self.is_even, groups))
        several = [size for size in sizes if size > 1]
        if len(several) < 2:
            return False
        # One value for each pair of slices is written by scanners that excite two slices at once.
        return together or (2 * sum(several) > sum(sizes) and (len(groups) == 2 or sum(sizes) >= 3 * len(groups)))

    def is_even(self, group: list[int]) -> bool:
        """Whether the distances of slices are equal."""
        steps = np.diff(np.sort([self.places[index] for index in group]))
        return bool(np.ptp(steps) <= _NEAR * steps.mean())

    def phases(self, indices: list[int]) -> list[list[int]]:
        """Phases of a heart beat, whose times differ from place to place: the first, the second ... of each place."""
        number = next(number for number, key in enumerate(KEYS) if key.rule == "trigger")
        times: defaultdict[int, list[tuple[float, int]]] = defaultdict(list)
        for index in indices:
            time = self.values[index][number]
            if not isinstance(time, float):
                return []
            times[self.at[index]].append((time, index))
        counts = Counter(len(of_place) for of_place in times.values())
        distinct = all(len({time for time, _ in of_place}) == len(of_place) for of_place in times.values())
        if len(counts) != 1 or 1 in counts or not distinct:
            return []
        self.keys.append(KEYS[number].name)
        return [sorted(phase) for phase in zip(*([i for _, i in sorted(one)] for one in times.values()), strict=True)]


def _equal(indices: list[int], values: Sequence[Value], key: Key) -> list[list[int]]:
    groups: list[tuple[Value, list[int]]] = []
    for value, index in sorted(zip(values, indices, strict=True), key=lambda pair: (_order(pair[0]), pair[1])):
        known = groups if isinstance(value, tuple) else groups[-1:]
        match = next((group for first, group in known if _same(first, value, key.tolerance)), None)
        if match is None:
            groups.append((value, [index]))
        else:
            match.append(index)
    return [sorted(group) for _, group in groups]


def _order(value: Value) -> tuple[str, float, tuple[float, ...], str]:
    if isinstance(value, float):
        return ("a", value, (), "")
    return ("b", 0.0, value, "") if isinstance(value, tuple) else ("c", 0.0, (), str(value))


def _same(one: Value, other: Value, tolerance: float) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= tolerance * max(abs(one), abs(other))
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return all(abs(a - b) <= _SAME_DIRECTION for a, b in zip(one, other, strict=True))
    return one == other


def _nearby(indices: list[int], values: Sequence[Value]) -> list[list[int]]:
    """Slices of about the same time in the heart beat, as it varies from beat to beat."""
    groups: list[list[int]] = []
    last = 0.0
    times = [(value, index) for value, index in zip(values, indices, strict=True) if isinstance(value, float)]
    for time, index in sorted(times):
        if not groups or time - last > max(_SAME_PHASE_MS, _SAME_PHASE * time):
            groups.append([])
        groups[-1].append(index)
        last = time
    return [sorted(group) for group in groups]
