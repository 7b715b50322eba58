"""A DICOM series as one volume: what is read is decided by the headers, then the pixels are decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.dicom.files import open_dicom, require_decoder
from monai_zsad.data.dicom.headers import DicomFile, check_headers, check_length, frame_groups, is_multi_frame
from monai_zsad.data.dicom.pixels import Frame, PixelFile, linear, read_frames, repair_encoding
from monai_zsad.data.dicom.positions import arrange_frames, arrange_slices
from monai_zsad.data.dicom.resampling import Stack, require_slices, resample_stack
from monai_zsad.data.formats import one_slice
from monai_zsad.data.scan import READ_ERRORS, ReadOptions, Scan, first_line
from monai_zsad.errors import InputError

__all__ = ["check_dicom", "is_flat", "read_dicom"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_FLAT_MODALITIES = {"CR", "DX", "MG", "RG", "XA", "RF", "US", "PX", "IO", "XC", "OT", "OP"}


@dataclass(frozen=True)
class _Plan:
    """What is read.

    Attributes:
        frames: in the order of the volume, or in that of the positions in ``stack``.
        affine: (4, 4), index to mm in LPS; None for a 2D image and for what is resampled.
        stack: positions of the frames, if they have to be resampled.
        dataset: header of the first file.
        repairs: warnings.
    """

    frames: Sequence[Frame]
    affine: np.ndarray | None
    stack: Stack | None
    dataset: Any
    repairs: list[Repair]


def read_dicom(files: Sequence[Path], options: ReadOptions | None = None) -> Scan:
    """Read the files of one series, one multi-frame file, or one 2D image such as an X-ray.

    The slices are ordered along the normal of the slice plane, so index order is that of ITK and dcm2niix before its
    flip: X = columns, Y = rows, Z = slices. Values are the modality values of each slice (rescale slope and
    intercept; HU for CT). Padding outside of the field of view gets the value of the background. MONOCHROME1 only says
    how to display the values: they are never inverted, and a warning is returned.

    highdicom's ``get_volume_from_series`` was not enough: it decodes one file after another, reads several volumes as
    one, knows no padding, and keeps foreign bits in frames.

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
    where = _where(files)
    plan = _plan(files, where, options)
    try:
        scan = _read(plan, where, options)
    except READ_ERRORS as error:
        raise _irregular(where, error) from error
    if options.volume is not None:
        used = {frame.file.path for frame in plan.frames}
        scan.files = [file for file in files if file in used]
    return scan


def check_dicom(files: Sequence[Path], options: ReadOptions | None = None) -> list[Repair]:
    """Check the headers of a series as :func:`read_dicom` does, without decoding a pixel.

    Args:
        files: all files of the series, in any order.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        The warnings that reading starts with; the pixels may add others.

    Raises:
        InputError: the one that reading raises.
    """
    return _plan(files, _where(files), options or ReadOptions()).repairs


def is_flat(modality: str, has_position: bool) -> bool:
    """Whether a single-frame DICOM image is a 2D image on its own: a projection without a position in space.

    Example:
        >>> is_flat("DX", has_position=False), is_flat("CT", has_position=False)
        (True, False)
    """
    return modality in _FLAT_MODALITIES and not has_position


def _where(files: Sequence[Path]) -> Path:
    return files[0].parent if len(files) > 1 else files[0]


def _irregular(where: Path, error: BaseException) -> InputError:
    if isinstance(error, InputError):
        return error
    return refusal(where, "irregular", f"is not a regular volume ({first_line(error)})")


def _plan(files: Sequence[Path], where: Path, options: ReadOptions) -> _Plan:
    opened = [(file, *open_dicom(file, options.max_voxels)) for file in files]
    repairs = {repair.code: repair for _, _, more in opened for repair in more}
    try:
        first = opened[0][1]
        modality = str(first.get("Modality") or "")
        flat = len(files) == 1 and not is_multi_frame(first) and is_flat(modality, "ImagePositionPatient" in first)
        checked = [DicomFile(file, dataset, flat) for file, dataset, _ in opened]
        for file in checked:
            for repair in repair_encoding(file.path, file.dataset):
                repairs.setdefault(repair.code, repair)
        for repair in check_headers(checked, where, options):
            repairs.setdefault(repair.code, repair)
        for file in checked:
            require_decoder(file.dataset, file.path)
        frames, affine, stack, more = _arrange(checked, where, options)
        if stack is not None:
            require_slices(stack, where)
        for file in checked:
            check_length(file)
    except READ_ERRORS as error:
        raise _irregular(where, error) from error
    found = [*more, *repairs.values()]
    if any(str(file.dataset.get("PhotometricInterpretation")) == "MONOCHROME1" for file in checked):
        sentence = "MONOCHROME1 (low values are shown bright): the values were kept, not inverted"
        found.append(Repair("monochrome1", sentence))
    return _Plan(frames, affine, stack, first, found)


def _arrange(
    files: Sequence[DicomFile], where: Path, options: ReadOptions
) -> tuple[list[Frame], np.ndarray | None, Stack | None, list[Repair]]:
    """The frames to read, in the order of the volume; its affine, or the stack from which it is resampled."""
    first = files[0].dataset
    if files[0].flat:
        from pydicom.pixels.processing import apply_modality_lut

        return [Frame(PixelFile(files[0].path, first), 0, partial(apply_modality_lut, ds=first))], None, None, []
    if is_multi_frame(first):
        chosen, stack, repairs = arrange_frames(first, where, options)
        stated, rescales = frame_groups(first, "PlanePositionSequence"), _frame_rescales(first)
        file, measures = PixelFile(files[0].path, first), frame_groups(first, "PixelMeasuresSequence")[chosen[0]]
        frames = [Frame(file, index, rescales[index]) for index in chosen]
        groups = frame_groups(first, "PixelValueTransformationSequence")
        _require_one_rescale([groups[index] for index in chosen], where)
        places = [stated[index] for index in chosen]
        orientations = [frame_groups(first, "PlaneOrientationSequence")[0].ImageOrientationPatient]
    else:
        kept, stack, repairs = arrange_slices([file.dataset for file in files], where, options)
        _require_one_rescale(kept, where)
        paths = {id(file.dataset): file.path for file in files}
        frames = [Frame(PixelFile(paths[id(dataset)], dataset), 0, _rescale(dataset)) for dataset in kept]
        places, measures = kept, kept[0]
        orientations = [dataset.ImageOrientationPatient for dataset in kept]
    if stack is not None:
        return frames, None, stack, repairs
    positions = np.asarray([[float(value) for value in place.ImagePositionPatient] for place in places])
    orientation = Counter(tuple(float(value) for value in one) for one in orientations).most_common(1)[0][0]
    order, affine = _grid(positions, orientation, measures)
    return [frames[index] for index in order], affine, None, repairs


def _grid(positions: np.ndarray, orientation: Sequence[float], measures: Any) -> tuple[list[int], np.ndarray]:
    """The order of slices along their normal, and the affine (4, 4) from index to mm in LPS."""
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    # Sorted against the normal, and turned: the rounding of the last digit is that of earlier versions.
    against = np.cross(column, row)
    along = against @ positions.T
    order = np.argsort(along)
    spacing = measures.get("SpacingBetweenSlices", 1.0)
    if len(order) > 1:
        spacing = (along[order[-1]] - along[order[0]]) / (len(order) - 1)
    affine = np.eye(4)
    affine[:3, 0] = row * float(measures.PixelSpacing[1])
    affine[:3, 1] = column * float(measures.PixelSpacing[0])
    step = against * abs(float(spacing))
    affine[:3, 2] = -step
    affine[:3, 3] = positions[order[0]] + step * (len(order) - 1)
    return order[::-1].tolist(), affine


def _rescale(dataset: Any) -> Any:
    if "ModalityLUTSequence" in dataset:
        from pydicom.pixels.processing import apply_modality_lut

        return partial(apply_modality_lut, ds=dataset)
    return linear(_number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept"))


def _frame_rescales(dataset: Any) -> list[Any]:
    """The rescale of every frame; the one of the whole file holds only if no frame states its own."""
    groups = frame_groups(dataset, "PixelValueTransformationSequence")
    if not any(groups):
        return [_rescale(dataset)] * len(groups)
    return [linear(None, None) if group is None else _rescale(group) for group in groups]


def _require_one_rescale(stated: Sequence[Any], where: Path) -> None:
    """Refuse slices of which only some state a rescale: the others may be on another scale."""
    pairs = [
        (None, None) if one is None else (_number(one, "RescaleSlope"), _number(one, "RescaleIntercept"))
        for one in stated
    ]
    neutral = all(slope in (None, 1) and intercept in (None, 0) for slope, intercept in pairs)
    if not neutral and len({(slope is None, intercept is None) for slope, intercept in pairs}) > 1:
        finding = "only some of its slices state RescaleSlope and RescaleIntercept"
        raise refusal(where, "bad-rescale", finding)


def _number(dataset: Any, keyword: str) -> float | None:
    value = dataset.get(keyword)
    return None if value is None else float(value)


def _read(plan: _Plan, where: Path, options: ReadOptions) -> Scan:
    rows, columns, count = int(plan.dataset.Rows), int(plan.dataset.Columns), len(plan.frames)
    modality = str(plan.dataset.get("Modality") or "")
    in_units = "" if any(repair.code == "no-rescale" for repair in plan.repairs) else modality
    if plan.affine is not None:
        values = np.empty((columns, rows, count), np.float32)
        repairs = read_frames(plan.frames, values.transpose(2, 1, 0), in_units)
        return Scan(values, _LPS_TO_RAS @ plan.affine, modality, [*plan.repairs, *repairs])
    frames = np.empty((count, rows, columns), np.float32)
    repairs = [*plan.repairs, *read_frames(plan.frames, frames, in_units)]
    if plan.stack is not None:
        values, affine, more = resample_stack(frames, plan.stack, where, options)
        return Scan(values, _LPS_TO_RAS @ affine, modality, [*more, *repairs])
    stated = plan.dataset.get("PixelSpacing") or plan.dataset.get("ImagerPixelSpacing")
    spacing = (float(stated[0]), float(stated[1])) if stated and min(map(float, stated)) > 0 else None
    scan = one_slice(frames[0], spacing)
    return Scan(scan.values, scan.affine, modality, [*scan.repairs, *repairs])
