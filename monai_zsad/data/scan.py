"""A scan as read, the options of reading, and what the readers of all formats share."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from monai_zsad.data.codes import CODES, Repair, refusal

__all__ = ["MAX_VOXELS", "READ_ERRORS", "ReadOptions", "Scan", "first_line", "most_unpacked", "times"]

MAX_VOXELS = 2**29
"""Voxels of the largest volume that is read by default: 512 x 512 x 2048, 2 GiB as float32."""

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
"""Exceptions that the format libraries raise on damaged files."""

_SMALL_BYTES = 1 << 26
_MOST_COMPRESSED = 200


@dataclass
class Scan:
    """A volume as read from its files.

    Attributes:
        values: (X, Y, Z) float32; HU for CT, arbitrary units otherwise. A 2D image in true colour is (3, X, Y, 1), RGB
            from 0 to 255.
        affine: (4, 4) float64, voxel index to mm in RAS.
        modality: DICOM's code, or an empty string where the format does not tell.
        repairs: warnings: what was found, and what was repaired.
        files: files of the volume that was chosen among several; empty if no volume was chosen.
    """

    values: np.ndarray
    affine: np.ndarray
    modality: str = ""
    repairs: list[Repair] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

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
    """Options of reading, see :class:`~monai_zsad.data.ScanReader` for the arguments.

    Args:
        volume: which of several volumes is read, from 0; None refuses several volumes.
        max_voxels: largest volume that is read.
        accept: codes of findings that become warnings.
        repair: codes of faults that are repaired.
        colour: read a 2D image in true colour as three channels; False refuses it.
    """

    volume: int | None = None
    max_voxels: int = MAX_VOXELS
    accept: frozenset[str] = frozenset()
    repair: frozenset[str] = frozenset()
    colour: bool = False

    def refuse(self, where: Path, code: str, finding: str, remedy: str = "") -> Repair:
        """A warning if the finding is accepted; otherwise the scan is refused.

        Args:
            where: the file or folder.
            code: of the finding, of kind ``"acceptable"``.
            finding: one sentence.
            remedy: what the user can do; the code's own remedy if empty.

        Returns:
            The warning.

        Raises:
            InputError: if the finding is not accepted.
        """
        if code in self.accept:
            return Repair(code, f"{finding}; accepted as asked for")
        way = f"or accept it with `--set accept={code}` of screen, in Python with ScanReader(accept={code!r})"
        raise refusal(where, code, finding, f"{remedy or CODES[code].remedy}, {way}")

    def require_repair(self, where: Path, code: str, finding: str, remedy: str = "") -> None:
        """Go on only if the repair was asked for.

        Args:
            where: the file or folder.
            code: of the finding, of kind ``"repairable"``.
            finding: one sentence.
            remedy: what the user can do; the code's own remedy if empty.

        Raises:
            InputError: if the repair was not asked for.
        """
        if code not in self.repair:
            asked = ", ".join(repr(one) for one in sorted({*self.repair, code}))
            way = f"or repair it with `screen --repair {code}`, in Python with ScanReader(repair=[{asked}])"
            raise refusal(where, code, finding, f"{remedy or CODES[code].remedy}, {way}")

    def require_size(self, where: Path, shape: Sequence[int]) -> None:
        """Refuse a volume above the limit before memory is allocated.

        Args:
            where: the file or folder.
            shape: of the volume in voxels.

        Raises:
            InputError: naming the size and the limit.
        """
        voxels = math.prod(int(length) for length in shape)
        if voxels > self.max_voxels:
            finding = f"has {times(shape)} voxels, more than the limit of {self.max_voxels}"
            remedy = f"{CODES['too-large'].remedy}, or raise the limit with ScanReader(max_voxels=...)"
            raise refusal(where, "too-large", finding, remedy)

    def require_plausible(self, where: Path, unpacked: int, stored: int) -> list[Repair]:
        """Refuse a compressed file that unpacks to more than :func:`most_unpacked` bytes.

        Args:
            where: named in the message.
            unpacked: bytes that the header declares.
            stored: bytes of the compressed file.

        Returns:
            A warning where this is accepted (masks), otherwise an empty list.

        Raises:
            InputError: naming both sizes.
        """
        if unpacked <= most_unpacked(stored):
            return []
        finding = f"its {stored} bytes unpack to {unpacked} bytes, far more than any scan does"
        return [self.refuse(where, "implausible-compression", finding)]


def most_unpacked(stored: int) -> int:
    """Bytes that a compressed file of ``stored`` bytes may unpack to: 200 times as many, or 64 MiB.

    Scans reach 30 times their compressed size.
    """
    return max(_SMALL_BYTES, _MOST_COMPRESSED * stored)


def first_line(error: BaseException, *, last: bool = False) -> str:
    """First (or last) line of an error's message, or its type if the message is empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1 if last else 0] if lines else type(error).__name__


def times(shape: Sequence[int]) -> str:
    """A shape for a message, for example ``512 x 512 x 30``."""
    return " x ".join(str(length) for length in shape)
