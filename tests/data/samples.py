"""Small scans on disk for the tests of reading and screening."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR, CT, SEG, CAPTURE = (
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.7",
)
TILTED_FRAME = (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)


def write_nifti(path: Path, shape=(8, 9, 5), affine=None, dtype="int16", seed=0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 1000, shape).astype(dtype)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.5, 3.0, 1.0]) if affine is None else affine), path)
    return values


def write_series(
    folder: Path,
    slices=6,
    step=2.5,
    sop_class=MR,
    modality="MR",
    orientation=TILTED_FRAME,
    number=1,
    prefix="im",
    suffix=".dcm",
    **changes,
) -> list[Path]:
    """A DICOM series of 7 rows and 5 columns; ``changes`` are header fields, or functions of the slice's index."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    normal = np.cross(orientation[:3], orientation[3:])
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    files = []
    for index in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = sop_class
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, study, frame
        ds.PatientID, ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "P", modality, number, slices - index
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
        ds.ImagePositionPatient = [round(float(v), 6) for v in np.array([-11.0, 7.0, 40.0]) + index * step * normal]
        ds.ImageOrientationPatient = list(orientation)
        ds.PixelSpacing, ds.SliceThickness = [0.75, 0.5], step
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 7, 5, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        if modality == "CT":
            ds.RescaleSlope, ds.RescaleIntercept = 1.0 + index, -1024.0
        ds.PixelData = rng.integers(-200, 3000, (7, 5)).astype("<i2").tobytes()
        for key, value in changes.items():
            value = value(index) if callable(value) else value
            if value is None:
                delattr(ds, key)
            else:
                setattr(ds, key, value)
        path = folder / f"{prefix}{(7 * index) % slices:02d}_{index}{suffix}"
        pydicom.dcmwrite(path, ds)
        files.append(path)
    return files


def strip_mark(file: Path, implicit: bool = True) -> None:
    """Leave the bare data set of a file: no preamble, no file meta information."""
    with DicomBytesIO() as stream:
        stream.is_little_endian, stream.is_implicit_VR = True, implicit
        write_dataset(stream, Dataset(pydicom.dcmread(file)))
        file.write_bytes(stream.getvalue())
