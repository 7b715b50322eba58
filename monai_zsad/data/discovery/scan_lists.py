"""Lists of scans in CSV, JSON and Parquet files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_zsad.data.codes import refusal
from monai_zsad.errors import ConfigurationError, InputError

__all__ = ["LIST_SUFFIXES", "ListedScan", "read_scan_list"]

LIST_SUFFIXES = (".csv", ".tsv", ".json", ".parquet")
"""Endings (lower case) of files that list scans."""

_EXPECTED = 'a column or key "image" (a path), and optionally "case" and "modality"'


@dataclass(frozen=True)
class ListedScan:
    """One entry of a list.

    Attributes:
        images: a volume file, a folder with one DICOM series, or the files of one.
        case: id as given, or an empty string.
        modality: DICOM's code as given, or an empty string.
    """

    images: tuple[Path, ...]
    case: str = ""
    modality: str = ""


def read_scan_list(path: Path) -> list[ListedScan]:
    r"""Read a CSV file with a header line, a JSON list of objects (or an object with one list), or a Parquet file.

    A Parquet file needs pyarrow.

    Args:
        path: of the list; relative paths in it are relative to its folder.

    Returns:
        Its entries, in order.

    Raises:
        ConfigurationError: if the list is a Parquet file and pyarrow is not installed.
        InputError: naming the entry that cannot be used.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "scans.csv"
        >>> _ = file.write_text("image,case\nanna/flair.nii.gz,anna\n")
        >>> read_scan_list(file)[0].case
        'anna'
    """
    try:
        rows = _rows(path)
    except ConfigurationError:
        raise
    except (OSError, ValueError, TypeError, csv.Error, RecursionError) as error:
        raise _unusable(path, str(error)) from error
    if not rows:
        raise _unusable(path, "no entries")
    return [_entry(row, f"entry {number}", path) for number, row in enumerate(rows, start=1)]


def _rows(path: Path) -> list[Any]:
    if path.suffix.lower() == ".parquet":
        return _parquet_rows(path)
    text = path.read_text(encoding="utf-8-sig")
    return _json_rows(text) if path.suffix.lower() == ".json" else _csv_rows(text)


def _parquet_rows(path: Path) -> list[Any]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigurationError(
            f"{path}: a Parquet file needs pyarrow; run pip install 'monai-zsad[parquet]', or give a CSV or JSON list"
        ) from error
    # `read_table` would add a column for a folder such as "year=2024". Damaged files raise ArrowInvalid, a ValueError.
    table = parquet.ParquetFile(path).read()
    return [{str(key).strip().lower(): value for key, value in row.items()} for row in table.to_pylist()]


def _csv_rows(text: str) -> list[Any]:
    head = text.splitlines()[0] if text else ""
    delimiter = max(",;\t", key=head.count)
    return [
        {str(key).strip().lower(): value for key, value in row.items() if key is not None}
        for row in csv.DictReader(text.splitlines(), delimiter=delimiter)
    ]


def _json_rows(text: str) -> list[Any]:
    content = json.loads(text)
    if isinstance(content, Mapping):
        lists = [value for value in content.values() if isinstance(value, list)]
        if len(lists) != 1:
            raise ValueError("expected a list of entries, or an object with one list")
        content = lists[0]
    if not isinstance(content, list):
        raise TypeError("expected a list of entries")
    return content


def _entry(row: Any, name: str, path: Path) -> ListedScan:
    if isinstance(row, str):
        row = {"image": row}
    if not isinstance(row, Mapping):
        raise _unusable(path, f"{name} is not an object")
    given = row.get("image")
    listed: list[Any] = given if isinstance(given, list) else [given]
    images = [image.strip() for image in listed if isinstance(image, str) and image.strip()]
    if not images or len(images) < len(listed):
        raise _unusable(path, f"{name} has no image")
    case, modality = ("" if row.get(key) is None else str(row[key]).strip() for key in ("case", "modality"))
    folder = path.parent
    return ListedScan(tuple(folder / Path(image).expanduser() for image in images), case, modality.upper())


def _unusable(path: Path, reason: str) -> InputError:
    return refusal(path, "bad-datalist", f"cannot be used as a list of scans ({reason})", f"give {_EXPECTED}")
