"""Finding and reading scans."""

from __future__ import annotations

from monai_zsad.data.anatomy import (
    Anatomy,
    PrepareAnatomy,
    PrepareAnatomyD,
    PrepareAnatomyd,
    PrepareAnatomyDict,
    anatomies,
)
from monai_zsad.data.archives import extract_archive
from monai_zsad.data.benchmarks import (
    Benchmark,
    BenchmarkCheck,
    check_benchmark,
    get_benchmark,
    known_benchmarks,
    read_benchmark,
)
from monai_zsad.data.contents import IMAGE_SUFFIXES
from monai_zsad.data.datalists import LAYOUTS, are_volumes, find_labelled, split_cases
from monai_zsad.data.dataset import ScreeningDataset
from monai_zsad.data.dicom import read_dicom
from monai_zsad.data.dicomweb import RemoteSeries, list_series, retrieve
from monai_zsad.data.dicomweb_query import DicomwebLogin, is_query
from monai_zsad.data.failures import OUT_OF_MEMORY, explain, failure_code, find_user_error
from monai_zsad.data.lesion_slices import LesionSlices
from monai_zsad.data.lesions import (
    ATTRIBUTES,
    KINDS,
    Lesion,
    LesionedImage,
    LesionedScan,
    LesionSettings,
    RandLesion,
    RandLesionD,
    RandLesiond,
    RandLesionDict,
    paint_lesions,
)
from monai_zsad.data.overview import FoundSeries, find_studies
from monai_zsad.data.phantoms import (
    Phantom,
    Tissue,
    phantom_abdomen,
    phantom_head,
    write_dicom_series,
    write_phantom,
    write_sample_scan,
)
from monai_zsad.data.pictures import (
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
from monai_zsad.data.reader import ScanReader
from monai_zsad.data.scan import MAX_VOXELS, ReadOptions, Scan
from monai_zsad.data.seeded import ResumableSampler, SeededDataset
from monai_zsad.data.slabs import SlabSettings
from monai_zsad.data.studies import find_scans
from monai_zsad.data.validation_slices import ValidationSlices
from monai_zsad.data.verdicts import ACCEPTABLE, REFUSALS, REPAIRABLE, REPAIRS, Repair

__all__ = [
    "ACCEPTABLE",
    "ATTRIBUTES",
    "Anatomy",
    "Benchmark",
    "BenchmarkCheck",
    "DicomwebLogin",
    "FoundSeries",
    "IMAGE_SUFFIXES",
    "KINDS",
    "LAYOUTS",
    "Lesion",
    "LesionSettings",
    "LesionSlices",
    "LesionedImage",
    "LesionedScan",
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
    "Phantom",
    "PrepareAnatomy",
    "PrepareAnatomyD",
    "PrepareAnatomyDict",
    "PrepareAnatomyd",
    "REFUSALS",
    "REPAIRABLE",
    "REPAIRS",
    "RandLesion",
    "RandLesionD",
    "RandLesionDict",
    "RandLesiond",
    "RandSaturation",
    "RandSaturationD",
    "RandSaturationDict",
    "RandSaturationd",
    "ReadOptions",
    "RemoteSeries",
    "Repair",
    "ResumableSampler",
    "Scan",
    "ScanReader",
    "ScreeningDataset",
    "SeededDataset",
    "SlabSettings",
    "Tissue",
    "ValidationSlices",
    "anatomies",
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
    "paint_lesions",
    "phantom_abdomen",
    "phantom_head",
    "read_benchmark",
    "read_dicom",
    "resize_mask",
    "resize_picture",
    "retrieve",
    "split_cases",
    "write_dicom_series",
    "write_phantom",
    "write_sample_scan",
]
