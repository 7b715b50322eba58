"""`info` and `screen` say the same of an input: all that headers show is checked by the same code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from monai_zsad.data import ReadOptions, ScanReader, check_scan, find_scans, find_studies
from monai_zsad.errors import InputError
from tests.data.odd_inputs import CATALOGUE, Odd

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


def verdict_of_the_reader(files: Sequence[Path], reader: ScanReader) -> str:
    try:
        reader.get_data(reader.read(files))
    except InputError as error:
        return error.code
    return ""


def verdict_of_the_headers(files: Sequence[Path], options: ReadOptions) -> str:
    try:
        check_scan(files, options)
    except InputError as error:
        return error.code
    return ""


def files_of(image: str | Sequence[str]) -> list[Path]:
    return [Path(image)] if isinstance(image, str) else [Path(file) for file in image]


@pytest.mark.parametrize("name", CATALOGUE)
def test_headers_give_the_verdict_of_the_reader(name: str, tmp_path: Path) -> None:
    odd: Odd = CATALOGUE[name].build(tmp_path)
    reader = ScanReader(**odd.options)
    if not isinstance(odd.source, Path):
        scans = [[Path(file) for file in odd.source]]
    else:
        try:
            found = find_scans(odd.source)
        except InputError as error:
            assert_info_refuses_too(odd.source, error)
            return
        scans = [files_of(record["image"]) for record in found]
    headers = [verdict_of_the_headers(files, reader.options) for files in scans]
    for files, code in zip(scans, headers, strict=True):
        expected = verdict_of_the_reader(files, reader)
        if code or expected not in {*OF_VOXELS, ONLY_READING_TELLS.get(name)}:
            assert code == expected
    if isinstance(odd.source, Path):
        shown = find_studies(odd.source, options=reader.options)
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
