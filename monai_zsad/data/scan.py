"""A scan as read, the limits within which it is read, and the checks that hold for every format."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from monai_zsad.data.codes import Repair
from monai_zsad.errors import InputError

__all__ = [
    "MAX_VOXELS",
    "MOST_TRAILING_BYTES",
    "READ_ERRORS",
    "ReadOptions",
    "Scan",
    "check_geometry",
    "check_size",
    "check_values",
    "first_line",
    "most_unpacked",
    "require_volume",
]

MAX_VOXELS = 2**29
"""Voxels of the largest volume that is read by default: 512 x 512 x 2048, 2 GiB as float32."""

MOST_TRAILING_BYTES = 1 << 12
"""Bytes after the last voxel that are ignored with a warning."""

READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What the format libraries raise on damaged files."""

_MOST_REPAIRED = 0.01
_SMALL_BYTES = 1 << 26
_MOST_COMPRESSED = 200


@dataclass
class Scan:
    """A volume as read from its files.

    Attributes:
        values: (X, Y, Z) float32; HU for CT, arbitrary units otherwise.
        affine: (4, 4) float64, voxel index to mm in RAS.
        modality: DICOM's code, or an empty string where the format does not tell.
        repairs: what was noticed and repaired.
    """

    values: np.ndarray
    affine: np.ndarray
    modality: str = ""
    repairs: list[Repair] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """One sentence per repair."""
        return [repair.sentence for repair in self.repairs]

    @property
    def warning_codes(self) -> list[str]:
        """One code per repair, in the order of :attr:`warnings`."""
        return [repair.code for repair in self.repairs]


@dataclass(frozen=True)
class ReadOptions:
    """What a reader may do, see :class:`~monai_zsad.data.ScanReader` for the arguments.

    Args:
        volume: which volume of a file of several is read, from 0; None refuses such a file.
        max_voxels: largest volume that is read.
        accept: codes of findings that become warnings.
        repair: codes of faults that are mended.
    """

    volume: int | None = None
    max_voxels: int = MAX_VOXELS
    accept: frozenset[str] = frozenset()
    repair: frozenset[str] = frozenset()

    def refuse(self, where: Path, code: str, finding: str, remedy: str) -> Repair:
        """A warning where the finding is accepted.

        Args:
            where: the file or folder.
            code: of the finding.
            finding: one sentence.
            remedy: what the user can do.

        Returns:
            The warning.

        Raises:
            InputError: where it is not.
        """
        if code in self.accept:
            return Repair(code, f"{finding}; accepted as asked for")
        anyhow = f"ScanReader(accept={code!r}), `--set accept={code}` of screen"
        raise InputError(f"{where}: {finding}; {remedy}, or read it with {anyhow}", code=code)

    def require_repair(self, where: Path, code: str, finding: str, remedy: str) -> None:
        """Go on only where the repair was asked for.

        Args:
            where: the file or folder.
            code: of the finding.
            finding: one sentence.
            remedy: what the user can do.

        Raises:
            InputError: where it was not.
        """
        if code not in self.repair:
            asked = ", ".join(repr(one) for one in sorted({*self.repair, code}))
            raise InputError(
                f"{where}: {finding}; {remedy}, or have it mended by `screen --repair {code}`, in Python by "
                f"ScanReader(repair=[{asked}])",
                code=code,
            )

    def require_size(self, where: Path, shape: Sequence[int]) -> None:
        """Refuse a volume above the limit before memory is taken.

        Args:
            where: the file or folder.
            shape: of the volume in voxels.

        Raises:
            InputError: naming the size and the limit.
        """
        voxels = math.prod(int(length) for length in shape)
        if voxels > self.max_voxels:
            raise InputError(
                f"{where}: has {_by(shape)} voxels, more than the limit of {self.max_voxels}; crop or resample it, or "
                "raise the limit with ScanReader(max_voxels=...)",
                code="too-large",
            )

    def require_plausible(self, where: Path, unpacked: int, stored: int) -> list[Repair]:
        """Refuse a compressed file that unpacks to more than 200 times its size, from 64 MiB on; scans reach 30 times.

        Args:
            where: named in the message.
            unpacked: bytes that the header declares.
            stored: bytes of the compressed file.

        Returns:
            A warning where this is accepted (masks), else nothing.

        Raises:
            InputError: naming both sizes.
        """
        if unpacked <= most_unpacked(stored):
            return []
        finding = f"its {stored} bytes unpack to {unpacked}, which no scan does"
        return [self.refuse(where, "implausible-compression", finding, "copy or export it again")]


def most_unpacked(stored: int) -> int:
    """Bytes that a compressed file of ``stored`` bytes may unpack to: 200 times as many, or 64 MiB.

    Scans reach 30 times their compressed size; only what nobody has scanned is beyond this.
    """
    return max(_SMALL_BYTES, _MOST_COMPRESSED * stored)


def check_size(path: Path, declared: int, present: int) -> list[Repair]:
    """Compare the bytes that a header declares with those that are there.

    Returns:
        A warning where a few bytes follow the last voxel, else nothing.

    Raises:
        ValueError: if voxels are missing.
        InputError: if far more is there than is declared.
    """
    if present < declared:
        raise ValueError(f"truncated: {present} of {declared} bytes")
    extra = present - declared
    if extra > MOST_TRAILING_BYTES:
        raise InputError(
            f"{path}: holds more data than its header declares ({declared} bytes); copy or export it again",
            code="size-mismatch",
        )
    return [Repair("trailing-bytes", f"{extra} bytes after the last voxel were ignored")] if extra else []


def require_volume(path: Path, shape: Sequence[int], volume: int | None = None) -> tuple[int, ...]:
    """Shape without trailing axes of length one; 3D, or 4D where one of its volumes is chosen.

    Raises:
        InputError: if it is neither, or the chosen volume does not exist.
    """
    kept = [int(size) for size in shape]
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    several = len(kept) == 4 and min(kept) > 0
    if several and volume is not None:
        if not 0 <= volume < kept[3]:
            raise InputError(
                f"{path}: has volumes 0 to {kept[3] - 1}, not volume={volume}; choose one of them",
                code="no-such-volume",
            )
        return tuple(kept)
    if len(kept) != 3 or min(kept) <= 0:
        remedy = "give one 3D volume, e.g. one time point of it"
        if several:
            remedy += ", or choose it with ScanReader(volume=0), `--set volume=0` of screen"
        raise InputError(f"{path}: is {len(kept)}-dimensional ({_by(kept)}); {remedy}", code="not-3d")
    return tuple(kept)


def check_geometry(scan: Scan, path: Path) -> None:
    """Refuse an affine that is not finite or gives voxels no volume.

    Raises:
        InputError: naming the spacing.
    """
    if not np.isfinite(scan.affine).all():
        raise InputError(
            f"{path}: its affine is not finite; export the scan again with its geometry", code="bad-affine"
        )
    lengths = np.linalg.norm(scan.affine[:3, :3], axis=0)
    if (lengths < 1e-6).any() or abs(np.linalg.det(scan.affine[:3, :3] / np.maximum(lengths, 1e-6))) < 1e-3:
        spacing = " x ".join(f"{length:g}" for length in lengths)
        raise InputError(
            f"{path}: its voxels have no volume (spacing {spacing} mm); export it with its geometry", code="bad-affine"
        )


def check_values(scan: Scan, path: Path, options: ReadOptions) -> Scan:
    """Replace few non-finite voxels by the lowest value; refuse many, whole slices of them, and constant volumes.

    Raises:
        InputError: naming the share of bad voxels, or the constant.
    """
    finite = np.isfinite(scan.values)
    bad = finite.size - int(np.count_nonzero(finite))
    if bad == finite.size:
        raise InputError(f"{path}: no voxel has a finite value; export the scan again", code="non-finite")
    if bad > _MOST_REPAIRED * finite.size:
        share = f"{100 * bad / finite.size:.1f} %"
        raise InputError(
            f"{path}: {share} of the voxels are NaN or infinite; replace them by the background's value",
            code="non-finite",
        )
    if bad and (empty := _missing_planes(finite)):
        raise InputError(
            f"{path}: no voxel of {empty} has a finite value, so these slices are missing; export the scan again",
            code="non-finite",
        )
    values, repairs = scan.values, list(scan.repairs)
    lowest = float(values.min() if bad == 0 else values[finite].min())
    if bad:
        sentence = f"{bad} NaN or infinite voxels were replaced by the lowest value, {lowest:g}"
        repairs.append(Repair("non-finite-replaced", sentence))
        values = np.where(finite, values, np.float32(lowest))
    if float(values.max()) == lowest:
        finding = f"every voxel has the value {lowest:g}, so there is nothing to see"
        repairs.append(options.refuse(path, "constant", finding, "export the scan again"))
    return Scan(values, scan.affine, scan.modality, repairs)


def _missing_planes(finite: np.ndarray) -> str:
    """Planes without any value between others; outside of them, a resampled scan often has none."""
    for axis, letter in enumerate("XYZ"):
        there = np.flatnonzero(np.any(finite, axis=tuple({0, 1, 2} - {axis})))
        lost = sorted(set(range(int(there[0]), int(there[-1]))) - set(there.tolist()))
        if lost:
            return f"{letter} = {', '.join(map(str, lost[:5]))}{' ...' if len(lost) > 5 else ''}"
    return ""


def first_line(error: BaseException, *, last: bool = False) -> str:
    """First (or last) line of an error's message, or its type where there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1 if last else 0] if lines else type(error).__name__


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(length) for length in shape)
