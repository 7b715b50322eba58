"""One reader for all scan formats. It refuses files whose positions, values or identity would be uncertain."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from monai_zsad.data.checks import CHECKS
from monai_zsad.data.codes import ACCEPTABLE, REPAIRABLE
from monai_zsad.data.dicom import read_dicom
from monai_zsad.data.scan import MAX_VOXELS, ReadOptions
from monai_zsad.data.verdict import scan_format
from monai_zsad.errors import ConfigurationError

__all__ = ["ScanReader"]

_logger = logging.getLogger(__name__)


class ScanReader(ImageReader):
    """Reads DICOM (pydicom), NIfTI, MGH, MINC, PAR/REC (nibabel), NRRD, MetaImage, PNG, JPEG, and checks them.

    MONAI's readers were not enough. Its DICOM readers accept a series with missing slices, several series or a tilted
    gantry, and return wrong positions without a warning. Its NIfTI reader does not verify the gzip checksum, so it
    loads a damaged file. Use this class as ``LoadImaged(keys="image", reader=ScanReader())``.

    The work is done in :meth:`get_data`, not in :meth:`read`: after an exception of ``read``, ``LoadImage`` would try
    MONAI's other readers, and they would read the refused file. An exception of ``get_data`` reaches the caller.

    The array is (X, Y, Z) float32 (values that it can hardly hold are scaled, and a warning is recorded), the affine
    is RAS in mm as from ``NibabelReader``. DICOM values are the modality values (rescale slope and intercept of each
    slice, HU for CT); real-world value maps, VOI windows and the presentation LUT are not applied, so MONOCHROME1 is
    never inverted (a warning is recorded). Padding outside of the field of view gets the value of the background (a
    warning is recorded). A 2D image or an X-ray is one slice whose position in space is unknown (a warning is
    recorded). Meta data: ``affine``, ``original_affine``, ``space``, ``spatial_shape``, ``original_channel_dim``,
    ``modality`` (``""`` if unknown), ``colour``, and joined by line breaks, because MONAI cannot collate lists of
    different length: ``warnings`` (sentences), ``warning_codes`` (keys of :data:`monai_zsad.data.REPAIRS`) and
    ``source_files`` (paths).

    Args:
        volume: which of several volumes to read, counted from 0: of a 4D file, of an enhanced DICOM file, or of the
            files of a DICOM series; None refuses several volumes. It has no effect on a single volume.
        max_voxels: limit of the volume's size, checked in the header before memory is allocated.
        accept: refusals that become warnings, of :data:`monai_zsad.data.ACCEPTABLE`: ``"no-rescale"`` keeps the stored
            values of CT, ``"forms-disagree"`` uses the sform, ``"no-geometry"`` uses the default affine of the library,
            ``"constant"`` and ``"implausible-compression"`` are for masks. With ``"constant"``, there is no warning
            about volumes that look like masks.
        repair: refusals of DICOM series to repair with a warning, of :data:`monai_zsad.data.REPAIRABLE`:
            ``"missing-slices"`` fills gaps of whole slices, ``"uneven-slices"`` resamples to one distance (both
            linearly along the normal), ``"duplicate-slices"`` keeps the first by InstanceNumber, ``"tilted-gantry"``
            resamples onto a right-angled grid. Interpolated slices were never measured: do not draw conclusions
            from them.
        colour: read a 2D image in true colour, such as a photograph of skin, as (3, X, Y, 1): red, green and blue from
            0 to 255, with ``colour`` ``"RGB"`` in the meta data (``""`` for grey scans). False refuses it (code
            ``"colour"``). A picture of a grey scan is read as grey (X, Y, 1) either way, see
            :func:`~monai_zsad.data.formats.read_image`.

    Raises:
        ConfigurationError: if an argument cannot be used.

    Example:
        >>> import nibabel, tempfile
        >>> from monai.transforms import LoadImaged
        >>> path = Path(tempfile.mkdtemp()) / "scan.nii.gz"
        >>> nibabel.save(nibabel.Nifti1Image(np.arange(60, dtype="int16").reshape(3, 4, 5), np.eye(4)), path)
        >>> image = LoadImaged(keys="image", reader=ScanReader(), ensure_channel_first=True)({"image": path})["image"]
        >>> tuple(image.shape), image.dtype
        ((1, 3, 4, 5), torch.float32)
    """

    def __init__(
        self,
        volume: int | None = None,
        max_voxels: int = MAX_VOXELS,
        accept: str | Sequence[str] = (),
        repair: str | Sequence[str] = (),
        colour: bool = False,
    ) -> None:
        super().__init__()
        accepted, repaired = frozenset(ensure_tuple(accept)), frozenset(ensure_tuple(repair))
        if not accepted <= ACCEPTABLE:
            raise ConfigurationError(f"accept={accept!r}: only {', '.join(sorted(ACCEPTABLE))} can be accepted")
        if not repaired <= REPAIRABLE:
            raise ConfigurationError(f"repair={repair!r}: only {', '.join(sorted(REPAIRABLE))} can be repaired")
        if volume is not None and volume < 0:
            raise ConfigurationError(f"volume={volume!r} must be 0 or more")
        if max_voxels < 1:
            raise ConfigurationError(f"max_voxels={max_voxels!r} must be 1 or more")
        self.options = ReadOptions(volume, max_voxels, accepted, repaired, bool(colour))

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:  # noqa: ARG002
        """Always true: :meth:`get_data` decides by the content."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[Path, ...]:  # noqa: ARG002
        """Paths of the file, or of the files of one DICOM series; nothing is opened yet (see the class)."""
        return tuple(Path(os.fspath(name)).expanduser() for name in ensure_tuple(data))

    def get_data(self, img: Sequence[PathLike] | PathLike) -> tuple[np.ndarray, dict[str, Any]]:
        """Read and check a scan.

        Args:
            img: what :meth:`read` returned.

        Returns:
            values (X, Y, Z) float32, and the meta data that the class lists.

        Raises:
            InputError: if the scan cannot be read, or not without guessing; it names the file, the finding and the
                remedy, and has a ``code`` of :data:`monai_zsad.data.REFUSALS`.
        """
        paths = tuple(Path(os.fspath(name)) for name in ensure_tuple(img))
        known = scan_format(paths)
        scan = read_dicom(paths, self.options) if known is None else known.read(paths[0], self.options)
        for check in CHECKS:
            scan.repairs += check(scan, paths[0], self.options)
        for warning in scan.warnings:
            _logger.warning("%s: %s", paths[0] if len(paths) == 1 else paths[0].parent, warning)
        in_colour = scan.values.ndim == 4
        return scan.values, {
            MetaKeys.AFFINE: scan.affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: scan.affine.copy(),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.asarray(scan.values.shape[-3:]),
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0 if in_colour else float("nan"),
            "colour": "RGB" if in_colour else "",
            "modality": scan.modality,
            "warnings": "\n".join(scan.warnings),
            "warning_codes": "\n".join(scan.warning_codes),
            "source_files": "\n".join(str(path) for path in scan.files or paths),
        }
