"""Reading of weights files in every format that is in use."""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_zsad.backbones.weights.files import file_errors
from monai_zsad.errors import WeightsError

if TYPE_CHECKING:
    import torch

    from monai_zsad.backbones.architectures import Activation

__all__ = ["archive_activation", "load_file_content", "read_state_dict", "refuse_pointer", "tensors_of"]

_LFS_POINTER = b"version https://git-lfs"
_LFS_REMEDY = "it is a pointer of Git LFS; fetch the file itself with `git lfs pull`"

# The errors that torch's readers raise on damaged files. They were found by cutting and changing files at random.
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


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a state dict from OpenAI's TorchScript archive, a torch checkpoint or a safetensors file.

    The content decides the format, not the file's name. From a checkpoint, its ``state_dict`` is taken. The prefixes
    of ``DistributedDataParallel`` and ``torch.compile`` are removed. Nothing in the file is executed: pickles are read
    with ``weights_only=True``.

    Args:
        path: the file.

    Returns:
        Tensors by parameter name.

    Raises:
        WeightsError: if the file is missing or damaged, is not a checkpoint, or holds Python objects besides data.
    """
    path = Path(path)
    return tensors_of(load_file_content(path), path, ("state_dict", "model"))


def _members(path: Path) -> list[str]:
    """Names in a zip archive; empty for other files."""
    with file_errors(path), contextlib.suppress(zipfile.BadZipFile, struct.error):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return archive.namelist()
    return []


def _is_torchscript(members: list[str]) -> bool:
    return any(name.endswith("/constants.pkl") for name in members) and any("/code/" in name for name in members)


def archive_activation(path: Path) -> Activation | None:
    """Activation that the code of a TorchScript archive computes; ``None`` for other files.

    OpenAI's archives write QuickGELU out, so an archive that does not call ``torch.gelu`` uses QuickGELU.
    """
    members = _members(path)
    if not _is_torchscript(members):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            sources = [archive.read(name) for name in members if "/code/" in name and name.endswith(".py")]
    except (zlib.error, *_DAMAGE):
        return None
    return "gelu" if any(b"torch.gelu(" in source for source in sources) else "quick_gelu"


def load_file_content(path: Path) -> Any:
    """Content of a weights file of any structure.

    Raises:
        WeightsError: if the file cannot be read, or could run code.
    """
    import pickle
    import warnings

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with file_errors(path), open(path, "rb") as file:
        head = file.read(64)
    try:
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
            return load_file(path)
        if _is_torchscript(_members(path)):
            with warnings.catch_warnings():
                # OpenAI publishes this format only, so the user can do nothing about the deprecation of its reader.
                for category in (FutureWarning, DeprecationWarning):  # the category depends on PyTorch's version
                    warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", category)
                return dict(torch.jit.load(path, map_location="cpu").state_dict())
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = (
            "it holds Python objects besides tensors, which could run code. Save its state dict alone"
            if "nsupported" in str(error) and "global" in str(error).lower()
            else _kind_of_damage(head)
        )
        raise WeightsError(f"{path} is not a usable weights file: {reason}") from error
    except (SafetensorError, *_DAMAGE) as error:
        raise WeightsError(f"{path} is not a usable weights file: {_kind_of_damage(head)}") from error


def refuse_pointer(path: Path) -> None:
    """Refuse a pointer file of Git LFS, which a checkout without Git LFS leaves in place of the weights.

    Raises:
        WeightsError: if ``path`` is a pointer; the message tells how to fetch the file.
    """
    with file_errors(path), open(path, "rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise WeightsError(f"{path} is not a usable weights file: {_LFS_REMEDY}")


def _kind_of_damage(head: bytes) -> str:
    if not head:
        return "it is empty; fetch it again"
    if head.startswith(_LFS_POINTER):
        return _LFS_REMEDY
    if head.lstrip().startswith(b"<"):
        return "it is a web page that was saved in place of the file; use the file's direct address"
    return "it is truncated or not a checkpoint; fetch it again"


def tensors_of(loaded: Any, path: Path, keys: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The state dict in ``loaded``, without the prefixes of wrapped models.

    Args:
        loaded: content of the file.
        path: the file, for the error message.
        keys: names under which a checkpoint may hold its state dict.

    Raises:
        WeightsError: if there is no state dict of tensors.
    """
    import torch

    for key in keys:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not (isinstance(loaded, Mapping) and loaded and all(isinstance(item, torch.Tensor) for item in loaded.values())):
        held = f"the entries {', '.join(map(str, list(loaded)[:5]))}" if isinstance(loaded, Mapping) else type(loaded)
        raise WeightsError(
            f"{path} holds {held}, but no state dict of tensors: save one, plain or under {' or '.join(keys)}"
        )
    state = {str(key): value for key, value in loaded.items()}
    for prefix in ("module.", "_orig_mod."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state
