"""Formats of brain imaging: MGH of FreeSurfer, MINC, and PAR/REC of Philips scanners."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.formats.packed import file_beside, packing_of, unpack, unpacked_head, without_packing
from monai_zsad.data.formats.volumes import Kind, VolumeFile, array_proxy
from monai_zsad.data.scan import ReadOptions

__all__ = ["MGH", "MINC", "PAR_REC"]

_MGH_HEADER_BYTES = 284
_HDF5 = b"\x89HDF"
_BYTES_OF_LARGEST_VOXEL = 8
_MOST_PAR_BYTES = 1 << 26
_REC_INDEX = "index in REC file"
_LARGEST_DIFFERENCE = 0.05


def _parse_mgh(path: Path, options: ReadOptions) -> VolumeFile:  # noqa: ARG001
    from nibabel.freesurfer.mghformat import MGHHeader

    block = unpacked_head(path, _MGH_HEADER_BYTES)
    if len(block) < _MGH_HEADER_BYTES:
        raise ValueError(f"its header ends after {len(block)} bytes")
    header = MGHHeader(block)
    shape = tuple(int(length) for length in header.get_data_shape())
    if min(shape) < 1:
        raise ValueError(f"its lengths are {shape}")
    return VolumeFile(
        path=path,
        header=header,
        shape=shape,
        spacing=tuple(header.get_zooms()[:3]),
        dtype=np.dtype(header.get_data_dtype()).newbyteorder(">"),
        affine=header.get_affine,
        voxels=array_proxy(header, shape, _MGH_HEADER_BYTES),
        data=path,
        offset=_MGH_HEADER_BYTES,
        footer=True,
        block=block,
    )


def _check_mgh_geometry(file: VolumeFile, options: ReadOptions) -> list[Repair]:
    """The library takes 1 mm and FreeSurfer's usual orientation where the header states nothing."""
    if int.from_bytes(file.block[28:30], "big"):
        return []
    return [options.refuse(file.path, "no-geometry", "states no geometry (its goodRASFlag is 0)")]


def _parse_minc(path: Path, options: ReadOptions) -> VolumeFile:
    """The axes of space may stand in any place; those of time or of vectors become the last."""
    second = unpacked_head(path, 4) == _HDF5
    most_bytes = _BYTES_OF_LARGEST_VOXEL * options.max_voxels
    if path.stat().st_size > most_bytes:
        raise refusal(path, "too-large", f"has {path.stat().st_size} bytes, more than its voxels may have")
    content = None if second and not packing_of(path) else unpack(path, most_bytes)
    minc = _open_minc2(path, content) if second else _open_minc1(content)
    names = [str(name) for name in minc._dim_names]
    space = [axis for axis, name in enumerate(names) if name.endswith("space")]
    order = [*space, *(axis for axis in range(len(names)) if axis not in space)]
    if len(space) != 3:
        raise refusal(path, "not-3d", f"has {len(space)} axes of space ({', '.join(names)})")
    lengths = [int(length) for length in minc.get_data_shape()]
    zooms = minc.get_zooms()
    return VolumeFile(
        path=path,
        header=minc,
        shape=tuple(lengths[axis] for axis in order),
        spacing=tuple(zooms[axis] for axis in space),
        dtype=np.dtype(minc.get_data_dtype()),
        affine=minc.get_affine,
        voxels=lambda stream: _MincVoxels(minc, order),  # noqa: ARG005
        data=path,
        offset=None,
    )


class _MincVoxels:
    """The scaled voxels, whole or one volume of several, with the axes in another order."""

    def __init__(self, minc: Any, order: list[int]) -> None:
        self._minc, self._order = minc, order

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._minc.get_scaled_data(()).transpose(self._order), dtype=dtype)

    def __getitem__(self, index: tuple[Any, int]) -> np.ndarray:
        """Volume ``index[1]`` of a 4D file, or one slice of a 3D file."""
        axis = self._order[-1]
        chosen = tuple(index[1] if one == axis else slice(None) for one in range(len(self._order)))
        left = [one - (one > axis) for one in self._order[:-1]]
        return np.asarray(self._minc.get_scaled_data(chosen)).transpose(left)


def _open_minc1(content: io.BytesIO | None) -> Any:
    from nibabel.externals.netcdf import netcdf_file
    from nibabel.minc1 import Minc1File

    return Minc1File(netcdf_file(content))


def _open_minc2(path: Path, content: io.BytesIO | None) -> Any:
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError:
        finding = "is a MINC 2 file, which needs a package that is not installed"
        raise refusal(path, "no-codec", finding, "install h5py, or convert it to NIfTI with mnc2nii") from None
    from nibabel.minc2 import Minc2File

    file = h5py.File(path if content is None else content, "r")
    name = ""
    for part in ("minc-2.0", "image", "0", "image"):
        name = f"{name}/{part}"
        if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
            raise refusal(path, "detached-data", "its data are in another file")
    image = file[name]
    if image.external or image.is_virtual:
        raise refusal(path, "detached-data", "its data are in another file")
    return Minc2File(file)


def _check_minc_size(file: VolumeFile, options: ReadOptions) -> list[Repair]:
    return options.require_plausible(file.path, file.declared_bytes, file.path.stat().st_size)


def _check_minc_geometry(file: VolumeFile, options: ReadOptions) -> list[Repair]:
    """The library takes 1 mm and a start at 0 where the header states nothing."""
    units = {_minc_text(axis, "units") for axis in _minc_space(file)} - {""}
    if wrong := sorted(unit for unit in units if not unit.startswith(("mm", "millimet"))):
        raise refusal(file.path, "wrong-unit", f"its spacing is in {wrong[0]}, not mm")
    missing = sorted({key for axis in _minc_space(file) for key in ("step", "start") if not hasattr(axis, key)})
    if not missing:
        return []
    return [options.refuse(file.path, "no-geometry", f"its header does not state {' and '.join(missing)}")]


def _minc_space(file: VolumeFile) -> list[Any]:
    minc = file.header
    return [axis for axis, name in zip(minc._dims, minc._dim_names, strict=True) if str(name).endswith("space")]


def _minc_text(axis: Any, key: str) -> str:
    value = getattr(axis, key, b"")
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value)).strip("\0 ").lower()


def _parse_par(path: Path, options: ReadOptions) -> VolumeFile:  # noqa: ARG001
    from nibabel.parrec import PARRECArrayProxy, PARRECHeader, parse_PAR_header

    named = without_packing(path.name).lower()
    header_path = file_beside(path, ".par") if named.endswith(".rec") else path
    data = path if named.endswith(".rec") else file_beside(path, ".rec")
    if header_path is None or data is None:
        missing = "header (.par)" if header_path is None else "file of voxels (.rec)"
        raise refusal(path, "detached-data", f"its {missing} is missing", "put both files into one folder")
    text = unpack(header_path, _MOST_PAR_BYTES).read().decode("latin-1")
    with warnings.catch_warnings():
        # Names of patients may stand in them. What is missing is checked below.
        warnings.simplefilter("ignore")
        general, slices = parse_PAR_header(io.StringIO(text))
        # The library takes the order of the lines for the order of the slices in the file of voxels.
        slices = slices[np.argsort(slices[_REC_INDEX], kind="stable")]
        header = PARRECHeader(general, slices, permit_truncated=True, strict_sort=True)
    rec_shape = header.get_rec_shape()
    shape = tuple(int(length) for length in header.get_data_shape())
    return VolumeFile(
        path=path,
        header=header,
        shape=shape if rec_shape[2] == np.prod(shape[2:]) else (*shape[:2], int(rec_shape[2])),
        spacing=tuple(header.get_zooms()[:3]),
        dtype=header.get_data_dtype(),
        affine=header.get_affine,
        voxels=lambda stream: PARRECArrayProxy(stream, header, scaling="dv"),
        data=data,
    )


def _check_par_slices(file: VolumeFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    """The library leaves out the slices of volumes that are not complete."""
    header = file.header
    found = sorted({int(number) for number in header.image_defs["slice number"]})
    used = int(np.prod(header.get_data_shape()[2:]))
    if found != list(range(1, int(header.general_info["max_slices"]) + 1)) or used != len(header.image_defs):
        raise refusal(file.path, "damaged", f"lists {len(header.image_defs)} slices, which are not complete volumes")
    if not np.array_equal(header.image_defs[_REC_INDEX], np.arange(used)):
        raise refusal(file.path, "damaged", "does not list all slices of its file of voxels")
    scales = header.image_defs["rescale slope"]
    if not np.isfinite(scales).all() or not scales.all():
        raise refusal(file.path, "bad-rescale", "has a rescale slope that is zero or not finite")
    return []


def _check_par_positions(file: VolumeFile, options: ReadOptions) -> list[Repair]:
    """The library places all slices by the angles and the centre of the scan, and ignores those of each slice."""
    from nibabel.parrec import PSL_TO_RAS

    header = file.header
    listed = header.image_defs[header.get_sorted_slice_indices()]
    affine = np.asarray(header.get_affine(), dtype=np.float64)
    columns, rows = ((length - 1) / 2 for length in file.shape[:2])
    slices = listed["slice number"] - 1.0
    index = np.stack([np.full_like(slices, columns), np.full_like(slices, rows), slices, np.ones_like(slices)])
    centres = (PSL_TO_RAS[:3, :3] @ listed["image offcentre"].T).T
    apart = float(np.linalg.norm((affine @ index)[:3].T - centres, axis=1).max())
    angles = float(np.abs(listed["image angulation"] - header.general_info["angulation"]).max())
    # Both are stated with two decimals.
    if apart <= _LARGEST_DIFFERENCE * min(file.spacing) + 0.02 and angles <= _LARGEST_DIFFERENCE:
        return []
    finding = f"its slices lie up to {apart:.2f} mm and {angles:.1f} degrees from where the scan as a whole lies"
    return [options.refuse(file.path, "forms-disagree", finding, "export the scan as DICOM")]


MGH = Kind("MGH", _parse_mgh, (_check_mgh_geometry,))
"""A file of FreeSurfer."""

MINC = Kind("MINC", _parse_minc, (_check_minc_size, _check_minc_geometry))
"""A MINC file, version 1 (NetCDF) or 2 (HDF5)."""

PAR_REC = Kind("PAR/REC", _parse_par, (_check_par_slices, _check_par_positions))
"""A PAR header and a REC file with the voxels; either names the scan."""
