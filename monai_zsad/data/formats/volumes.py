"""What the formats that nibabel reads have in common: the checks of a header, then its voxels to the last byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.checks import check_size, require_affine, require_volume
from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.formats.packed import UNPACK_ERRORS, open_unpacked, packing_of, read_to_end
from monai_zsad.data.scan import ReadOptions, Scan, first_line
from monai_zsad.data.value_range import to_float32
from monai_zsad.errors import InputError

__all__ = ["Kind", "VolumeFile", "array_proxy"]

_MOST_FOOTER_BYTES = 1 << 26


@dataclass(frozen=True)
class VolumeFile:
    """A file whose header was read.

    Attributes:
        path: of the file that has the header.
        header: its fields as nibabel reads them.
        shape: in voxels, with the three axes of space first.
        spacing: along these axes, as the header states it beside its affine.
        dtype: of a stored voxel.
        affine: gives (4, 4), voxel index to mm in RAS.
        voxels: gives nibabel's array proxy from the stream of the data.
        data: the file that has the voxels.
        offset: byte at which they start; None if the size was checked when the header was read.
        footer: whether other data may follow the voxels.
        block: the bytes of the header, where a check needs them.
    """

    path: Path
    header: Any
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    dtype: np.dtype
    affine: Callable[[], np.ndarray]
    voxels: Callable[[Any], Any]
    data: Path
    offset: int | None = 0
    footer: bool = False
    block: bytes = b""

    @property
    def declared_bytes(self) -> int:
        """Size of the unpacked data as the header declares it."""
        return (self.offset or 0) + math.prod(self.shape) * self.dtype.itemsize


Check = Callable[[VolumeFile, ReadOptions], list[Repair]]
"""A check of a header. It returns warnings, or raises InputError."""


def array_proxy(header: Any, shape: tuple[int, ...], offset: int) -> Callable[[Any], Any]:
    """How the voxels are read where they lie in one block: from a stream, scaled as the header says."""

    def voxels(stream: Any) -> Any:
        from nibabel.arrayproxy import ArrayProxy

        scale = header.get_slope_inter()
        slope, intercept = (neutral if one is None else one for one, neutral in zip(scale, (1.0, 0.0), strict=True))
        return ArrayProxy(stream, (shape, header.get_data_dtype(), offset, slope, intercept))

    return voxels


@dataclass(frozen=True)
class Kind:
    """A format of volumes.

    Attributes:
        name: for messages.
        parse: reads the header of a file.
        checks: of the header, beside those that hold for every format.
    """

    name: str
    parse: Callable[[Path, ReadOptions], VolumeFile]
    checks: tuple[Check, ...] = ()

    def read(self, path: Path, options: ReadOptions) -> Scan:
        """Read and check a file.

        Args:
            path: of the file.
            options: see :class:`~monai_zsad.data.ScanReader`.

        Returns:
            The scan, scaled as its header says.

        Raises:
            InputError: if the file is damaged, too large, not one volume of real numbers, or of uncertain geometry.
        """
        with self._refusing(path):
            file, shape, repairs = self._checked(path, options)
            with open_unpacked(file.data) as stream:
                voxels = file.voxels(stream)
                stored = np.asanyarray(voxels if len(shape) == 3 else voxels[..., options.volume])
                values, found = to_float32(stored.reshape(shape[:3]))
                if file.offset is not None and packing_of(file.data):
                    repairs += _compare_size(file, read_to_end(stream, file.declared_bytes + _footer(file)))
            return Scan(values, np.asarray(file.affine(), dtype=np.float64), "", repairs + found)

    def check(self, path: Path, options: ReadOptions) -> list[Repair]:
        """All checks of the header and of the file's size, as reading does them; no voxel is read.

        Args:
            path: of the file.
            options: see :class:`~monai_zsad.data.ScanReader`.

        Returns:
            The warnings.

        Raises:
            InputError: the one that reading raises.
        """
        with self._refusing(path):
            return self._checked(path, options)[2]

    def geometry(self, path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Shape in voxels and spacing in mm, from the header alone.

        Args:
            path: of the file.

        Returns:
            Both.

        Raises:
            InputError: if the file does not have a valid header.
        """
        with self._refusing(path):
            file = self.parse(path, ReadOptions())
            lengths = np.linalg.norm(np.asarray(file.affine(), dtype=np.float64)[:3, :3], axis=0)
        return file.shape, tuple(round(float(length), 4) for length in lengths)

    @contextmanager
    def open(self, path: Path) -> Iterator[tuple[tuple[int, ...], np.dtype, Any]]:
        """Shape, type and nibabel's array proxy of the voxels, without the checks; the file is open meanwhile.

        Args:
            path: of the file.

        Raises:
            InputError: if the file cannot be read.
        """
        with self._refusing(path):
            file = self.parse(path, ReadOptions())
            with open_unpacked(file.data) as stream:
                yield file.shape, file.dtype, file.voxels(stream)

    def _checked(self, path: Path, options: ReadOptions) -> tuple[VolumeFile, tuple[int, ...], list[Repair]]:
        file = self.parse(path, options)
        shape = require_volume(path, file.shape, options.volume)
        repairs = [repair for check in (*_FIRST, *self.checks, *_LAST) for repair in check(file, options)]
        return file, shape, repairs

    @contextmanager
    def _refusing(self, path: Path) -> Iterator[None]:
        from nibabel.filebasedimages import ImageFileError
        from nibabel.freesurfer.mghformat import MGHError
        from nibabel.minc1 import MincError
        from nibabel.parrec import PARRECError
        from nibabel.spatialimages import HeaderDataError

        try:
            if path.stat().st_size == 0:
                raise refusal(path, "empty-file", "is empty")
            yield
        except (ImageFileError, HeaderDataError, MGHError, MincError, PARRECError, *UNPACK_ERRORS) as error:
            if isinstance(error, InputError):
                raise
            finding = f"is damaged or is not a {self.name} file ({first_line(error, last=True)})"
            raise refusal(path, "damaged", finding) from error


def _check_voxel_type(file: VolumeFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    if file.dtype.kind not in "iuf":
        raise refusal(file.path, "not-real", f"holds {file.dtype} voxels")
    return []


def _check_declared_size(file: VolumeFile, options: ReadOptions) -> list[Repair]:
    options.require_size(file.path, file.shape[:3])
    if not packing_of(file.data):
        return []
    return options.require_plausible(file.path, file.declared_bytes, file.data.stat().st_size)


def _check_stored_size(file: VolumeFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    """The size of a packed file is known only when it was read to its end."""
    if file.offset is None or packing_of(file.data):
        return []
    return _compare_size(file, file.data.stat().st_size)


def _compare_size(file: VolumeFile, present: int) -> list[Repair]:
    declared = file.declared_bytes
    return check_size(file.path, declared, declared if declared < present <= declared + _footer(file) else present)


def _footer(file: VolumeFile) -> int:
    return _MOST_FOOTER_BYTES if file.footer else 0


def _check_affine(file: VolumeFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    require_affine(np.asarray(file.affine(), dtype=np.float64), file.path)
    return []


_FIRST: tuple[Check, ...] = (_check_voxel_type, _check_declared_size)
_LAST: tuple[Check, ...] = (_check_affine, _check_stored_size)
