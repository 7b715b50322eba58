"""A phantom as a DICOM series of a fictitious patient."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.utils import orientation_ras_lps

from monai_zsad.errors import OutputError
from monai_zsad.synthesis.phantoms.model import Phantom

__all__ = ["write_dicom_series"]

_CT, _MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
_CT_INTERCEPT = -1024
_AXIS_MM = 1e-4
# Axis codes (column index, row index, slice index) that viewers expect, by the axis of the slices.
_USUAL = {"S": "LPS", "I": "LPS", "R": "PIR", "L": "PIR", "A": "LIP", "P": "LIP"}
# Repetition, echo and inversion time in ms, and echo train length, of plausible sequences.
_TIMING: dict[str, tuple[float, float, float | None, int]] = {
    "flair": (9000.0, 120.0, 2500.0, 27),
    "t1": (500.0, 10.0, None, 1),
    "t2": (4500.0, 100.0, None, 15),
}


def write_dicom_series(phantom: Phantom, folder: str | os.PathLike[str]) -> Path:
    """Write a phantom as a DICOM series: one CT or MR image file per slice of its third axis.

    Rows and columns of a slice run as radiologists expect (axial slices: columns to the patient's left, rows to the
    back). For this the array is flipped or transposed, but not interpolated; an oblique affine is kept. CT is stored
    with a rescale intercept of -1024, MR without rescale; values are rounded.

    The patient is ``PHANTOM^<anatomy>``, marked as a quality control subject and, in the comments, as synthetic. The
    same phantom always gets the same UIDs. Contrasts of one anatomy and seed are series of one study in one frame of
    reference.

    Args:
        phantom: what to write.
        folder: folder for this series only. It is created if it does not exist, and replaced if it holds only a series
            of a phantom.

    Returns:
        The folder.

    Raises:
        OutputError: if the folder holds other files or cannot be written, or the affine is sheared.

    Example:
        >>> import tempfile
        >>> from monai_zsad.synthesis import phantom_head
        >>> head = phantom_head((32, 32, 3), (6.0, 6.0, 30.0), lesion=False, contrast="ct")
        >>> sorted(file.name for file in write_dicom_series(head, Path(tempfile.mkdtemp()) / "ct").iterdir())
        ['slice_0001.dcm', 'slice_0002.dcm', 'slice_0003.dcm']
    """
    target = Path(folder).expanduser()
    datasets = _datasets(phantom)
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target}: is a file; give a folder for the DICOM series")
    if target.is_dir():
        foreign = sorted(file.name for file in target.iterdir() if not file.match("slice_[0-9]*.dcm"))
        if foreign:
            raise OutputError(f"{target}: holds other files ({foreign[0]}); give an empty or new folder")
    # The series is written to a temporary folder and moved when it is complete, so a series never lacks slices.
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}.{target.name}")
    try:
        temporary.mkdir(parents=True)
        for number, dataset in enumerate(datasets, start=1):
            dataset.save_as(temporary / f"slice_{number:04d}.dcm", enforce_file_format=True)
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error}); check free space and permissions, or give another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _datasets(phantom: Phantom) -> list[Any]:
    values, affine = _as_displayed(phantom.image, phantom.affine)
    ct = phantom.contrast == "ct"
    stored = np.clip(np.round(values) - (_CT_INTERCEPT if ct else 0), 0, 65535).astype("<u2")
    lps = orientation_ras_lps(affine)
    digest = hashlib.sha256(stored.tobytes() + lps.round(6).tobytes()).hexdigest()
    common = _series_header(phantom, digest, stored, lps)
    return [_slice(common, digest, stored[:, :, k], lps, k) for k in range(stored.shape[2])]


def _as_displayed(image: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The array with axes (columns, rows, slices) in the usual directions, and its affine (RAS)."""
    from nibabel.orientations import (
        aff2axcodes,
        apply_orientation,
        axcodes2ornt,
        inv_ornt_aff,
        io_orientation,
        ornt_transform,
    )

    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    if not np.allclose(directions.T @ directions, np.eye(3), atol=_AXIS_MM):
        raise OutputError("the phantom's affine is sheared, which a DICOM series cannot express; resample it first")
    wanted = axcodes2ornt(tuple(_USUAL[aff2axcodes(affine)[2]]))
    change = ornt_transform(io_orientation(affine), wanted)
    return apply_orientation(image, change), affine @ inv_ornt_aff(change, image.shape)


def _series_header(phantom: Phantom, digest: str, stored: np.ndarray, lps: np.ndarray) -> Any:
    """The attributes that all slices share."""
    from pydicom.dataset import Dataset

    ct = phantom.contrast == "ct"
    patient = f"{phantom.anatomy}-{phantom.seed}"
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if ct else "OTHER"]
    ds.SOPClassUID = _CT if ct else _MR
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20000101"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "120000"
    ds.AccessionNumber = ""
    ds.Modality = "CT" if ct else "MR"
    ds.Manufacturer = "monai-zsad"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Synthetic phantom, no patient"
    ds.SeriesDescription = f"Phantom {phantom.anatomy} {phantom.contrast}"
    ds.PatientName = f"PHANTOM^{phantom.anatomy.upper()}"
    ds.PatientID = f"PHANTOM-{patient}".upper()
    ds.PatientBirthDate = ""
    ds.PatientSex = "O"
    ds.QualityControlSubject = "YES"
    ds.BodyPartExamined = phantom.anatomy.upper()
    ds.ImageComments = "Synthetic phantom, no patient"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = _uid("study", patient)
    ds.SeriesInstanceUID = _uid("series", patient, digest)
    # A rotated patient lies in another position, so the frame of reference is another one.
    turn = (lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)).round(4) + 0.0
    ds.FrameOfReferenceUID = _uid("frame", patient, turn.tobytes().hex())
    ds.PositionReferenceIndicator = ""
    ds.StudyID = "1"
    ds.SeriesNumber = 1 + ("ct", "t1", "t2", "flair", "random").index(phantom.contrast)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Columns, ds.Rows = stored.shape[:2]
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    ds.PixelSpacing = _decimals([spacing[1], spacing[0]])
    (ds.SliceThickness,) = _decimals(spacing[2:])
    ds.ImageOrientationPatient = _decimals((lps[:3, :2] / spacing[:2]).T.ravel())
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    if ct:
        ds.KVP, ds.AcquisitionNumber = "120", 1
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = _CT_INTERCEPT, 1, "HU"
        ds.WindowCenter, ds.WindowWidth = ("40", "80") if phantom.anatomy == "head" else ("60", "400")
    else:
        repetition, echo, inversion, train = _TIMING.get(phantom.contrast, _TIMING["t1"])
        ds.ScanningSequence = ["SE", "IR"] if inversion else "SE"
        ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "NONE" if train == 1 else "SK", "", "2D"
        ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = repetition, echo, train
        if inversion:
            ds.InversionTime = inversion
        (ds.SpacingBetweenSlices,) = _decimals(spacing[2:])
        ds.WindowCenter, ds.WindowWidth = "500", "1000"
    return ds


def _slice(common: Any, digest: str, stored: np.ndarray, lps: np.ndarray, index: int) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    ds = Dataset()
    ds.update(common)
    ds.SOPInstanceUID = _uid("instance", digest, str(index))
    ds.InstanceNumber = index + 1
    ds.ImagePositionPatient = _decimals(lps[:3, 3] + index * lps[:3, 2])
    ds.PixelData = stored.T.tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _uid(*sources: str) -> Any:
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=["monai-zsad phantom", *(f"/{source}" for source in sources)])


def _decimals(numbers: Sequence[float] | np.ndarray) -> list[Any]:
    """Numbers as DICOM's decimal strings of up to 16 characters."""
    from pydicom.valuerep import DSfloat

    # Adding 0 turns -0 into 0.
    return [DSfloat(round(float(number), 12) + 0.0, auto_format=True) for number in numbers]
