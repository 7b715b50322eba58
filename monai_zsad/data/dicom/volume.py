"""A DICOM series as one volume, read with highdicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.dicom.files import open_dicom, require_decodable, require_decoder
from monai_zsad.data.dicom.headers import DicomFile, check_headers, frame_groups, is_multi_frame
from monai_zsad.data.dicom.positions import arrange_frames, arrange_slices
from monai_zsad.data.dicom.resampling import LARGEST_JITTER, Stack, resample_stack
from monai_zsad.data.formats import one_slice
from monai_zsad.data.scan import READ_ERRORS, ReadOptions, Scan, first_line
from monai_zsad.errors import InputError

__all__ = ["is_flat", "read_dicom"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_FLAT_MODALITIES = {"CR", "DX", "MG", "RG", "XA", "RF", "US", "PX", "IO", "XC", "OT", "OP"}


def read_dicom(files: Sequence[Path], options: ReadOptions | None = None) -> Scan:
    """Read the files of one series, one multi-frame file, or one 2D image such as an X-ray.

    The slices are ordered along the normal of the slice plane, so index order is that of ITK and dcm2niix before its
    flip: X = columns, Y = rows, Z = slices. Values are the modality values of each slice (rescale slope and
    intercept; HU for CT). MONOCHROME1 only says how to display the values: they are never inverted, and a warning is
    returned.

    Args:
        files: all files of the series, in any order.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        The scan, with its modality and the warnings.

    Raises:
        InputError: names the series and what is wrong: a file without pixels, missing, duplicate or unevenly spaced
            slices, mixed orientation, patients or sizes, tilted gantry, colour, missing geometry, CT without rescale.
    """
    options = options or ReadOptions()
    where = files[0].parent if len(files) > 1 else files[0]
    datasets = [open_dicom(file, options.max_voxels) for file in files]
    try:
        return _read(datasets, files, where, options)
    except READ_ERRORS as error:
        if isinstance(error, InputError):
            raise
        for dataset, file in zip(datasets, files, strict=True):
            require_decodable(dataset, file)
        raise refusal(where, "irregular", f"is not a regular volume ({first_line(error)})") from error


def is_flat(modality: str, has_position: bool) -> bool:
    """Whether a single-frame DICOM image is a 2D image on its own: a projection without a position in space.

    Example:
        >>> is_flat("DX", has_position=False), is_flat("CT", has_position=False)
        (True, False)
    """
    return modality in _FLAT_MODALITIES and not has_position


def _read(datasets: list[Any], files: Sequence[Path], where: Path, options: ReadOptions) -> Scan:
    first = datasets[0]
    modality = str(first.get("Modality") or "")
    flat = len(files) == 1 and not is_multi_frame(first) and is_flat(modality, "ImagePositionPatient" in first)
    checked = [DicomFile(file, dataset, flat) for dataset, file in zip(datasets, files, strict=True)]
    repairs = check_headers(checked, where, options)
    for dataset, file in zip(datasets, files, strict=True):
        require_decoder(dataset, file)
    scan = _read_flat(first) if flat else _read_stack(datasets, where, options)
    if any(str(ds.get("PhotometricInterpretation")) == "MONOCHROME1" for ds in datasets):
        sentence = "MONOCHROME1 (low values are shown bright): the values were kept, not inverted"
        repairs.append(Repair("monochrome1", sentence))
    return Scan(scan.values, scan.affine, modality, [*scan.repairs, *repairs])


def _read_stack(datasets: list[Any], where: Path, options: ReadOptions) -> Scan:
    import highdicom

    values = {"dtype": np.float32, "apply_presentation_lut": False, "apply_real_world_transform": False}
    if is_multi_frame(datasets[0]):
        stack, repairs = arrange_frames(datasets[0], where, options)
        _drop_outer_rescale(datasets[0])
        image = highdicom.image.Image.from_dataset(datasets[0], copy=False)
        if stack is not None:
            return _resampled(image.get_frames(**values), stack, where, options, repairs)
        volume = image.get_volume(rtol=LARGEST_JITTER, **values)
    else:
        kept, stack, repairs = arrange_slices(datasets, where, options)
        if stack is not None:
            images = [highdicom.image.Image.from_dataset(dataset, copy=False) for dataset in kept]
            frames = np.stack([image.get_frames(**values)[0] for image in images])
            return _resampled(frames, stack, where, options, repairs)
        for dataset in kept:
            # The checks allow small differences, but highdicom asks for equal spacings.
            dataset.PixelSpacing = kept[0].PixelSpacing
        volume = highdicom.image.get_volume_from_series(kept, rtol=LARGEST_JITTER, orientation_tol=1e-4, **values)
    return Scan(*_as_index_order(volume), repairs=repairs)


def _drop_outer_rescale(dataset: Any) -> None:
    """The rescale of the frames is the valid one; highdicom would prefer one of the whole file, if there is one."""
    if not any(frame_groups(dataset, "PixelValueTransformationSequence")):
        return
    for key in ("RescaleSlope", "RescaleIntercept"):
        if key in dataset:
            delattr(dataset, key)


def _resampled(frames: np.ndarray, stack: Stack, where: Path, options: ReadOptions, repairs: Sequence[Repair]) -> Scan:
    values, affine, more = resample_stack(frames, stack, where, options)
    return Scan(values, _LPS_TO_RAS @ affine, repairs=[*repairs, *more])


def _as_index_order(volume: Any) -> tuple[np.ndarray, np.ndarray]:
    """Highdicom returns (slice, row, column) in LPS, with the slices in the opposite direction of the normal."""
    values = np.ascontiguousarray(volume.array[::-1].transpose(2, 1, 0))
    affine = np.asarray(volume.affine, dtype=np.float64).copy()
    affine[:3, 3] += affine[:3, 0] * (volume.array.shape[0] - 1)
    affine[:3, 0] *= -1
    return values, _LPS_TO_RAS @ affine[:, [2, 1, 0, 3]]


def _read_flat(dataset: Any) -> Scan:
    from pydicom.pixels.processing import apply_modality_lut

    values = np.asarray(apply_modality_lut(dataset.pixel_array, dataset), dtype=np.float32)
    stated = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    spacing = (float(stated[0]), float(stated[1])) if stated and min(map(float, stated)) > 0 else None
    return one_slice(values, spacing)
