"""Phantoms as files: NIfTI or DICOM, with their masks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from monai_zsad.errors import OutputError
from monai_zsad.synthesis.phantoms.head import phantom_head
from monai_zsad.synthesis.phantoms.model import Phantom
from monai_zsad.synthesis.phantoms.series import write_dicom_series

__all__ = ["write_phantom", "write_sample_scan"]

_NIFTI = (".nii", ".nii.gz")


def write_phantom(
    phantom: Phantom,
    path: str | os.PathLike[str],
    *,
    lesion: str | os.PathLike[str] | None = None,
    tissue: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a phantom's image as NIfTI or as a DICOM series, and its masks as NIfTI.

    Values are rounded to integers; both formats hold the same values. Masks have the grid of the phantom, and lie in
    the same place (RAS) as the image in both formats. Existing files are replaced.

    Args:
        phantom: what to write.
        path: a ``.nii`` or ``.nii.gz`` file, or the folder of a DICOM series (:func:`write_dicom_series`).
        lesion: ``.nii`` or ``.nii.gz`` file for the lesion's mask.
        tissue: ``.nii`` or ``.nii.gz`` file for the tissue classes.

    Returns:
        The path of the image.

    Raises:
        OutputError: if it cannot be written, or the name of a mask is not that of a NIfTI file.

    Example:
        >>> import tempfile
        >>> from monai_zsad.synthesis import phantom_abdomen
        >>> abdomen = phantom_abdomen((48, 40, 8), (8.0, 8.0, 20.0), contrast="t2")
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_phantom(abdomen, folder / "t2.nii.gz", lesion=folder / "lesion.nii.gz").name
        't2.nii.gz'
    """
    for name, mask in (("lesion", lesion), ("tissue", tissue)):
        if mask is not None and not _is_nifti(Path(mask)):
            raise OutputError(
                f"{name}={os.fspath(mask)!r} is not a NIfTI file: give a name that ends with .nii or .nii.gz"
            )
    target = Path(path).expanduser()
    if _is_nifti(target):
        _write_nifti(np.round(phantom.image).astype(np.int16), phantom.affine, target)
    else:
        write_dicom_series(phantom, target)
    for mask, array in ((lesion, phantom.lesion), (tissue, phantom.tissue)):
        if mask is not None:
            _write_nifti(array, phantom.affine, Path(mask).expanduser())
    return target


def write_sample_scan(folder: str | os.PathLike[str], seed: int = 0, dicom: bool = False) -> Path:
    """Write a phantom head as a sample: ``sample_flair.nii.gz``, ``sample_flair_lesion.nii.gz``, ``sample_flair.json``.

    The JSON holds the lesion's centre (RAS, mm) and radius (mm) and says that the scan is synthetic.

    Args:
        folder: is created if it does not exist; existing files of these names are replaced.
        seed: as for :func:`phantom_head`.
        dicom: write the scan as a DICOM series in the folder ``sample_flair`` instead; the mask remains NIfTI.

    Returns:
        The path of the scan: the file, or the folder of the series.

    Raises:
        OutputError: if it cannot be written.

    Example:
        >>> import tempfile
        >>> write_sample_scan(tempfile.mkdtemp()).name  # doctest: +SKIP
        'sample_flair.nii.gz'
    """
    head = phantom_head(seed=seed)
    target = Path(folder).expanduser()
    mask = target / "sample_flair_lesion.nii.gz"
    scan = write_phantom(head, target / ("sample_flair" if dicom else "sample_flair.nii.gz"), lesion=mask)
    truth = {
        "scan": scan.name,
        "lesion_mask": mask.name,
        "lesion_center_ras_mm": head.center_mm,
        "lesion_radius_mm": head.radius_mm,
        "seed": seed,
        "note": "synthetic phantom, no patient",
    }
    try:
        (target / "sample_flair.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise _cannot_write(target / "sample_flair.json", error) from error
    return scan


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(_NIFTI)


def _write_nifti(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    import nibabel

    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, path)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error}); check free space and permissions, or give another path")
