"""Download of weights files that are not on this machine.

``torch.hub`` transfers the file. ``monai.apps.download_url`` was not enough: it cannot check the leading digits of a
hash, moves a file into place across file systems, and ignores a folder that it cannot write to.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai_zsad.backbones.weights.files import candidates, hf_filenames, sha256_of, weights_folder
from monai_zsad.backbones.weights.registry import WeightsEntry, get_entry
from monai_zsad.errors import WeightsError

__all__ = ["fetch"]

_CONNECT_TIMEOUT = 5.0  # seconds for the first answer, so that a missing network is reported soon
_READ_TIMEOUT = 60.0  # seconds without data in a running transfer


class _UnreachableError(Exception):
    """A source did not deliver a complete file. The next source may."""


class _SameHostRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a renamed repository, but not the redirect to the storage server, which does not state the hash."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        same = urllib.parse.urlsplit(newurl).netloc == urllib.parse.urlsplit(req.full_url).netloc
        return super().redirect_request(req, fp, code, msg, headers, newurl) if same else None


def fetch(
    entry: WeightsEntry | str, *, folder: str | Path | None = None, download: bool = True, progress: bool = True
) -> Path:
    """Path of verified weights on this machine; they are downloaded if they are missing.

    Args:
        entry: registered name or entry.
        folder: the weights folder; ``None`` for :func:`weights_folder`.
        download: whether the network may be used. ``MONAI_ZSAD_OFFLINE=1`` and ``HF_HUB_OFFLINE=1`` forbid it too.
        progress: show a progress bar during the download.

    Returns:
        Path of the file. Its SHA-256 is the entry's, as far as the publisher states one.

    Raises:
        WeightsError: if the name is unknown, a file has the wrong hash, or there is neither file nor network.
    """
    entry = get_entry(entry) if isinstance(entry, str) else entry
    home = Path(folder).expanduser() if folder is not None else weights_folder()
    for path, expected in candidates(entry, folder):
        found = sha256_of(path)
        if found.startswith(expected):
            return path
        if path.parent == home:
            raise WeightsError(
                f"{path} is damaged or another file: its sha256 is {found}, but {entry.name} has {expected}. Remove "
                f"it, then run `python -m monai_zsad weights fetch {entry.name}`"
            )
    if not download:
        raise WeightsError(_remedy(entry, home, "downloading is switched off"))
    for variable in ("MONAI_ZSAD_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(variable, "").strip().lower() not in ("", "0", "false", "no", "off"):
            raise WeightsError(_remedy(entry, home, f"{variable} is set"))
    reasons: dict[str, str] = {}
    for url, target, expected in _sources(entry, home):
        host = urllib.parse.urlsplit(url).netloc
        if host in reasons and "HTTP 404" not in reasons[host]:
            continue
        try:
            stated, size = _probe(url)
            return _download(url, target, expected or stated, size, progress)
        except _UnreachableError as error:
            reasons[host] = f"{host}: {error}"
    raise WeightsError(_remedy(entry, home, "; ".join(reasons.values())))


def _hf_url(repo: str, filename: str) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repo, filename)


def _sources(entry: WeightsEntry, home: Path) -> Iterator[tuple[str, Path, str]]:
    """URL, target and leading digits of the hash, best source first."""
    if entry.url:
        yield entry.url, home / entry.filename, entry.sha256
    if entry.hf_repo and entry.hf_local:
        for filename in hf_filenames(entry):
            yield _hf_url(entry.hf_repo, filename), home / entry.hf_local, ""


def _remedy(entry: WeightsEntry, home: Path, reason: str) -> str:
    url = entry.url or _hf_url(entry.hf_repo or "", entry.hf_filename or "")
    return (
        f"the weights {entry.name} are not on this machine and cannot be downloaded ({reason}). On a machine with "
        "network, run one of\n"
        f"    curl -fL -o {entry.filename} {url}\n"
        f"    python -m monai_zsad weights fetch {entry.name} --folder .\n"
        "then copy the downloaded file, without renaming it, into the weights folder of this machine,\n"
        f"    {home}\n"
        "or set the environment variable MONAI_ZSAD_WEIGHTS to the folder that holds it"
    )


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Turn errors of the network into :class:`_UnreachableError`; errors of the disk are not changed."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise _UnreachableError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _UnreachableError(getattr(error.reason, "strerror", None) or error.reason) from error
    except http.client.HTTPException as error:
        raise _UnreachableError(f"the transfer broke off ({type(error).__name__})") from error
    except (ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _UnreachableError(str(error) or type(error).__name__) from error


def _probe(url: str) -> tuple[str, int | None]:
    """Ask the server for the file's facts before the transfer.

    This shows within seconds whether the machine has network. ``huggingface_hub`` could ask too, but the classes of
    its network errors change with its versions, so they cannot be turned into a remedy.

    Args:
        url: address of the file.

    Returns:
        SHA-256 and size in bytes, as far as the server states them (only Hugging Face states a hash); ``""`` and
        ``None`` otherwise.

    Raises:
        _UnreachableError: if the server does not answer, or does not have the file.
    """
    opener = urllib.request.build_opener(_SameHostRedirects)
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "monai-zsad"})
    with _network():
        try:
            with opener.open(request, timeout=_CONNECT_TIMEOUT) as answer:
                headers, size = answer.headers, answer.headers.get("Content-Length")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise
            # A redirect to the storage, or a server that refuses HEAD: the transfer will show whether the file exists.
            headers, size = error.headers, error.headers.get("X-Linked-Size")
    stated = (headers.get("X-Linked-Etag") or "").strip('"')
    return stated if re.fullmatch(r"[0-9a-f]{64}", stated) else "", int(size) if size else None


def _download(url: str, target: Path, expected: str, size: int | None, progress: bool) -> Path:
    """Download into a temporary file beside ``target``, verify it, then rename it: ``target`` is always complete."""
    import torch

    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if progress:
            sys.stderr.write(f"Downloading {target.name} from {url}\n")
        with _network(), _read_timeout():
            torch.hub.download_url_to_file(url, str(part), progress=progress)
        received = part.stat().st_size
        if size is not None and received < size:
            raise _UnreachableError(f"the transfer ended after {received} of {size} bytes; try again")
        # Torch's own check is not used, because its error is the same for an interrupted transfer and a wrong file.
        found = sha256_of(part)
        if not found.startswith(expected):
            raise WeightsError(
                f"{url} sent another file than {target.name}: its sha256 is {found}, expected {expected}. The file was "
                "removed. Try again; if it happens again, a proxy changes the file or the publisher has replaced it"
            )
        part.replace(target)
    except OSError as error:
        raise WeightsError(
            f"cannot write {target.name} into {target.parent}: {error.strerror or error}. Free space there, or set "
            "MONAI_ZSAD_WEIGHTS to a folder that you can write to"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return target


@contextlib.contextmanager
def _read_timeout() -> Iterator[None]:
    """``torch.hub`` sets no timeout, so a transfer without data would wait forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_READ_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
