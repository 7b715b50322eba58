"""Series of a DICOMweb server as input: listed with QIDO-RS, retrieved with WADO-RS."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from monai_zsad.data.codes import refusal
from monai_zsad.data.dicom import Header, closest
from monai_zsad.data.discovery.archives import MAX_ARCHIVE_BYTES, temporary_folder
from monai_zsad.data.discovery.dicomweb_patience import Patience
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
        header: fields that the server states.
        instances: number of instances that the server states, or 0 if it does not.
        skipped: why it is not retrieved, or an empty string.
    """

    header: Header
    instances: int = 0
    skipped: str = ""


@dataclass(frozen=True)
class Retrieved:
    """Result of a query.

    Attributes:
        folder: holds one folder per study, and in it one folder per series.
        files: of the complete series.
        failed: reasons why series could not be retrieved, by their paths on the server.
        skipped: reasons why series were not retrieved, because they are not images, by their paths on the server.
    """

    folder: Path
    files: list[Path]
    failed: dict[Path, str]
    skipped: dict[Path, str] = field(default_factory=dict)


def list_series(query: str, login: DicomwebLogin | None = None, session: Any = None) -> list[RemoteSeries]:
    """The series that a query finds; nothing is retrieved.

    Args:
        query: ``.../studies[/UID]`` or ``.../series[/UID]`` with filters by attribute (``Modality=MR``), ``limit`` and
            ``fuzzymatching``, as in QIDO-RS.
        login: None takes the login from the environment.
        session: a ``requests.Session`` with its own certificates or login, instead of ``login``.

    Returns:
        Series in the order of the server.

    Raises:
        InputError: if the address cannot be used or asks for everything, the server cannot be reached or refuses, or
            more than 1000 series are found.
        ConfigurationError: if dicomweb-client is not installed.
    """
    wanted = parse_query(query)
    client = connect(wanted.service, login, session)
    with server_failures(wanted.service):
        return _search(client, wanted, Patience(wanted.service))


def retrieve(
    query: str,
    folder: str | os.PathLike[str] | None = None,
    series: str | int | None = None,
    login: DicomwebLogin | None = None,
    session: Any = None,
) -> Retrieved:
    """Retrieve the series that a query finds, each completely or not at all.

    Series that are complete in the folder are not retrieved again. A server that is away for a while is waited for, see
    :class:`~monai_zsad.data.discovery.dicomweb_patience.Patience`. Series without images (SEG, SR, ...) are left out.

    Args:
        query: as for :func:`list_series`.
        folder: to write to; None makes a temporary one, which is removed when Python ends.
        series: choice among what is found, by SeriesInstanceUID, number, modality, or part of the description.
        login: None takes the login from the environment.
        session: a ``requests.Session`` instead of ``login``.

    Returns:
        The files, and what failed.

    Raises:
        InputError: as :func:`list_series`; if no series with images, or not the chosen series, is found; or if no
            series could be retrieved.
        ConfigurationError: if dicomweb-client is not installed.
    """
    wanted = parse_query(query)
    client, patience = connect(wanted.service, login, session), Patience(wanted.service)
    with server_failures(wanted.service):
        listed = _search(client, wanted, patience)
    found = [one.header for one in listed if not one.skipped]
    for one in listed:
        if one.skipped:
            _logger.info("left out a series of %s: %s", wanted.service, one.skipped)
    if series is not None:
        found = [one for one, yes in zip(found, closest(found, series, wanted.service, whole=True), strict=True) if yes]
    if not found:
        finding = f"the query finds no series with images ({len(listed)} others)"
        raise refusal(wanted.service, "no-scan", finding, "give other filters")
    base = temporary_folder() if folder is None else Path(folder).expanduser()
    files: list[Path] = []
    failed: dict[Path, str] = {}
    for number, header in enumerate(found, start=1):
        target = base / header.study / header.uid
        try:
            with server_failures(wanted.service):
                files += patience(_retrieve_one, client, header, target)
            _logger.info("retrieved series %d of %d from %s", number, len(found), wanted.service)
        except InputError as error:
            _logger.error("series %d of %d: %s", number, len(found), error)
            failed[_on_server(header)] = str(error).removeprefix(f"{wanted.service}: ").partition("; ")[0]
    if not files:
        raise refusal(wanted.service, "server-failed", next(iter(failed.values())), "try again")
    skipped = {} if series is not None else {_on_server(one.header): one.skipped for one in listed if one.skipped}
    return Retrieved(base, files, failed, skipped)


def _on_server(header: Header) -> Path:
    return Path("studies", header.study, "series", header.uid)


def _search(client: Any, query: Query, patience: Patience) -> list[RemoteSeries]:
    common = {"fuzzymatching": query.fuzzy, "search_filters": dict(query.filters)}
    search_for_series = partial(patience, client.search_for_series)
    if query.by_study:
        studies = _pages(partial(patience, client.search_for_studies), "0020000D", query.limit, query.service, **common)
        found = [
            item
            for study in studies
            for item in _pages(
                search_for_series, "0020000E", None, query.service,
                study_instance_uid=_text(study, "0020000D"), fields=_FIELDS,
            )
        ]  # fmt: skip
    else:
        found = _pages(
            search_for_series, "0020000E", query.limit, query.service,
            study_instance_uid=query.study or None, fields=_FIELDS, **common,
        )  # fmt: skip
    return [_series(item, query) for item in found]


def _pages(
    search: Callable[..., list[dict[str, Any]]], key: str, limit: int | None, service: str, **arguments: Any
) -> list[dict[str, Any]]:
    """All results; a server may return them in parts, or ignore the offset and return the first part again."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(_MOST_PAGES):
        before = len(found)
        left = None if limit is None else limit - before
        page = search(limit=left, offset=before or None, **arguments)
        found.update((_text(item, key), item) for item in page)
        if key != "00080018" and len(found) > _MOST_SERIES:
            finding = f"the query finds more than {_MOST_SERIES} series"
            raise refusal(service, "bad-query", finding, "add filters, or limit=")
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
    skipped = f"not an image ({header.modality})" if header.modality in _NO_IMAGES else ""
    return RemoteSeries(header, int(count) if count.isdigit() else 0, skipped)


def _text(item: Mapping[str, Any], tag: str) -> str:
    values = item.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _checked_uid(item: Mapping[str, Any], tag: str) -> str:
    """A UID that is safe as the name of a folder or file."""
    uid = _text(item, tag)
    if not is_uid(uid):
        raise ValueError("not a UID")
    return uid


def _retrieve_one(client: Any, header: Header, target: Path) -> list[Path]:
    """Files of a series. The final folder holds all of them, or does not exist."""
    listed = _pages(
        client.search_for_instances, "00080018", None, client.base_url,
        study_instance_uid=header.study, series_instance_uid=header.uid,
    )  # fmt: skip
    expected = {_checked_uid(item, "00080018") for item in listed}
    if not expected:
        finding = "lists a series without instances"
        raise refusal(client.base_url, "server-failed", finding, "ask the administrator of the server")
    names = {f"{uid}.dcm" for uid in expected}
    if target.is_dir() and {file.name for file in target.iterdir()} == names:
        return sorted(target.iterdir())
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    try:
        _write_instances(client, header, expected, partial)
        if target.exists():
            # The series has new instances, or someone has changed the folder.
            shutil.rmtree(target)
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(target.iterdir())


def _write_instances(client: Any, header: Header, expected: set[str], folder: Path) -> None:
    size, written = 0, set()
    # Ask for the files as they are stored: decompression by the server would hide faults from the reader.
    stored = (("application/dicom", "*"),)
    for dataset in client.iter_series(header.study, header.uid, media_types=stored):
        uid = str(dataset.get("SOPInstanceUID"))
        if dataset.get("SeriesInstanceUID") != header.uid or uid not in expected:
            finding = "returns an instance that was not asked for"
            raise refusal(client.base_url, "server-failed", finding, "ask the administrator of the server")
        file = folder / f"{uid}.dcm"
        dataset.preamble = bytes(128)
        with file.open("wb") as stream:
            dataset.save_as(stream, enforce_file_format=True)
            stream.flush()
            os.fsync(stream.fileno())
        size += file.stat().st_size
        written.add(uid)
        if size > MAX_ARCHIVE_BYTES:
            finding = f"a series is above the limit of {MAX_ARCHIVE_BYTES} bytes"
            raise refusal(client.base_url, "too-large", finding, "choose another series")
    if written != expected:
        finding = f"returns {len(written)} of the {len(expected)} instances of a series"
        raise refusal(client.base_url, "server-failed", finding, "try again")
