"""Finding, checking and reading scans; benchmark sets."""

from __future__ import annotations

from monai_zsad.data.benchmarks import (
    Benchmark,
    BenchmarkCheck,
    check_benchmark,
    get_benchmark,
    known_benchmarks,
    read_benchmark,
)
from monai_zsad.data.benchmarks.datalists import LAYOUTS, are_volumes, find_labelled, split_cases
from monai_zsad.data.benchmarks.transforms import (
    LoadMask,
    LoadMaskD,
    LoadMaskd,
    LoadMaskDict,
    LoadPicture,
    LoadPictureD,
    LoadPictured,
    LoadPictureDict,
    RandSaturation,
    RandSaturationD,
    RandSaturationd,
    RandSaturationDict,
    resize_mask,
    resize_picture,
)
from monai_zsad.data.codes import ACCEPTABLE, CODES, REFUSALS, REPAIRABLE, REPAIRS, Code, Repair
from monai_zsad.data.dataset import ScreeningDataset
from monai_zsad.data.dicom import read_dicom
from monai_zsad.data.discovery import (
    DicomwebLogin,
    FoundSeries,
    RemoteSeries,
    extract_archive,
    find_scans,
    find_studies,
    is_query,
    list_series,
    retrieve,
)
from monai_zsad.data.failures import OUT_OF_MEMORY, explain, failure_code, find_user_error
from monai_zsad.data.formats import IMAGE_SUFFIXES
from monai_zsad.data.reader import ScanReader
from monai_zsad.data.scan import MAX_VOXELS, ReadOptions, Scan

__all__ = [
    "ACCEPTABLE",
    "CODES",
    "Benchmark",
    "BenchmarkCheck",
    "Code",
    "DicomwebLogin",
    "FoundSeries",
    "IMAGE_SUFFIXES",
    "LAYOUTS",
    "LoadMask",
    "LoadMaskD",
    "LoadMaskDict",
    "LoadMaskd",
    "LoadPicture",
    "LoadPictureD",
    "LoadPictureDict",
    "LoadPictured",
    "MAX_VOXELS",
    "OUT_OF_MEMORY",
    "REFUSALS",
    "REPAIRABLE",
    "REPAIRS",
    "RandSaturation",
    "RandSaturationD",
    "RandSaturationDict",
    "RandSaturationd",
    "ReadOptions",
    "RemoteSeries",
    "Repair",
    "Scan",
    "ScanReader",
    "ScreeningDataset",
    "are_volumes",
    "check_benchmark",
    "explain",
    "extract_archive",
    "failure_code",
    "find_labelled",
    "find_scans",
    "find_studies",
    "find_user_error",
    "get_benchmark",
    "is_query",
    "known_benchmarks",
    "list_series",
    "read_benchmark",
    "read_dicom",
    "resize_mask",
    "resize_picture",
    "retrieve",
    "split_cases",
]
