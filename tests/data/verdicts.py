"""`info` and `screen` say the same of an input: all that headers show is checked by the same code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_zsad.data import ReadOptions, ScanReader, check_scan, find_studies
from monai_zsad.data.discovery import FoundScans
from monai_zsad.errors import InputError
from tests.data.odd_inputs import Odd

# What only the voxels show: their values, and the bits that they use.
OF_VOXELS = {"constant", "non-finite", "undecodable", "wrong-bits"}
# Codes of headers that have these kinds only because of their voxels: what is packed is unpacked when it is read.
ONLY_READING_TELLS = {
    "truncated_gz": "damaged",
    "rubbish_after_gz": "damaged",
    "fewer_slices_than_data": "size-mismatch",
    "gzip_bomb_behind_a_small_header": "size-mismatch",
    "gzip_named_nii_cut": "damaged",
    "gzip_named_nii_with_a_wrong_checksum": "damaged",
    "nifti_packed_as_xz_cut": "damaged",
    "mgz_truncated_before_packing": "damaged",
    "mgz_with_a_wrong_checksum": "damaged",
    "nrrd_bad_checksum": "damaged",
    "nrrd_cut_stream": "damaged",
    "metaimage_packed_without_size": "damaged",
    "metaimage_packed_with_small_size": "damaged",
    "metaimage_packed_with_large_size": "damaged",
    "ct_of_huge_values": "bad-rescale",
}


def verdict_of_the_headers(image: Any, options: ReadOptions) -> str:
    files = [Path(image)] if isinstance(image, str) else [Path(file) for file in image]
    try:
        check_scan(files, options)
    except InputError as error:
        return error.code
    return ""


def assert_headers_agree(
    name: str, odd: Odd, found: FoundScans | None, images: Sequence[Any], codes: Sequence[str]
) -> None:
    """The headers give the verdict of the reader, and `info` shows it.

    Args:
        name: of the kind.
        odd: the kind.
        found: the scans at its path, if it has one.
        images: files of each scan.
        codes: of the reader's refusal of each of them, or empty.
    """
    options = ScanReader(**odd.options).options
    headers = [verdict_of_the_headers(image, options) for image in images]
    for code, expected in zip(headers, codes, strict=True):
        if code or expected not in {*OF_VOXELS, ONLY_READING_TELLS.get(name)}:
            assert code == expected
    if found is not None and isinstance(odd.source, Path):
        shown = find_studies(odd.source, options=options)
        assert sorted(one.code for one in shown) == sorted([*headers, *(one.code for one in found.left_out)])
        assert all(one.is_usable is not bool(one.code) for one in shown)


def assert_info_refuses_too(source: Path, error: InputError) -> None:
    """Nothing is found: `info` raises the same, or lists everything as left out or refused."""
    try:
        shown = find_studies(source)
    except InputError as own:
        shown = []
        code = own.code
    else:
        code = error.code
    assert code == error.code
    assert not any(one.is_usable for one in shown)
