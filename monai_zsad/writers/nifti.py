"""Volumes as NIfTI files, with the name of their case."""

from __future__ import annotations

import io
import logging
import os
import zlib
from collections.abc import Hashable, Mapping
from typing import IO, Any

import nibabel
import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection, NdarrayOrTensor, PathLike
from monai.data import ImageWriter, MetaTensor, NibabelWriter
from monai.data.utils import to_affine_nd
from monai.transforms import Transform
from monai.utils import get_equivalent_dtype

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.result_files import CASE_FILES
from monai_zsad.writers.base import CaseLayout, CaseWriter
from monai_zsad.writers.files import atomic_path

__all__ = ["AtomicNibabelWriter", "SaveCase", "SaveCaseD", "SaveCaseDict", "SaveCased"]

_NIFTI_TYPES = ("float32", "float64", "uint8", "int16", "uint16", "int32")

_KEPT_TYPES = (torch.float32, torch.uint8, torch.int16, torch.int32)

_AS_GZIP = 16 + zlib.MAX_WBITS

_logger = logging.getLogger(__name__)


class AtomicNibabelWriter(NibabelWriter):
    """MONAI's ``NibabelWriter`` through a temporary file, so that a file under the final name is always complete.

    ``NibabelWriter`` writes under the final name: a killed run or a full disk leaves an incomplete file that looks
    like a result. This writer also works as ``SaveImaged(writer="monai_zsad.writers.AtomicNibabelWriter")``.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "map.nii.gz"
        >>> writer = AtomicNibabelWriter()
        >>> writer.set_data_array(np.zeros((2, 3, 4), dtype=np.float32), channel_dim=None)
        >>> writer.set_metadata({"affine": np.eye(4)}, resample=False)
        >>> writer.write(path)
        >>> path.is_file()
        True
    """

    def write(self, filename: PathLike, verbose: bool = False, **obj_kwargs: Any) -> None:
        """Write the volume.

        Args:
            filename: with ``.nii`` or ``.nii.gz``; its folder exists.
            verbose: log the path.
            obj_kwargs: ``header``, ``extra`` or ``file_map`` of ``nibabel.Nifti1Image``.

        Raises:
            OutputError: if the file cannot be written.
        """
        values = np.asarray(self.data_obj)
        dtype = (
            values.dtype if self.output_dtype is None else np.dtype(get_equivalent_dtype(self.output_dtype, np.ndarray))
        )
        scaled = _needs_scale(values, dtype)
        affine = to_affine_nd(3, np.eye(4) if self.affine is None else np.asarray(self.affine))
        # Not by create_backend_obj, which copies a volume whose memory is in the order of the file.
        image = nibabel.Nifti1Image(values if scaled else values.astype(dtype, copy=False), affine, **obj_kwargs)
        if scaled:
            image.set_data_dtype(dtype)  # nibabel then stores steps between the smallest and the largest value
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
        with atomic_path(os.fspath(filename)) as temporary, temporary.open("wb") as file:
            if temporary.suffix == ".gz":
                with _Compressed(file, image.get_data_dtype()) as stream:
                    image.to_stream(stream)
            else:
                image.to_stream(file)
        if verbose:
            _logger.info("wrote %s", filename)


def _needs_scale(values: np.ndarray, dtype: np.dtype) -> bool:
    """Whether integers of this type hold the values only with a slope: they are not whole numbers, or too large."""
    if dtype.kind not in "iu" or values.dtype.kind != "f" or not values.size:
        return False
    limits = np.iinfo(dtype)
    if not (limits.min <= values.min() and values.max() <= limits.max):
        return True
    # Slice by slice, as a large volume is not needed twice.
    return not all(np.array_equal(part, np.rint(part)) for part in np.moveaxis(values, 2, 0))


class _Compressed(io.RawIOBase):
    """A gzip stream without name and time, so that equal volumes give equal files.

    nibabel's own stream takes more than twice as long for a map of floats. Their last bits are noise: a search for
    repetitions takes most of the time, and makes the file less than 0.1 % smaller.
    """

    def __init__(self, file: IO[bytes], dtype: np.dtype) -> None:
        self._file = file
        strategy = zlib.Z_RLE if dtype.kind == "f" else zlib.Z_DEFAULT_STRATEGY
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, _AS_GZIP, strategy=strategy)
        self._count = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._count:
            raise io.UnsupportedOperation("a compressed file is written from its beginning to its end")
        self.write(bytes(offset - self._count))
        return self._count

    def write(self, block: Any) -> int:
        self._file.write(self._deflate.compress(block))
        size = memoryview(block).nbytes
        self._count += size
        return size

    def close(self) -> None:
        if not self.closed:
            self._file.write(self._deflate.flush())
        super().close()


class SaveCase(Transform):
    """Save a volume as ``<output_dir>/<case>/<case>_<output_postfix><output_ext>``, on its own grid.

    MONAI's ``SaveImage`` was not enough: it names files by their source (see :class:`CaseLayout`), turns the writer's
    error into a ``RuntimeError`` with a traceback as its text and no cause, and drops the last axis of a volume of one
    slice. It works with MONAI's writers in the same three steps.

    Args:
        output_dir: folder of the run.
        output_postfix: part of the file name that names the content of the file.
        output_ext: extension with its dot.
        output_dtype: type of the stored values. Values that are not whole numbers are stored in an integer type as
            steps between the smallest and the largest value, with the slope in the header (``scl_slope``). So
            ``"uint16"`` makes a map a quarter as large, and changes no value by more than 1/131070 of its range.
        writer: a ``monai.data.ImageWriter``.

    Raises:
        ConfigurationError: if NIfTI does not have the extension or the type.

    Example:
        >>> import tempfile
        >>> volume = MetaTensor(torch.zeros(1, 2, 3, 1), affine=torch.eye(4))
        >>> save = SaveCase(tempfile.mkdtemp())
        >>> _ = save(volume, "anna")
        >>> save.layout.filename(subject="anna").name
        'anomaly.nii.gz'
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str] = "./",
        output_postfix: str = CASE_FILES["anomaly_map"].postfix,
        output_ext: str = ".nii.gz",
        output_dtype: DtypeLike = np.float32,
        writer: type[ImageWriter] = AtomicNibabelWriter,
    ) -> None:
        if issubclass(writer, NibabelWriter):
            _check_nifti(output_ext, output_dtype)
        self.layout = CaseLayout(output_dir, output_postfix, output_ext, makedirs=True)
        self.output_dtype = output_dtype
        self.writer = writer

    def __call__(self, img: NdarrayOrTensor, case: str) -> NdarrayOrTensor:
        """Save the volume and return it.

        Args:
            img: (C, X, Y, Z), as a rule a ``MetaTensor`` whose affine is that of the file; one channel is written as
                a 3D volume, several channels become the last axis.
            case: id of the case.

        Returns:
            ``img`` itself.

        Raises:
            OutputError: if a value is not finite, or the file cannot be written.
        """
        values = _as_array(img)
        bad = values.size - int(np.count_nonzero(np.isfinite(values)))
        path = self.layout.filename(subject=case)
        if bad:
            raise OutputError(
                f"{path}: not written, {bad} of {values.size} values are NaN or infinite; run in float32 (amp off)"
            )
        affine = img.affine.cpu().numpy() if isinstance(img, MetaTensor) else np.eye(4)
        writer = self.writer(output_dtype=self.output_dtype)
        single = values.shape[0] == 1
        layout: dict[str, Any] = {"channel_dim": None if single else 0, "squeeze_end_dims": False}
        # Even without resampling, set_metadata makes copies of the volume as float32: it gets one voxel instead.
        writer.set_data_array(values[0, :1, :1, :1] if single else values[:, :1, :1, :1], **layout)
        writer.set_metadata({"affine": affine, "original_affine": affine}, resample=False)
        writer.set_data_array(values[0] if single else values, **layout)
        if single:
            # The writer always appends a channel axis. It cannot be switched off: the writer would then take the
            # volume for a slice, and a sagittal affine without its third axis is singular.
            writer.data_obj = writer.data_obj[..., 0]
        writer.write(path)
        _logger.info("wrote %s", path)
        return img


def _as_array(img: NdarrayOrTensor) -> np.ndarray:
    """The values; half precision as float32."""
    if not isinstance(img, torch.Tensor):
        return np.asarray(img)
    plain = img.detach().cpu()
    return (plain if plain.dtype in _KEPT_TYPES else plain.float()).numpy()


def _check_nifti(extension: str, dtype: DtypeLike) -> None:
    if extension not in (".nii", ".nii.gz"):
        raise ConfigurationError(f"output_ext is {extension!r}; give .nii or .nii.gz, or another writer")
    try:
        name = np.dtype("float32" if dtype is None else get_equivalent_dtype(dtype, np.ndarray)).name
    except (TypeError, AttributeError):
        name = ""
    if name not in _NIFTI_TYPES:
        raise ConfigurationError(f"output_dtype is {dtype!r}; give one of {', '.join(_NIFTI_TYPES)}")


class SaveCased(CaseWriter):
    """Dictionary form of :class:`SaveCase`; the case id is read from ``case_key``.

    ``SaveImaged`` sees only the tensor and its meta data, but :func:`find_scans` puts the case id into the dictionary.

    Args:
        keys: volumes to save.
        output_dir: folder of the run.
        output_postfix: one postfix for all keys, or one for each key.
        output_ext: extension with its dot.
        output_dtype: type of the stored values.
        writer: a ``monai.data.ImageWriter``.
        case_key: key of the case id.
        allow_missing_keys: skip keys that are not in the data.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = tempfile.mkdtemp()
        >>> pred = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.eye(4))
        >>> _ = SaveCased(keys="pred", output_dir=folder)({"pred": pred, "case": "anna"})
        >>> [file.name for file in Path(folder, "anna").iterdir()]
        ['anomaly.nii.gz']
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike[str] = "./",
        output_postfix: str | tuple[str, ...] = CASE_FILES["anomaly_map"].postfix,
        output_ext: str = ".nii.gz",
        output_dtype: DtypeLike = np.float32,
        writer: type[ImageWriter] = AtomicNibabelWriter,
        case_key: str = "case",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys=allow_missing_keys)
        postfixes = (output_postfix,) * len(self.keys) if isinstance(output_postfix, str) else tuple(output_postfix)
        self.savers = {
            key: SaveCase(output_dir, postfix, output_ext, output_dtype, writer)
            for key, postfix in zip(self.keys, postfixes, strict=True)
        }
        self.case_key = case_key

    def write(self, data: Mapping[Hashable, Any], key: str) -> None:
        """Save the volume of one key."""
        self.savers[key](data[key], str(data[self.case_key]))


SaveCaseD = SaveCaseDict = SaveCased
