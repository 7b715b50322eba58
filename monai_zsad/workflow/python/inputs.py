"""What a program may give as a scan: paths, arrays with an affine, MetaTensors, images of nibabel, lists of these."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from monai_zsad.errors import ConfigurationError

if TYPE_CHECKING:
    import torch
    from monai.data import MetaTensor
    from nibabel.spatialimages import SpatialImage

    One: TypeAlias = "str | os.PathLike[str] | np.ndarray | torch.Tensor | MetaTensor | SpatialImage"
    Scans: TypeAlias = "One | Sequence[One]"

__all__ = ["TemporaryFolder", "as_path"]

_NAME = "scan"
_REMEDY = (
    "give affine=, the 4 x 4 matrix from voxel to mm in RAS, for example `image.affine` of nibabel; or "
    "np.diag([1, 1, 2, 1]) for voxels of 1 x 1 x 2 mm along x, y and z"
)


class TemporaryFolder:
    """A folder that only this user can read. It is removed with the last object that refers to this one.

    ``tempfile.TemporaryDirectory`` warns when it is removed in this way.

    Attributes:
        path: of the folder.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="monai-zsad-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def as_path(scans: Scans, affine: Any = None, name: str | None = None) -> tuple[str, TemporaryFolder | None]:
    """The path of the scans. What is no path is written to a temporary folder first.

    An array becomes a NIfTI file with the same values: so the same checks apply to arrays and to files.

    Args:
        scans: see :func:`monai_zsad.screen`.
        affine: of an array, (4, 4), from voxel to mm in RAS.
        name: of the case of an array.

    Returns:
        The path, and the folder that must live as long as the path is used.

    Raises:
        ConfigurationError: if this is nothing that can be screened, an array has no affine, or something else has one.

    Example:
        >>> as_path("scans/anna.nii.gz")
        ('scans/anna.nii.gz', None)
        >>> path, folder = as_path(np.zeros((4, 4, 3)), affine=np.eye(4), name="anna")
        >>> Path(path).name
        'anna.nii'
    """
    if isinstance(scans, str | os.PathLike):
        _refuse(affine is not None or name is not None, "affine and name are for arrays; a file has its own")
        return os.fspath(scans), None
    folder = TemporaryFolder()
    if not isinstance(scans, list | tuple):
        return str(_written(scans, affine, name, folder.path)), folder
    _refuse(affine is not None or name is not None, "affine and name are for one array; give MetaTensors in a list")
    _refuse(not scans, "the list of scans is empty; give at least one path")
    entries = [_entry(scan, folder.path, number) for number, scan in enumerate(scans, start=1)]
    listed = folder.path / "scans.json"
    listed.write_text(json.dumps(entries), encoding="utf-8")
    return str(listed), folder


def _entry(scan: Any, folder: Path, number: int) -> dict[str, str]:
    if isinstance(scan, str | os.PathLike):
        return {"image": str(Path(scan).expanduser().absolute())}
    own = folder / str(number)
    own.mkdir()
    return {"image": str(_written(scan, None, None, own))}


def _written(scan: Any, affine: Any, name: str | None, folder: Path) -> Path:
    import nibabel
    import torch
    from monai.data import MetaTensor

    if isinstance(scan, nibabel.spatialimages.SpatialImage):
        _refuse(affine is not None, "affine is for arrays; an image of nibabel has its own")
        values, affine = np.asanyarray(scan.dataobj), scan.affine
        stem = Path(scan.get_filename() or _NAME).name.partition(".")[0]
        _refuse(affine is None, f"the image of nibabel has no affine; {_REMEDY}")
    elif isinstance(scan, torch.Tensor):
        if isinstance(scan, MetaTensor):
            _refuse(affine is not None, "affine is for arrays; a MetaTensor has its own")
            affine = _in_ras(scan)
        # numpy has no bfloat16.
        plain = torch.as_tensor(scan).detach().cpu()
        values, stem = _one_channel((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()), _NAME
    elif isinstance(scan, np.ndarray):
        values, stem = scan, _NAME
        _refuse(values.ndim != 3, f"the array has the shape {values.shape}; give (X, Y, Z)")
    else:
        raise ConfigurationError(
            f"scan: a {type(scan).__name__} cannot be screened; give a path, an array with affine=, a MetaTensor, an "
            "image of nibabel, or a list of these"
        )
    _refuse(affine is None, f"affine is missing, because an array has no place in space; {_REMEDY}")
    stem = name or stem
    _refuse(Path(stem).name != stem, f"name={stem!r} cannot name a folder")
    file = folder / f"{stem}.nii"
    values = _storable(values)
    image = nibabel.Nifti1Image(values, _checked(affine), dtype=values.dtype)
    image.header.set_xyzt_units("mm")
    image.to_filename(file)
    return file


def _one_channel(values: np.ndarray) -> np.ndarray:
    fits = values.ndim == 3 or (values.ndim == 4 and values.shape[0] == 1)
    _refuse(not fits, f"the tensor has the shape {tuple(values.shape)}; give (1, X, Y, Z) or (X, Y, Z)")
    return values[0] if values.ndim == 4 else values


def _in_ras(scan: MetaTensor) -> np.ndarray:
    affine = scan.affine.detach().cpu().numpy().astype(np.float64)
    return np.diag([-1.0, -1, 1, 1]) @ affine if "LPS" in str(scan.meta.get("space")).upper() else affine


def _checked(affine: Any) -> np.ndarray:
    try:
        matrix = np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"affine={affine!r} is no matrix of numbers; {_REMEDY}") from error
    _refuse(matrix.shape != (4, 4), f"affine has the shape {matrix.shape}; {_REMEDY}")
    return matrix


def _storable(values: np.ndarray) -> np.ndarray:
    """The same values in a data type that NIfTI has."""
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype == np.float16:
        return values.astype(np.float32)
    _refuse(values.dtype.kind not in "iuf", f"the array holds {values.dtype} values; give integers or floats")
    return values


def _refuse(wrong: bool, sentence: str) -> None:
    if wrong:
        raise ConfigurationError(f"scan: {sentence}")
