"""One reader for every scan format, which refuses what would change position, value or identity."""

from __future__ import annotations

import gzip
import logging
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from monai_zsad.data.dicom import read_dicom
from monai_zsad.errors import InputError

__all__ = ["Scan", "ScanReader"]

_logger = logging.getLogger(__name__)
_MOST_REPAIRED = 0.01


@dataclass
class Scan:
    """A volume as read from its files.

    Attributes:
        values: (X, Y, Z) float32; HU for CT, arbitrary units otherwise.
        affine: (4, 4) float64, voxel index to mm in RAS.
        modality: DICOM's code, or an empty string where the format does not tell.
        warnings: what was noticed and repaired, one sentence each.
    """

    values: np.ndarray
    affine: np.ndarray
    modality: str = ""
    warnings: list[str] = field(default_factory=list)


class ScanReader(ImageReader):
    """Reads DICOM (highdicom), NIfTI (nibabel), NRRD and MetaImage (MONAI's ``ITKReader``), and checks what it read.

    MONAI's readers were not enough: its DICOM readers accept a series with missing slices, several series or a tilted
    gantry and return wrong positions without a word; its NIfTI reader does not verify the gzip checksum, so a damaged
    file is loaded. For use as ``LoadImaged(keys="image", reader=ScanReader())``.

    The work is done in :meth:`get_data`: ``LoadImage`` answers an exception of ``read`` by trying MONAI's other
    readers, which would read the very file that was refused here; what ``get_data`` raises reaches the caller.

    The array is (X, Y, Z) float32, the affine is RAS in mm as from ``NibabelReader``. DICOM values are the modality
    values (rescale slope and intercept of each slice, HU for CT); real-world value maps, VOI windows and the
    presentation LUT are not applied, so MONOCHROME1 is never inverted (a warning is recorded). Meta data:
    ``affine``, ``original_affine``, ``space``, ``spatial_shape``, ``original_channel_dim``, ``modality`` (``""`` if
    unknown) and ``warnings`` (sentences joined by line breaks: MONAI cannot collate lists of differing length).

    Example:
        >>> import nibabel, tempfile
        >>> from monai.transforms import LoadImaged
        >>> path = Path(tempfile.mkdtemp()) / "scan.nii.gz"
        >>> nibabel.save(nibabel.Nifti1Image(np.arange(60, dtype="int16").reshape(3, 4, 5), np.eye(4)), path)
        >>> image = LoadImaged(keys="image", reader=ScanReader(), ensure_channel_first=True)({"image": path})["image"]
        >>> tuple(image.shape), image.dtype
        ((1, 3, 4, 5), torch.float32)
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:  # noqa: ARG002
        """Always true: the content decides, in :meth:`get_data`."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[Path, ...]:  # noqa: ARG002
        """Note the file, or the files of one DICOM series; nothing is opened yet (see the class)."""
        return tuple(Path(os.fspath(name)).expanduser() for name in ensure_tuple(data))

    def get_data(self, img: Sequence[PathLike] | PathLike) -> tuple[np.ndarray, dict[str, Any]]:
        """Read and check a scan.

        Args:
            img: what :meth:`read` returned.

        Returns:
            values (X, Y, Z) float32, and the meta data that the class lists.

        Raises:
            InputError: if the scan cannot be read, or not without guessing; names the file, the finding, the remedy.
        """
        paths = tuple(Path(os.fspath(name)) for name in ensure_tuple(img))
        scan = _read(paths)
        _check_geometry(scan, paths[0])
        scan = _check_values(scan, paths[0])
        for warning in scan.warnings:
            _logger.warning("%s", warning)
        return scan.values, {
            MetaKeys.AFFINE: scan.affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: scan.affine.copy(),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.asarray(scan.values.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
            "modality": scan.modality,
            "warnings": "\n".join(scan.warnings),
        }


def _read(paths: tuple[Path, ...]) -> Scan:
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: does not exist; give the path of a scan")
    name = paths[0].name.lower()
    if len(paths) == 1 and name.endswith((".nii", ".nii.gz")):
        return _read_nifti(paths[0])
    if len(paths) == 1 and name.endswith((".nrrd", ".nhdr", ".mha", ".mhd")):
        return _read_itk(paths[0])
    if len(paths) == 1 and paths[0].is_dir():
        raise InputError(f"{paths[0]}: is a folder; list its scans with monai_zsad.data.find_scans first")
    values, affine, modality, warnings = read_dicom(paths)
    return Scan(values, affine, modality, warnings)


def _read_nifti(path: Path) -> Scan:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image = nibabel.load(path)
        if path.name.lower().endswith(".gz"):
            _verify_gzip(path)
        shape = _without_trailing_ones(image.shape)
        _require_volume(path, shape)
        if image.header.get_data_dtype().kind not in "iuf":
            raise InputError(
                f"{path}: holds {image.header.get_data_dtype()} voxels; give a scan with one real number per voxel"
            )
        unit = image.header.get_xyzt_units()[0]
        if unit not in ("mm", "unknown"):
            raise InputError(f"{path}: its spacing is in {unit}, not mm; write it with a spacing in mm")
        values = np.asanyarray(image.dataobj).astype(np.float32).reshape(shape)
        return Scan(values, np.asarray(image.affine, dtype=np.float64))
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: damaged or no NIfTI ({_line(error)}); copy or export it again") from error


def _verify_gzip(path: Path) -> None:
    """Read to the end of the stream, where length and checksum stand; nibabel stops after the last voxel."""
    with gzip.open(path) as stream:
        while stream.read(1 << 22):
            pass


def _read_itk(path: Path) -> Scan:
    from monai.data import ITKReader

    _refuse_detached_data(path)
    reader = ITKReader()
    try:
        image = reader.read(path)
        components = int(image.GetNumberOfComponentsPerPixel())
        values, meta = reader.get_data(image)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read ({_line(error)}); copy or export it again") from error
    if components != 1:
        raise InputError(f"{path}: has {components} values per voxel; give a scan with one real number per voxel")
    shape = _without_trailing_ones(values.shape)
    _require_volume(path, shape)
    return Scan(values.astype(np.float32).reshape(shape), np.asarray(meta[MetaKeys.ORIGINAL_AFFINE], dtype=np.float64))


def _refuse_detached_data(path: Path) -> None:
    """A header may name any file of the machine as its data; only a plain name beside the header is followed."""
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    for line in head.split(b"\n\n")[0].splitlines():
        key, _, value = line.replace(b"=", b":").partition(b":")
        target = value.strip().decode(errors="replace")
        if key.strip().lower() not in (b"data file", b"datafile", b"elementdatafile"):
            continue
        if target.upper() == "LOCAL":
            return
        if Path(target).name != target or target.upper().startswith("LIST"):
            raise InputError(f"{path}: its data lie in another file ({target}); write the scan as one file")
        if not (path.parent / target).is_file():
            raise InputError(f"{path}: its data file {target} is missing; put it beside the header")


def _without_trailing_ones(shape: Sequence[int]) -> tuple[int, ...]:
    kept = [int(size) for size in shape]
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    return tuple(kept)


def _require_volume(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or 0 in shape:
        size = " x ".join(str(length) for length in shape)
        raise InputError(f"{path}: is {len(shape)}-dimensional ({size}); give one 3D volume, e.g. one time point of it")


def _check_geometry(scan: Scan, path: Path) -> None:
    if not np.isfinite(scan.affine).all():
        raise InputError(f"{path}: its affine is not finite; export the scan again with its geometry")
    lengths = np.linalg.norm(scan.affine[:3, :3], axis=0)
    if (lengths < 1e-6).any() or abs(np.linalg.det(scan.affine[:3, :3] / np.maximum(lengths, 1e-6))) < 1e-3:
        spacing = " x ".join(f"{length:g}" for length in lengths)
        raise InputError(f"{path}: its voxels have no volume (spacing {spacing} mm); export it with its geometry")


def _check_values(scan: Scan, path: Path) -> Scan:
    finite = np.isfinite(scan.values)
    bad = finite.size - int(np.count_nonzero(finite))
    if bad == 0:
        return scan
    if bad == finite.size:
        raise InputError(f"{path}: no voxel has a finite value; export the scan again")
    if bad > _MOST_REPAIRED * finite.size:
        share = f"{100 * bad / finite.size:.1f} %"
        raise InputError(f"{path}: {share} of the voxels are NaN or infinite; replace them by the background's value")
    lowest = float(scan.values[finite].min())
    warning = f"{path}: {bad} NaN or infinite voxels were replaced by the lowest value, {lowest:g}"
    values = np.where(finite, scan.values, np.float32(lowest))
    return Scan(values, scan.affine, scan.modality, [*scan.warnings, warning])


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
