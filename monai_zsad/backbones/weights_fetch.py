"""Weights files: where they lie on this machine, and fetching those that do not.

``monai.apps.download_url`` is not used: it has no timeout, moves a file into place across file systems, knows no
partial hash, passes over a folder it may not write to, and has nothing to say to a machine without network.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai_zsad.backbones.weights import WeightsEntry, get_entry
from monai_zsad.errors import WeightsError

__all__ = ["cached_path", "fetch", "reading", "sha256_of", "weights_folder"]

_CONNECT_TIMEOUT = 5.0  # seconds for the first answer, so that a machine without network is told soon
_READ_TIMEOUT = 60.0  # seconds without data in a running transfer
_BLOCK = 1 << 20


# ---- where files lie -----------------------------------------------------------------------------------------------


def weights_folder() -> Path:
    """Folder of downloaded weights: ``MONAI_ZSAD_WEIGHTS``, else ``monai_zsad/weights`` in the user's cache folder."""
    if folder := os.environ.get("MONAI_ZSAD_WEIGHTS"):
        return Path(folder).expanduser()
    return _user_cache() / "monai_zsad" / "weights"


def sha256_of(path: str | Path) -> str:
    """The file's SHA-256 in hexadecimal digits; computed once per process for an unchanged file."""
    path = Path(path)
    with reading(path):
        status = path.stat()
        return _sha256(str(path.resolve()), status.st_size, status.st_mtime_ns)


def cached_path(entry: WeightsEntry | str, *, folder: str | Path | None = None) -> Path | None:
    """Where the weights lie on this machine, not yet verified, or ``None``.

    Looked at in turn: the weights folder, Hugging Face's cache, and the caches of OpenAI's CLIP and of ``torch.hub``.
    """
    return next(_candidates(get_entry(entry) if isinstance(entry, str) else entry, folder), (None, ""))[0]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the file system says while ``path`` is read into an error with a remedy.

    Raises:
        WeightsError: if the file does not exist or cannot be read.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise WeightsError(
            f"the weights file {path} does not exist: check the path, or give a registered name "
            "(`python -m monai_zsad weights list`)"
        ) from error
    except OSError as error:
        raise WeightsError(f"the weights file {path} cannot be read: {error.strerror or error}") from error


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser()


@functools.lru_cache(maxsize=64)
def _sha256(path: str, size: int, modified: int) -> str:
    del size, modified  # part of the cache's key only
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _candidates(entry: WeightsEntry, folder: str | Path | None) -> Iterator[tuple[Path, str]]:
    """Existing files that may be the entry's, each with the leading digits of its hash where they are known."""
    home = Path(folder).expanduser() if folder is not None else weights_folder()
    places = [(home / entry.filename, entry.sha256)]
    if entry.hf_repo and entry.hf_filename and entry.hf_local:
        from huggingface_hub import try_to_load_from_cache

        places.append((home / entry.hf_local, ""))
        for filename in _hf_filenames(entry):
            found = try_to_load_from_cache(entry.hf_repo, filename)
            if isinstance(found, str):
                # The cache names a large file by its hash as the server stated it.
                blob = Path(found).resolve().name
                places.append((Path(found), blob if re.fullmatch(r"[0-9a-f]{64}", blob) else ""))
    torch_home = Path(os.environ.get("TORCH_HOME") or _user_cache() / "torch").expanduser()
    others = (Path.home() / ".cache" / "clip", torch_home / "hub" / "checkpoints")
    places += [(other / entry.filename, entry.sha256) for other in others]
    return ((path, sha256) for path, sha256 in places if path.is_file())


# ---- fetching ------------------------------------------------------------------------------------------------------


class _UnreachableError(Exception):
    """A source that gave no complete file; the next one may."""


class _SameHostRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a renamed repository, but stops before the storage server, which does not state the hash."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        same = urllib.parse.urlsplit(newurl).netloc == urllib.parse.urlsplit(req.full_url).netloc
        return super().redirect_request(req, fp, code, msg, headers, newurl) if same else None


def fetch(
    entry: WeightsEntry | str, *, folder: str | Path | None = None, download: bool = True, progress: bool = True
) -> Path:
    """Path of verified weights on this machine, downloaded if need be.

    Args:
        entry: registered name or entry.
        folder: the weights folder; ``None`` for :func:`weights_folder`.
        download: whether the network may be used. ``MONAI_ZSAD_OFFLINE=1`` and ``HF_HUB_OFFLINE=1`` forbid it too.
        progress: show a bar while downloading.

    Raises:
        WeightsError: if the name is unknown, a file has the wrong hash, or there is neither file nor network.
    """
    entry = get_entry(entry) if isinstance(entry, str) else entry
    home = Path(folder).expanduser() if folder is not None else weights_folder()
    for path, expected in _candidates(entry, folder):
        found = sha256_of(path)
        if found.startswith(expected):
            return path
        if path.parent == home:
            raise WeightsError(
                f"{path} is damaged or another file: its sha256 is {found}, but {entry.name} has {expected}. Remove "
                f"it and run `python -m monai_zsad weights fetch {entry.name}`"
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
            stated = _probe(url)
            return _download(url, target, expected or stated, progress)
        except _UnreachableError as error:
            reasons[host] = f"{host}: {error}"
    raise WeightsError(_remedy(entry, home, "; ".join(reasons.values())))


def _hf_filenames(entry: WeightsEntry) -> list[str]:
    """open_clip's repositories hold safetensors, older ones a pickle only; reading goes by content, not by name."""
    names = [entry.hf_filename or ""]
    return [*names, "open_clip_pytorch_model.bin"] if names == ["open_clip_model.safetensors"] else names


def _hf_url(repo: str, filename: str) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repo, filename)


def _sources(entry: WeightsEntry, home: Path) -> Iterator[tuple[str, Path, str]]:
    """URL, target and leading digits of the hash, best source first."""
    if entry.url:
        yield entry.url, home / entry.filename, entry.sha256
    if entry.hf_repo and entry.hf_local:
        for filename in _hf_filenames(entry):
            yield _hf_url(entry.hf_repo, filename), home / entry.hf_local, ""


def _remedy(entry: WeightsEntry, home: Path, reason: str) -> str:
    url = entry.url or _hf_url(entry.hf_repo or "", entry.hf_filename or "")
    return (
        f"the weights {entry.name} are not on this machine and cannot be downloaded ({reason}). On a machine with "
        "network, run one of\n"
        f"    curl -fL -o {entry.filename} {url}\n"
        f"    python -m monai_zsad weights fetch {entry.name} --folder .\n"
        "then copy the file that it leaves, under its name, into the weights folder of this machine,\n"
        f"    {home}\n"
        "or name another folder that holds it in the environment variable MONAI_ZSAD_WEIGHTS"
    )


@contextlib.contextmanager
def _network() -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        raise _UnreachableError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _UnreachableError(getattr(error.reason, "strerror", None) or error.reason) from error
    except http.client.HTTPException as error:
        raise _UnreachableError(f"the transfer broke off ({type(error).__name__})") from error
    except (OSError, ValueError) as error:
        raise _UnreachableError(str(error) or type(error).__name__) from error


def _request(url: str, method: str) -> urllib.request.Request:
    return urllib.request.Request(url, method=method, headers={"User-Agent": "monai-zsad"})


def _probe(url: str) -> str:
    """Find out soon whether ``url`` answers; returns the hash that Hugging Face states, ``""`` from other servers."""
    opener = urllib.request.build_opener(_SameHostRedirects)
    with _network():
        try:
            with opener.open(_request(url, "HEAD"), timeout=_CONNECT_TIMEOUT) as answer:
                headers = answer.headers
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise
            headers = error.headers  # a redirect to storage, or a server that refuses HEAD: the transfer will tell
    stated = (headers.get("X-Linked-Etag") or "").strip('"')
    return stated if re.fullmatch(r"[0-9a-f]{64}", stated) else ""


def _download(url: str, target: Path, expected: str, progress: bool) -> Path:
    """Fetch into a temporary file beside ``target``, verify, then rename: the final name never holds half a file."""
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    with contextlib.ExitStack() as stack:
        with _network():
            answer = stack.enter_context(urllib.request.urlopen(_request(url, "GET"), timeout=_READ_TIMEOUT))
        stack.callback(_discard, part)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "xb") as file:
                found = _copy(answer, file, target.name, progress)
                file.flush()
                os.fsync(file.fileno())
            if not found.startswith(expected):
                raise WeightsError(
                    f"what {url} sent is not {target.name}: its sha256 is {found}, expected {expected}; nothing was "
                    "kept. Try again; if it happens again, a proxy alters it or the publisher replaced the file"
                )
            part.replace(target)
        except OSError as error:
            raise WeightsError(
                f"cannot write {target.name} into {target.parent}: {error.strerror or error}. Free space there, or set "
                "MONAI_ZSAD_WEIGHTS to a folder that you can write to"
            ) from error
    return target


def _discard(part: Path) -> None:
    with contextlib.suppress(OSError):
        part.unlink()


def _copy(answer: Any, file: Any, name: str, progress: bool) -> str:
    from tqdm import tqdm  # type: ignore[import-untyped]  # tqdm ships no types

    total = int(answer.headers.get("Content-Length") or 0)
    digest, received = hashlib.sha256(), 0
    with tqdm(total=total or None, unit="B", unit_scale=True, desc=name, disable=not progress) as bar:
        while True:
            with _network():
                block = answer.read(_BLOCK)
            if not block:
                break
            file.write(block)
            digest.update(block)
            received += len(block)
            bar.update(len(block))
    if received < total:
        raise _UnreachableError(f"the transfer ended after {received} of {total} bytes, nothing was kept; try again")
    return digest.hexdigest()
