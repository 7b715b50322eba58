"""Series of a DICOMweb server as an input: listed through QIDO-RS, retrieved through WADO-RS."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_zsad.data.dicom.series import Header, closest
from monai_zsad.data.discovery.archives import MAX_ARCHIVE_BYTES, temporary_folder
from monai_zsad.data.discovery.dicomweb_query import DicomwebLogin, Query, connect, is_uid, parse_query, server_failures
from monai_zsad.errors import InputError

__all__ = ["RemoteSeries", "Retrieved", "list_series", "retrieve"]

_logger = logging.getLogger(__name__)
_FIELDS = ["SeriesDescription", "BodyPartExamined", "NumberOfSeriesRelatedInstances"]
_MOST_SERIES = 1000
_MOST_PAGES = 10_000
_NO_IMAGES = {
    "ANN", "ASMT", "AU", "DOC", "ECG", "EPS", "FID", "HD", "KO", "M3D", "OPTENF", "PLAN", "PR", "REG", "RESP",
    "RTDOSE", "RTINTENT", "RTPLAN", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SEG", "SMR", "SR", "STAIN",
    "TEXTUREMAP", "VF",
}  # fmt: skip


@dataclass(frozen=True)
class RemoteSeries:
    """A series on a server.

    Attributes:
        header: what the server tells of it.
        instances: how many instances the server says it has, or 0 where it does not.
        skipped: why it is not retrieved, or an empty string.
    """

    header: Header
    instances: int = 0
    skipped: str = ""


@dataclass(frozen=True)
class Retrieved:
    """What a query has retrieved.

    Attributes:
        folder: which holds a folder for every study, with one for every series in it.
        files: of the series that are complete.
        failed: folders of the series that could not be retrieved, which do not exist, and why.
    """

    folder: Path
    files: list[Path]
    failed: dict[Path, str]


def list_series(query: str, login: DicomwebLogin | None = None, session: Any = None) -> list[RemoteSeries]:
    """The series that a query finds; nothing is retrieved.

    Args:
        query: ``.../studies[/UID]`` or ``.../series[/UID]`` with filters by attribute (``Modality=MR``), ``limit`` and
            ``fuzzymatching``, as in QIDO-RS.
        login: None takes it from the environment.
        session: a ``requests.Session`` with certificates or a login of its own, instead of ``login``.

    Returns:
        Series in the order of the server.

    Raises:
        InputError: if the address cannot be used or asks for everything, the server cannot be reached or refuses, or
            more than 1000 series are found.
        ConfigurationError: if dicomweb-client is not installed.
    """
    wanted = parse_query(query)
    client = connect(wanted, login, session)
    with server_failures(wanted.service):
        return _search(client, wanted)


def retrieve(
    query: str,
    folder: str | os.PathLike[str] | None = None,
    series: str | int | None = None,
    login: DicomwebLogin | None = None,
    session: Any = None,
) -> Retrieved:
    """Retrieve the series that a query finds, each as a whole or not at all.

    What is there already and complete is not retrieved again. Series without images (SEG, SR and the like) are left
    out.

    Args:
        query: as for :func:`list_series`.
        folder: to write to; None makes a temporary one, which is removed when Python ends.
        series: choice among what is found, by SeriesInstanceUID, number, modality, or part of the description.
        login: None takes it from the environment.
        session: a ``requests.Session`` instead of ``login``.

    Returns:
        The files, and what failed.

    Raises:
        InputError: as :func:`list_series`, if there is no series with images or not the chosen one, or none of them
            could be retrieved.
        ConfigurationError: if dicomweb-client is not installed.
    """
    wanted = parse_query(query)
    client = connect(wanted, login, session)
    with server_failures(wanted.service):
        listed = _search(client, wanted)
    found = [one.header for one in listed if not one.skipped]
    for one in listed:
        if one.skipped:
            _logger.info("left out a series of %s: %s", wanted.service, one.skipped)
    if series is not None:
        found = [one for one, yes in zip(found, closest(found, series, wanted.service), strict=True) if yes]
    if not found:
        raise InputError(
            f"{wanted.service}: the query finds no series with images ({len(listed)} others); give other filters",
            code="no-scan",
        )
    base = temporary_folder() if folder is None else Path(folder).expanduser()
    files: list[Path] = []
    failed: dict[Path, str] = {}
    for number, header in enumerate(found, start=1):
        target = base / header.study / header.uid
        try:
            with server_failures(wanted.service):
                files += _retrieve_one(client, header, target)
            _logger.info("retrieved series %d of %d from %s", number, len(found), wanted.service)
        except InputError as error:
            _logger.error("series %d of %d: %s", number, len(found), error)
            failed[target] = str(error)
    if not files:
        raise InputError(next(iter(failed.values())), code="server-failed")
    return Retrieved(base, files, failed)


def _search(client: Any, query: Query) -> list[RemoteSeries]:
    common = {"fuzzymatching": query.fuzzy, "search_filters": dict(query.filters)}
    if query.by_study:
        studies = _pages(client.search_for_studies, "0020000D", query.limit, query.service, **common)
        found = [
            item
            for study in studies
            for item in _pages(
                client.search_for_series, "0020000E", None, query.service,
                study_instance_uid=_text(study, "0020000D"), fields=_FIELDS,
            )
        ]  # fmt: skip
    else:
        found = _pages(
            client.search_for_series, "0020000E", query.limit, query.service,
            study_instance_uid=query.study or None, fields=_FIELDS, **common,
        )  # fmt: skip
    return [_series(item, query) for item in found]


def _pages(
    search: Callable[..., list[dict[str, Any]]], key: str, limit: int | None, service: str, **arguments: Any
) -> list[dict[str, Any]]:
    """All results; a server may give them in parts, or ignore the offset and give the first part again."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(_MOST_PAGES):
        before = len(found)
        left = None if limit is None else limit - before
        page = search(limit=left, offset=before or None, **arguments)
        found.update((_text(item, key), item) for item in page)
        if key != "00080018" and len(found) > _MOST_SERIES:
            raise InputError(
                f"{service}: the query finds more than {_MOST_SERIES} series; add filters, or limit=", code="bad-query"
            )
        if len(found) == before or (limit is not None and len(found) >= limit):
            break
    return list(found.values())[:limit]


def _series(item: Mapping[str, Any], query: Query) -> RemoteSeries:
    number, count = _text(item, "00200011"), _text(item, "00201209")
    header = Header(
        kind="",
        image_type=(),
        uid=_checked_uid(item, "0020000E"),
        number=int(number) if number.lstrip("-").isdigit() else None,
        modality=_text(item, "00080060"),
        description=_text(item, "0008103E"),
        body_part=_text(item, "00180015"),
        study=query.study or _checked_uid(item, "0020000D"),
    )
    skipped = f"no image ({header.modality})" if header.modality in _NO_IMAGES else ""
    return RemoteSeries(header, int(count) if count.isdigit() else 0, skipped)


def _text(item: Mapping[str, Any], tag: str) -> str:
    values = item.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _checked_uid(item: Mapping[str, Any], tag: str) -> str:
    """UIDs become names of folders and files."""
    uid = _text(item, tag)
    if not is_uid(uid):
        raise ValueError("no UID")
    return uid


def _retrieve_one(client: Any, header: Header, target: Path) -> list[Path]:
    """Files of a series; all of them are there under the final name, or none."""
    listed = _pages(
        client.search_for_instances, "00080018", None, client.base_url,
        study_instance_uid=header.study, series_instance_uid=header.uid,
    )  # fmt: skip
    expected = {_checked_uid(item, "00080018") for item in listed}
    if not expected:
        raise InputError(f"{client.base_url}: lists a series without instances; ask its keeper", code="server-failed")
    names = {f"{uid}.dcm" for uid in expected}
    if target.is_dir() and {file.name for file in target.iterdir()} == names:
        return sorted(target.iterdir())
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    try:
        _write_instances(client, header, expected, partial)
        if target.exists():
            # The series has grown, or someone has changed the folder.
            shutil.rmtree(target)
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(target.iterdir())


def _write_instances(client: Any, header: Header, expected: set[str], folder: Path) -> None:
    size, written = 0, set()
    # As they are stored: a server that decompresses them would change what the reader can check.
    stored = (("application/dicom", "*"),)
    for dataset in client.iter_series(header.study, header.uid, media_types=stored):
        uid = str(dataset.get("SOPInstanceUID"))
        if dataset.get("SeriesInstanceUID") != header.uid or uid not in expected:
            raise InputError(
                f"{client.base_url}: gives an instance that was not asked for; ask its keeper", code="server-failed"
            )
        file = folder / f"{uid}.dcm"
        dataset.preamble = bytes(128)
        with file.open("wb") as stream:
            dataset.save_as(stream, enforce_file_format=True)
            stream.flush()
            os.fsync(stream.fileno())
        size += file.stat().st_size
        written.add(uid)
        if size > MAX_ARCHIVE_BYTES:
            raise InputError(
                f"{client.base_url}: a series is above the limit of {MAX_ARCHIVE_BYTES} bytes; choose another",
                code="too-large",
            )
    if written != expected:
        raise InputError(
            f"{client.base_url}: gives {len(written)} of the {len(expected)} instances of a series; try again",
            code="server-failed",
        )
