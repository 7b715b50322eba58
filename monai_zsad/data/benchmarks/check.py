"""Checking that a benchmark set is complete and readable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.benchmarks.readers import case_of, class_of, load_values, locate
from monai_zsad.data.benchmarks.registry import Benchmark, get_benchmark
from monai_zsad.data.benchmarks.trees import Found, is_volume
from monai_zsad.errors import InputError

__all__ = ["BenchmarkCheck", "check_benchmark"]


@dataclass(frozen=True)
class BenchmarkCheck:
    """Result of :func:`check_benchmark`; files are named by their paths in the folder.

    Attributes:
        benchmark: the set.
        folder: the checked folder.
        layout: of the folder.
        part: the checked part of the set.
        counts: numbers of normal and anomalous images, by class.
        expected: numbers of normal, anomalous and all images; ``None`` if they are not known.
        missing_classes: classes of the set without any image.
        unknown_classes: classes that the set does not have.
        missing_images: images that are listed, but do not exist.
        missing_masks: anomalous images whose mask is not listed or does not exist, if the set has masks.
        empty_masks: anomalous images with an empty mask.
        unreadable: reasons, by file.
        wrong_sizes: sizes of the image and its mask, by image.
    """

    benchmark: Benchmark
    folder: str
    layout: str
    part: str
    counts: Mapping[str, tuple[int, int]]
    expected: tuple[int | None, int | None, int | None]
    missing_classes: tuple[str, ...]
    unknown_classes: tuple[str, ...]
    missing_images: tuple[str, ...]
    missing_masks: tuple[str, ...]
    empty_masks: tuple[str, ...]
    unreadable: Mapping[str, str]
    wrong_sizes: Mapping[str, str]

    @property
    def found(self) -> tuple[int, int, int]:
        """Numbers of normal, anomalous and all images."""
        normal = sum(pair[0] for pair in self.counts.values())
        abnormal = sum(pair[1] for pair in self.counts.values())
        return normal, abnormal, normal + abnormal

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each kind of finding; empty if the set is complete, as far as its numbers are known."""
        kinds = list(zip(("normal", "anomalous", "all images"), self.found, self.expected, strict=True))
        if None not in self.expected:
            # The number of all images is only their sum.
            kinds.pop()
        sentences = [
            f"{kind}: {number} found, {wanted} expected"
            for kind, number, wanted in kinds
            if wanted is not None and number != wanted
        ]
        for what, files in (
            ("classes without images", self.missing_classes),
            ("classes that the set does not have", self.unknown_classes),
            ("images that are listed but do not exist", self.missing_images),
            ("anomalous images without a mask", self.missing_masks),
            ("anomalous images with an empty mask", self.empty_masks),
            ("files that cannot be read", tuple(self.unreadable.values())),
            (
                "masks whose size differs from that of their image",
                tuple(f"{k} ({v})" for k, v in self.wrong_sizes.items()),
            ),
        ):
            if files:
                more = f"; and {len(files) - 3} more" if len(files) > 3 else ""
                sentences.append(f"{len(files)} {what}: {'; '.join(files[:3])}{more}")
        return tuple(sentences)

    def as_dict(self) -> dict[str, Any]:
        """The attributes for JSON, with ``found`` and ``problems``."""
        return asdict(self) | {
            "benchmark": self.benchmark.name,
            "found": self.found,
            "problems": self.problems,
            "complete": not self.problems,
        }


def check_benchmark(
    name: str, folder: str | os.PathLike[str], *, layout: str = "auto", part: str = "test", read: bool = True
) -> BenchmarkCheck:
    """Compare a folder with the known facts of a set, and read its files.

    Args:
        name: see :func:`read_benchmark`, as all but ``read``.
        folder: with the set.
        layout: of the folder.
        part: of the set; expected numbers are known only for ``"test"``.
        read: read every image and mask; otherwise only check that they exist (masks of volumes and KolektorSDD are
            always read, because the labels come from them).

    Returns:
        The findings.

    Raises:
        ConfigurationError: if the name, the layout or the part is unknown.
        InputError: if the folder does not hold images of the set.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for kind in ("no", "yes"):
        ...     (root / kind).mkdir()
        ...     (root / kind / "1.jpg").touch()
        >>> check_benchmark("br35h", root, read=False).problems[0]
        'normal: 1 found, 1500 expected'
    """
    benchmark = get_benchmark(name)
    root = Path(folder).expanduser()
    found_layout, found = locate(benchmark, root, layout, part)
    counts: dict[str, list[int]] = {}
    notes = _Findings(root, benchmark, read)
    for item in found:
        label = notes.look_at(item)
        counts.setdefault(class_of(benchmark, item), [0, 0])[label] += 1
    same_images = not (benchmark.repackaged and found_layout in ("meta", "mvtec"))
    known = part.lower() == "test" and same_images
    classes = set(benchmark.classes)
    return BenchmarkCheck(
        benchmark=benchmark,
        folder=str(root),
        layout=found_layout,
        part=part,
        counts={key: (normal, abnormal) for key, (normal, abnormal) in sorted(counts.items())},
        expected=(benchmark.normal, benchmark.abnormal, benchmark.images) if known else (None, None, None),
        missing_classes=tuple(sorted(classes - counts.keys())),
        unknown_classes=tuple(sorted(counts.keys() - classes)) if classes else (),
        missing_images=tuple(notes.missing_images),
        missing_masks=tuple(notes.missing_masks),
        empty_masks=tuple(notes.empty_masks),
        unreadable=notes.unreadable,
        wrong_sizes=notes.wrong_sizes,
    )


class _Findings:
    """Collects the faults of single images."""

    def __init__(self, root: Path, benchmark: Benchmark, read: bool) -> None:
        self.root = root
        self.has_masks = benchmark.has_masks
        self.read = read
        self.missing_images: list[str] = []
        self.missing_masks: list[str] = []
        self.empty_masks: list[str] = []
        self.unreadable: dict[str, str] = {}
        self.wrong_sizes: dict[str, str] = {}

    def look_at(self, item: Found) -> int:
        """Note the faults of an image and its mask, and return the label."""
        case = case_of(item.image, self.root)
        there = item.image.is_file()
        if not there:
            self.missing_images.append(case)
        size = self._size(item.image) if there and self.read else None
        if item.anomalous == 0:
            return 0
        if item.mask is None or not item.mask.is_file():
            if self.has_masks or item.mask is not None:
                self.missing_masks.append(case)
            return 1 if item.anomalous > 0 else 0
        if not self.read and item.anomalous > 0:
            return 1
        values = self._values(item.mask)
        if values is None:
            return 1
        outlined = bool((values > 0).any())
        if item.anomalous > 0 and not outlined:
            self.empty_masks.append(case)
        mask_size = _size(values, item.mask)
        if size is not None and mask_size != size:
            self.wrong_sizes[case] = f"{_shown(size)}, its mask {_shown(mask_size)}"
        return 1 if item.anomalous > 0 else int(outlined)

    def _size(self, path: Path) -> tuple[int, ...] | None:
        values = self._values(path)
        return None if values is None else _size(values, path)

    def _values(self, path: Path) -> np.ndarray | None:
        try:
            return load_values(path)
        except InputError as error:
            self.unreadable[case_of(path, self.root)] = str(error)
            return None


def _size(values: np.ndarray, path: Path) -> tuple[int, ...]:
    """Size in space: X, Y, Z of a volume, or columns and rows of a 2D image."""
    return tuple(values.shape[:3]) if is_volume(path) else (values.shape[1], values.shape[0])


def _shown(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
