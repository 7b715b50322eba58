"""Finding scans: in folders and archives, in lists of scans, on DICOMweb servers; and naming them as cases."""

from __future__ import annotations

from monai_zsad.data.discovery.archives import extract_archive
from monai_zsad.data.discovery.case_ids import hashed_id, safe_id, unique_ids
from monai_zsad.data.discovery.dicomweb import RemoteSeries, list_series, retrieve
from monai_zsad.data.discovery.dicomweb_query import DicomwebLogin, is_query
from monai_zsad.data.discovery.dicomweb_store import SentObject, store_results
from monai_zsad.data.discovery.left_out import FoundScans, LeftOut, search_mark, with_ids
from monai_zsad.data.discovery.overview import FoundSeries, find_studies
from monai_zsad.data.discovery.scan_lists import LIST_SUFFIXES, read_scan_list
from monai_zsad.data.discovery.studies import find_scans, require_path

__all__ = [
    "LIST_SUFFIXES",
    "DicomwebLogin",
    "FoundScans",
    "FoundSeries",
    "LeftOut",
    "RemoteSeries",
    "SentObject",
    "extract_archive",
    "find_scans",
    "find_studies",
    "hashed_id",
    "is_query",
    "list_series",
    "read_scan_list",
    "require_path",
    "retrieve",
    "safe_id",
    "search_mark",
    "store_results",
    "unique_ids",
    "with_ids",
]
