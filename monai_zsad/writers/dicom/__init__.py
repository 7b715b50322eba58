"""Results as DICOM objects: Segmentation, Parametric Map, Structured Report, Secondary Capture."""

from __future__ import annotations

from monai_zsad.writers.dicom.capture import dicom_capture
from monai_zsad.writers.dicom.parametric_map import dicom_parametric_map
from monai_zsad.writers.dicom.report import dicom_report
from monai_zsad.writers.dicom.segmentation import dicom_segmentation
from monai_zsad.writers.dicom.source import SourceSeries, read_source
from monai_zsad.writers.dicom.transforms import KINDS, SaveDicom, SaveDicomD, SaveDicomd, SaveDicomDict

__all__ = [
    "KINDS",
    "SaveDicom",
    "SaveDicomD",
    "SaveDicomDict",
    "SaveDicomd",
    "SourceSeries",
    "dicom_capture",
    "dicom_parametric_map",
    "dicom_report",
    "dicom_segmentation",
    "read_source",
]
