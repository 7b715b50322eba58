"""Weights files: finding, fetching and reading them, and the record of what was read.

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
import struct
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_zsad.backbones.weights import WeightsEntry, WeightsKind, entry_of_sha256, get_entry, list_entries
from monai_zsad.errors import WeightsError

if TYPE_CHECKING:
    import torch

    from monai_zsad.backbones.architectures import Activation

__all__ = [
    "WeightsRecord",
    "cached_path",
    "clip_state_dict",
    "fetch",
    "prior_state_dict",
    "prompts_state_dict",
    "read_state_dict",
    "sha256_of",
    "weights_folder",
]

_CONNECT_TIMEOUT = 5.0  # seconds for the first answer, so that a machine without network is told soon
_READ_TIMEOUT = 60.0  # seconds without data in a running transfer
_BLOCK = 1 << 20
_SUFFIXES = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"}
# What OpenAI's archives carry beside parameters, and what older open_clip files stored of a constant.
_NO_PARAMETERS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}

# What the readers of torch raise on damaged files, found by cutting and altering files at random.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class WeightsRecord:
    """What was loaded, for logs and reports; it holds no path of this machine.

    Attributes:
        name: registered name, else the file's name, else ``seed:N``.
        sha256: of the file that was read, complete; empty for a seed.
        licence: of the weights; ``"unknown"`` for a file that the registry does not know.
        activation: what the MLPs were trained with; ``None`` where the architecture leaves no choice.
        seed: of random weights, else ``None``.

    >>> WeightsRecord("seed:0", "", "", "gelu", seed=0).meaningless
    True
    """

    name: str
    sha256: str
    licence: str
    activation: Activation | None
    seed: int | None = None

    @property
    def meaningless(self) -> bool:
        """Whether the weights are random numbers, so that no output means anything."""
        return self.seed is not None

    def summary(self) -> str:
        """One line for a log or a report."""
        if self.meaningless:
            return f"{self.name} (random weights for tests: the results mean nothing)"
        facts = [f"sha256 {self.sha256}", f"licence {self.licence}"]
        return f"{self.name} ({', '.join(facts + ([self.activation] if self.activation else []))})"


# ---- where files lie -----------------------------------------------------------------------------------------------


def weights_folder() -> Path:
    """Folder of downloaded weights: ``MONAI_ZSAD_WEIGHTS``, else ``monai_zsad/weights`` in the user's cache folder."""
    if folder := os.environ.get("MONAI_ZSAD_WEIGHTS"):
        return Path(folder).expanduser()
    return _user_cache() / "monai_zsad" / "weights"


def sha256_of(path: str | Path) -> str:
    """The file's SHA-256 in hexadecimal digits; computed once per process for an unchanged file."""
    path = Path(path)
    with _reading(path):
        status = path.stat()
        return _sha256(str(path.resolve()), status.st_size, status.st_mtime_ns)


def cached_path(entry: WeightsEntry | str, *, folder: str | Path | None = None) -> Path | None:
    """Where the weights lie on this machine, not yet verified, or ``None``.

    Looked at in turn: the weights folder, Hugging Face's cache, and the caches of OpenAI's CLIP and of ``torch.hub``.
    """
    return next(_candidates(get_entry(entry) if isinstance(entry, str) else entry, folder), (None, ""))[0]


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


# ---- reading -------------------------------------------------------------------------------------------------------


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a state dict from OpenAI's TorchScript archive, a torch checkpoint or a safetensors file.

    The kind is told from the content, whatever the file is called. A checkpoint's ``state_dict`` is taken out of it,
    and the prefixes of ``DistributedDataParallel`` and ``torch.compile`` are removed. Nothing in the file is executed:
    pickles are read with ``weights_only=True``.

    Raises:
        WeightsError: if the file is missing, damaged, no checkpoint, or holds anything but data.
    """
    path = Path(path)
    return _tensors(_read(path), path, ("state_dict", "model"))


def clip_state_dict(
    source: str | Path,
    *,
    architecture: str | None,
    activation: Activation | None = None,
    download: bool = True,
) -> tuple[dict[str, torch.Tensor], WeightsRecord]:
    """CLIP parameters under OpenAI's names, in the file's own dtype, and what they are.

    Args:
        source: a registered name, or a file.
        architecture: open_clip's name of the network to be filled; ``None`` if it has none.
        activation: what the file's weights were **trained** with. Needed only for a file that is neither registered
            nor a TorchScript archive; it cannot contradict what is known.
        download: whether registered weights that are not cached may be fetched.

    Raises:
        WeightsError: if the weights are unknown, missing, damaged, of another architecture, or of unknown activation.
    """
    path, entry, record = _locate(source, "clip", download)
    if entry and architecture and entry.architecture != architecture.removesuffix("-quickgelu"):
        raise WeightsError(
            f"the weights {entry.name} are of the architecture {entry.architecture}, but the network is "
            f"{architecture}: choose weights that begin with '{architecture}:', or architecture={entry.architecture!r}"
        )
    known = entry.activation if entry else _archive_activation(path)
    if known and activation and known != activation:
        raise WeightsError(
            f"activation={activation!r} contradicts the weights {record.name}, which were trained with {known}: leave "
            "it out here. A method that runs them with another one says so when it builds its network"
        )
    if not (known or activation):
        raise WeightsError(
            f"{path} does not tell which activation it was trained with, and the wrong one changes every feature "
            "without any error: give activation='quick_gelu' (OpenAI, MetaCLIP, DFN and open_clip's '-quickgelu' "
            "models) or activation='gelu' (most LAION and DataComp models)"
        )
    state = {key: value for key, value in read_state_dict(path).items() if key not in _NO_PARAMETERS}
    state = {key.removeprefix("text."): value for key, value in state.items() if key != "text.attn_mask"}
    if lacking := [key for key in ("visual.conv1.weight", "visual.proj", "token_embedding.weight") if key not in state]:
        raise WeightsError(
            f"{path} is not a ViT CLIP with OpenAI's parameter names: it lacks {', '.join(lacking)} and begins with "
            f"{', '.join(list(state)[:3])}. Use OpenAI's or open_clip's file of the model, not that of transformers or "
            "timm"
        )
    return state, WeightsRecord(record.name, record.sha256, record.licence, known or activation)


def prior_state_dict(source: str | Path, *, download: bool = True) -> tuple[dict[str, torch.Tensor], WeightsRecord]:
    """A dense prior's parameters under the names in the file (official or timm's), and what they are.

    Raises:
        WeightsError: if the weights are unknown, missing or damaged.
    """
    path, _, record = _locate(source, "prior", download)
    return read_state_dict(path), record


def prompts_state_dict(source: str | Path, *, download: bool = True) -> tuple[dict[str, torch.Tensor], WeightsRecord]:
    """Learned prompts (the ``prompt_learner`` of a released checkpoint, or a plain state dict), and what they are.

    Raises:
        WeightsError: if the prompts are unknown, missing or damaged.
    """
    path, _, record = _locate(source, "prompts", download)
    return _tensors(_read(path), path, ("prompt_learner", "state_dict")), record


def _locate(source: str | Path, kind: WeightsKind, download: bool) -> tuple[Path, WeightsEntry | None, WeightsRecord]:
    """File, registry entry if there is one, and record of a name or path."""
    path = Path(source).expanduser()
    entry = None
    if isinstance(source, str) and not path.is_file() and not _looks_like_path(source):
        entry = get_entry(source)
        if entry.kind == kind:
            path = fetch(entry, download=download)
    sha256 = sha256_of(path) if entry is None or entry.kind == kind else ""
    entry = entry or entry_of_sha256(sha256, kind)
    if entry is None:
        return path, None, WeightsRecord(path.name, sha256, "unknown", None)
    if entry.kind != kind:
        names = [item.name for item in list_entries(kind)][:3]
        raise WeightsError(
            f"{source} holds {_KINDS[entry.kind]}, but {_KINDS[kind]} are needed here: for example {', '.join(names)}"
        )
    return path, entry, WeightsRecord(entry.name, sha256, entry.licence, entry.activation)


_KINDS = {"clip": "CLIP weights", "prior": "weights of a dense prior", "prompts": "learned prompts"}


def _looks_like_path(source: str) -> bool:
    return bool(set(source) & {"/", "\\"}) or source.startswith("~") or Path(source).suffix.lower() in _SUFFIXES


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise WeightsError(
            f"the weights file {path} does not exist: check the path, or give a registered name "
            "(`python -m monai_zsad weights list`)"
        ) from error
    except OSError as error:
        raise WeightsError(f"the weights file {path} cannot be read: {error.strerror or error}") from error


def _members(path: Path) -> list[str]:
    """Names in a zip archive; empty for other files."""
    with _reading(path), contextlib.suppress(zipfile.BadZipFile, struct.error):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return archive.namelist()
    return []


def _is_torchscript(members: list[str]) -> bool:
    return any(name.endswith("/constants.pkl") for name in members) and any("/code/" in name for name in members)


def _archive_activation(path: Path) -> Activation | None:
    """What a TorchScript archive's code computes: OpenAI's archives are QuickGELU throughout; else ``None``."""
    members = _members(path)
    if not _is_torchscript(members):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            sources = [archive.read(name) for name in members if "/code/" in name and name.endswith(".py")]
    except (zlib.error, *_DAMAGE):
        return None
    return "gelu" if any(b"torch.gelu(" in source for source in sources) else "quick_gelu"


def _read(path: Path) -> Any:
    import pickle
    import warnings

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with _reading(path), open(path, "rb") as file:
        head = file.read(64)
    try:
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
            return load_file(path)
        if _is_torchscript(_members(path)):
            with warnings.catch_warnings():
                # OpenAI publishes nothing else, so its reader's deprecation is not the user's concern.
                warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", FutureWarning)
                return dict(torch.jit.load(path, map_location="cpu").state_dict())
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = (
            "it holds Python objects besides tensors, which could run code, and is refused; save its state dict alone"
            if "nsupported" in str(error) and "global" in str(error).lower()
            else _kind_of_damage(head)
        )
        raise WeightsError(f"{path} is not a usable weights file: {reason}") from error
    except (SafetensorError, *_DAMAGE) as error:
        raise WeightsError(f"{path} is not a usable weights file: {_kind_of_damage(head)}") from error


def _kind_of_damage(head: bytes) -> str:
    if not head:
        return "it is empty; fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS; fetch the file itself with `git lfs pull`"
    if head.lstrip().startswith(b"<"):
        return "it is a web page, saved in place of the file; use the file's direct address"
    return "it is truncated or no checkpoint; fetch it again"


def _tensors(loaded: Any, path: Path, keys: tuple[str, ...]) -> dict[str, torch.Tensor]:
    import torch

    for key in keys:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not (isinstance(loaded, Mapping) and loaded and all(isinstance(item, torch.Tensor) for item in loaded.values())):
        held = f"the entries {', '.join(map(str, list(loaded)[:5]))}" if isinstance(loaded, Mapping) else type(loaded)
        raise WeightsError(
            f"{path} holds {held} and no state dict of tensors: expected one, plain or under {' or '.join(keys)}"
        )
    state = {str(key): value for key, value in loaded.items()}
    for prefix in ("module.", "_orig_mod."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state
