"""Weights files on this machine: the folders that are searched, and the hash of a file."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from monai_zsad.backbones.weights.registry import WeightsEntry, get_entry
from monai_zsad.errors import WeightsError

__all__ = ["cached_path", "candidates", "file_errors", "hf_filenames", "sha256_of", "weights_folder"]

_BLOCK = 1 << 20


def weights_folder() -> Path:
    """Folder of downloaded weights: ``MONAI_ZSAD_WEIGHTS``, else ``monai_zsad/weights`` in the user's cache folder."""
    if folder := os.environ.get("MONAI_ZSAD_WEIGHTS"):
        return Path(folder).expanduser()
    return _user_cache() / "monai_zsad" / "weights"


def sha256_of(path: str | Path) -> str:
    """The file's SHA-256 in hexadecimal digits; computed once per process for an unchanged file."""
    path = Path(path)
    with file_errors(path):
        status = path.stat()
        return _sha256(str(path.resolve()), status.st_size, status.st_mtime_ns)


def cached_path(entry: WeightsEntry | str, *, folder: str | Path | None = None) -> Path | None:
    """Path of the weights on this machine, or ``None``. The file is not verified.

    The order of the search: the weights folder, Hugging Face's cache, and the caches of OpenAI's CLIP and of
    ``torch.hub``.
    """
    return next(candidates(get_entry(entry) if isinstance(entry, str) else entry, folder), (None, ""))[0]


@contextlib.contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turn an error of the file system while ``path`` is read into an error with a remedy.

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


def candidates(entry: WeightsEntry, folder: str | Path | None) -> Iterator[tuple[Path, str]]:
    """Existing files that may belong to the entry, each with the leading digits of its hash, if they are known."""
    home = Path(folder).expanduser() if folder is not None else weights_folder()
    places = [(home / entry.filename, entry.sha256)]
    if entry.hf_repo and entry.hf_filename and entry.hf_local:
        from huggingface_hub import try_to_load_from_cache

        places.append((home / entry.hf_local, ""))
        for filename in hf_filenames(entry):
            found = try_to_load_from_cache(entry.hf_repo, filename)
            if isinstance(found, str):
                # The cache names a large file by its hash as the server stated it.
                blob = Path(found).resolve().name
                places.append((Path(found), blob if re.fullmatch(r"[0-9a-f]{64}", blob) else ""))
    torch_home = Path(os.environ.get("TORCH_HOME") or _user_cache() / "torch").expanduser()
    others = (Path.home() / ".cache" / "clip", torch_home / "hub" / "checkpoints")
    places += [(other / entry.filename, entry.sha256) for other in others]
    return ((path, sha256) for path, sha256 in places if path.is_file())


def hf_filenames(entry: WeightsEntry) -> list[str]:
    """Names to try in the repository. Older repositories of open_clip hold a pickle, not safetensors."""
    names = [entry.hf_filename or ""]
    return [*names, "open_clip_pytorch_model.bin"] if names == ["open_clip_model.safetensors"] else names
