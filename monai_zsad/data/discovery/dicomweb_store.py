"""DICOM results sent to a DICOMweb server with STOW-RS, each object once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from monai_zsad.data.discovery.dicomweb_patience import AWAY, Patience
from monai_zsad.data.discovery.dicomweb_query import DicomwebLogin, connect, parse_service, server_failures
from monai_zsad.data.scan import READ_ERRORS
from monai_zsad.errors import InputError
from monai_zsad.result_files import CASE_FILES, has_results

__all__ = ["SentObject", "dicom_results", "store_results"]

_KINDS = [file.name for file in CASE_FILES.values() if file.extension == ".dcm"]
# Failure Reason (0008,1197), PS3.18 table I.2-2: the first value of a range, and the mask that leaves the range.
_FAILURES = (
    (0xA700, 0xFF00, "out of resources"),
    (0xA900, 0xFF00, "the object does not match its class"),
    (0xC000, 0xF000, "the object cannot be understood"),
    (0x0122, 0xFFFF, "objects of this class are not taken"),
    (0x0124, 0xFFFF, "not authorized"),
    (0x0110, 0xFFFF, "processing failure"),
)
# Of the server, not of one object: the others would fail, too.
_FOR_ALL = (401, 403, 404, 405, 501)


@dataclass(frozen=True)
class SentObject:
    """What became of an object.

    Attributes:
        file: path of the object, below the folder of results.
        state: ``"stored"``; ``"present"``: the server had it before; ``"absent"``: it would be sent, but ``dry_run``
            was given; ``"failed"``.
        reason: why it failed, without names of patients.
    """

    file: str
    state: Literal["stored", "present", "absent", "failed"]
    reason: str = ""


def dicom_results(results: str | os.PathLike[str]) -> dict[Path, str]:
    """The DICOM objects of all complete cases in a folder of results.

    Args:
        results: output folder of ``screen``.

    Returns:
        SHA-256 by file, as the manifest of the case states it, in the order of the cases. A file that the last run of
        the case did not write is left out.

    Raises:
        InputError: if there is no such folder, or no complete case in it has a DICOM object.
    """
    folder = Path(results).expanduser()
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the output folder of `screen`")
    cases = sorted(case for case in folder.iterdir() if has_results(case))
    found = {case / name: digest for case in cases for name, digest in _listed(case / CASE_FILES["manifest"].name)}
    if not found:
        finding = f"{len(cases)} complete cases, none with DICOM objects"
        raise InputError(f"{folder}: holds {finding}; screen DICOM series with --dicom seg,sr")
    return found


def _listed(manifest: Path) -> list[tuple[str, str]]:
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        return [(name, str(files[name]["sha256"])) for name in _KINDS if name in files]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def store_results(
    results: str | os.PathLike[str],
    address: str,
    login: DicomwebLogin | None = None,
    session: Any = None,
    *,
    dry_run: bool = False,
) -> Iterator[SentObject]:
    """Send the DICOM objects of all complete cases to a server that does not have them yet.

    Before each object is sent, the server is asked for it (QIDO-RS), also before it is sent again because the
    connection broke. So nothing is stored twice, and a call that was interrupted can be repeated. A server that is away
    for a while is waited for, see :class:`~monai_zsad.data.discovery.dicomweb_patience.Patience`. An object that cannot
    be sent does not stop the others.

    Args:
        results: see :func:`dicom_results`.
        address: of the DICOMweb service, such as ``https://host/dicom-web``.
        login: None takes the login from the environment.
        session: a ``requests.Session`` instead of ``login``.
        dry_run: only ask the server which objects it has.

    Yields:
        One entry for each object, as soon as it is known.

    Raises:
        InputError: if there is nothing to send, the address cannot be used, or the server cannot be reached, refuses
            the login or takes no objects.
        ConfigurationError: if dicomweb-client is not installed.
    """
    service = parse_service(address)
    objects = dicom_results(results)
    client, patience = connect(service, login, session), Patience(service)
    for path, digest in objects.items():
        file = f"{path.parent.name}/{path.name}"
        try:
            dataset = _read(path, digest)
        except _UnfitObjectError as error:
            yield SentObject(file, "failed", str(error))
            continue
        with server_failures(service):
            yield _Sending(client, file, dataset).result(patience, dry_run)


class _UnfitObjectError(Exception):
    """Why an object is not sent."""


def _read(path: Path, digest: str) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise _UnfitObjectError("the file is not as it was written; screen the case again")
        dataset = pydicom.dcmread(BytesIO(content))
        _ = dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID
    except OSError as error:
        raise _UnfitObjectError(f"the file cannot be read ({error.strerror})") from error
    except (InvalidDicomError, *READ_ERRORS) as error:
        raise _UnfitObjectError(f"the file cannot be read ({type(error).__name__})") from error
    return dataset


class _Sending:
    """An object on its way to a server; an attempt can be repeated."""

    def __init__(self, client: Any, file: str, dataset: Any) -> None:
        self.client, self.file, self.dataset = client, file, dataset
        self._was_sent = False

    def result(self, patience: Patience, dry_run: bool) -> SentObject:
        if patience(self._is_there, dry_run):
            return SentObject(self.file, "present")
        if dry_run:
            return SentObject(self.file, "absent")
        try:
            patience(self._attempt)
        except _UnfitObjectError as error:
            return SentObject(self.file, "failed", str(error))
        return SentObject(self.file, "stored")

    def _attempt(self) -> None:
        # After a broken connection, the server may have the object although it has not answered.
        if not (self._was_sent and self._is_there()):
            self._was_sent = True
            self._send()

    def _is_there(self, dry_run: bool = False) -> bool:
        import requests

        one = self.dataset
        try:
            found = self.client.search_for_instances(
                one.StudyInstanceUID, one.SeriesInstanceUID, search_filters={"SOPInstanceUID": one.SOPInstanceUID}
            )
        except requests.HTTPError as error:
            # Some servers answer so about a study that they do not have. If the address is wrong, sending fails.
            if dry_run or error.response is None or error.response.status_code != 404:
                raise
            return False
        uids = [value for item in found for value in item.get("00080018", {}).get("Value", [])]
        return one.SOPInstanceUID in uids

    def _send(self) -> None:
        import requests

        try:
            answer = self.client.store_instances([self.dataset])
        except requests.HTTPError as error:
            status = 0 if error.response is None else error.response.status_code
            if status in _FOR_ALL or status in AWAY:
                raise
            reason = _failure_reason(_content(error.response))
            raise _UnfitObjectError(f"the server rejects it: {reason or f'status {status}'}") from error
        if reason := _failure_reason(answer):
            raise _UnfitObjectError(f"the server rejects it: {reason}")


def _content(response: Any) -> Any:
    import pydicom

    try:
        return pydicom.Dataset.from_json(response.json())
    except (ValueError, TypeError, LookupError, AttributeError):
        return pydicom.Dataset()


def _failure_reason(answer: Any) -> str:
    """Why the server has not stored the object; an empty text if it does not say so."""
    for item in answer.get("FailedSOPSequence") or ():
        code = int(item.get("FailureReason") or 0)
        known = (text for value, mask, text in _FAILURES if code & mask == value)
        return f"{next(known, 'no reason that we know')} (code {code:04X})"
    return ""
