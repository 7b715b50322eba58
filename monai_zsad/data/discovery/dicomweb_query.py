"""The address of a DICOMweb query, the login to its server, and the errors of both."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from monai_zsad.data.codes import refusal
from monai_zsad.data.scan import READ_ERRORS
from monai_zsad.errors import ConfigurationError, InputError

__all__ = [
    "DicomwebLogin",
    "Query",
    "connect",
    "is_query",
    "is_uid",
    "parse_query",
    "parse_service",
    "server_failures",
]

_logger = logging.getLogger(__name__)
_ENVIRONMENT = "MONAI_ZSAD_DICOMWEB_"
_SCHEMES = ("http://", "https://", "dicomweb://")
_EXAMPLE = "https://host/dicom-web/series?Modality=MR&PatientID=7 or https://host/dicom-web/studies/UID"
_REMEDY = f"give for example {_EXAMPLE}"
_PATH = re.compile(r"(?P<base>.*?)(?P<studies>/studies(/(?P<study>[^/]+))?)?(/series(/(?P<series>[^/]+))?)?/*")
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
_NOT_SERIES_LEVEL = {"studies", "series", "instances", "frames", "metadata", "rendered", "bulkdata"}
_TIMEOUT_S = (20, 300)


@dataclass(frozen=True)
class DicomwebLogin:
    """The login to a DICOMweb server; it is neither printed nor logged.

    Attributes:
        user: with ``password``, for HTTP basic authentication.
        password: of the user.
        token: for ``Authorization: Bearer``, instead of user and password.

    Example:
        >>> DicomwebLogin("anna", "secret")
        DicomwebLogin()
    """

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls) -> DicomwebLogin:
        """``MONAI_ZSAD_DICOMWEB_USER`` and ``_PASSWORD``, or ``MONAI_ZSAD_DICOMWEB_TOKEN``; empty if not set."""
        return cls(*(os.environ.get(_ENVIRONMENT + name, "") for name in ("USER", "PASSWORD", "TOKEN")))


@dataclass(frozen=True)
class Query:
    """A query in its parts.

    Attributes:
        service: address of the DICOMweb service without the query, as shown in messages.
        by_study: whether the filters choose studies; all series of these studies are wanted.
        study: StudyInstanceUID, or an empty string.
        series: SeriesInstanceUID, or an empty string.
        filters: wanted values by attribute.
        limit: largest number of results, or None.
        fuzzy: whether the server may match similar names; None leaves this to the server.
    """

    service: str
    by_study: bool
    study: str
    series: str
    filters: Mapping[str, str]
    limit: int | None
    fuzzy: bool | None


def is_query(path: str | os.PathLike[str]) -> bool:
    """Whether an input is the address of a DICOMweb server, not a path.

    Args:
        path: an input as the user gives it.

    Returns:
        True for an address.

    Example:
        >>> is_query("dicomweb://pacs/series?Modality=MR"), is_query("scans/anna")
        (True, False)
    """
    return isinstance(path, str) and path.lower().startswith(_SCHEMES)


def is_uid(text: str) -> bool:
    """Whether a text is a UID, and therefore safe as a file name.

    Example:
        >>> is_uid("1.2.840"), is_uid("../1"), is_uid("")
        (True, False, False)
    """
    return _UID.fullmatch(text) is not None


def parse_query(query: str) -> Query:
    """Split an address into its parts.

    Raises:
        InputError: if it does not name studies or series, contains a login, or asks for everything.

    Example:
        >>> query = parse_query("https://pacs/dicom-web/studies/1.2/series?Modality=MR")
        >>> query.service, query.study, query.filters
        ('https://pacs/dicom-web', '1.2', {'Modality': 'MR'})
    """
    where, match, text = _address(query, _REMEDY)
    for uid in (match["study"], match["series"]):
        if uid is not None and not is_uid(uid):
            raise refusal(where, "bad-query", f"{uid!r} is not a UID", _REMEDY)
    filters, limit, fuzzy = _filters(text, where)
    if not (match["study"] or match["series"] or filters or limit):
        remedy = "add a filter such as ?Modality=MR&PatientID=7, or limit=10"
        raise refusal(where, "bad-query", "the query asks for everything", remedy)
    if match["series"]:
        filters["SeriesInstanceUID"] = match["series"]
    by_study = bool(match["studies"]) and not match["study"] and not match["series"]
    return Query(where + match["base"], by_study, match["study"] or "", match["series"] or "", filters, limit, fuzzy)


def parse_service(address: str) -> str:
    """The address of a DICOMweb service, to which objects are sent.

    Raises:
        InputError: if it is not that of a service, or contains a login.

    Example:
        >>> parse_service("dicomweb://pacs/dicom-web/")
        'https://pacs/dicom-web'
    """
    remedy = "give the address of the service alone, such as https://host/dicom-web"
    where, match, text = _address(address, remedy)
    if text or match["study"] or match["series"]:
        raise refusal(where, "bad-query", "names studies or series", remedy)
    return where + match["base"]


def _address(address: str, remedy: str) -> tuple[str, re.Match[str], str]:
    """Scheme and host; the match of :data:`_PATH`; and the text of the filters."""
    if address.lower().startswith("dicomweb:"):
        address = f"https:{address.partition(':')[2]}"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    where = f"{parts.scheme}://{host}{'' if port is None else f':{port}'}"
    if not host or parts.scheme not in ("http", "https"):
        raise refusal("DICOMweb address", "bad-query", "has no host", remedy)
    if parts.username or parts.password:
        finding = "a login in the address would be logged"
        raise refusal(where, "bad-query", finding, f"set {_ENVIRONMENT}USER and {_ENVIRONMENT}PASSWORD instead")
    match = _PATH.fullmatch(parts.path)
    if match is None or _NOT_SERIES_LEVEL & set(match["base"].split("/")):
        raise refusal(f"{where}{parts.path}", "bad-query", "is not a list of studies or series", remedy)
    return where, match, parts.query


def _filters(text: str, where: str) -> tuple[dict[str, str], int | None, bool | None]:
    from pydicom.datadict import keyword_for_tag, tag_for_keyword

    filters: dict[str, str] = {}
    limit, fuzzy = None, None
    for key, value in parse_qsl(text, keep_blank_values=True):
        if key == "limit" and value.isdigit() and int(value) > 0:
            limit = int(value)
        elif key == "fuzzymatching" and value in ("true", "false"):
            fuzzy = value == "true"
        elif tag_for_keyword(key) is not None or (re.fullmatch(r"[0-9A-Fa-f]{8}", key) and keyword_for_tag(key)):
            filters[key] = f"{filters[key]},{value}" if key in filters else value
        else:
            raise refusal(where, "bad-query", f"{key!r} is not a DICOM attribute to filter by", _REMEDY)
    return filters, limit, fuzzy


def connect(service: str, login: DicomwebLogin | None = None, session: Any = None) -> Any:
    """A client of the server; nothing is sent yet.

    Args:
        service: address of the DICOMweb service.
        login: None takes the login from the environment.
        session: a ``requests.Session`` with its own certificates or login, instead of ``login``.

    Returns:
        A ``dicomweb_client.api.DICOMwebClient``.

    Raises:
        ConfigurationError: if dicomweb-client is not installed.
    """
    try:
        import requests
        from dicomweb_client.api import DICOMwebClient
    except ImportError as error:
        raise ConfigurationError(
            "a DICOMweb query needs the package dicomweb-client; run pip install dicomweb-client"
        ) from error
    if session is None:
        login = DicomwebLogin.from_environment() if login is None else login
        session = requests.Session()
        # A login from ~/.netrc would replace a plain header, but not an `auth` object.
        if login.token or login.user:
            session.auth = _Bearer(login.token) if login.token else (login.user, login.password)
            if service.startswith("http://") and urlsplit(service).hostname not in ("localhost", "127.0.0.1"):
                _logger.warning("%s: the login and the images are sent without encryption; use https", service)
    client = DICOMwebClient(service, session=session, timeout=_TIMEOUT_S)
    # Patience repeats what fails, and says so in one line.
    client.set_http_retry_params(retry=False)
    logging.getLogger("retrying").setLevel(logging.ERROR)
    return client


class _Bearer:
    """Adds a token to every request to the server."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@contextmanager
def server_failures(service: str) -> Iterator[None]:
    """Errors of the network and the server as one sentence, without the query, because it may name a patient."""
    import requests
    from pydicom.errors import InvalidDicomError

    try:
        yield
    except requests.HTTPError as error:
        status = 0 if error.response is None else error.response.status_code
        remedy = "check the address and the filters"
        if status in (401, 403):
            remedy = f"set {_ENVIRONMENT}USER and {_ENVIRONMENT}PASSWORD, or {_ENVIRONMENT}TOKEN"
        raise refusal(service, "server-failed", f"the server answers with status {status}", remedy) from None
    except (requests.RequestException, InvalidDicomError, *READ_ERRORS) as error:
        if isinstance(error, InputError):
            raise
        finding = f"the server cannot be used ({type(error).__name__})"
        raise refusal(service, "server-failed", finding, "check address and network, and try again") from None
