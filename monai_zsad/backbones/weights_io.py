"""Weights files: reading every format, and the record of what was read."""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_zsad.backbones.weights import WeightsEntry, WeightsKind, entry_of_sha256, get_entry, list_entries
from monai_zsad.backbones.weights_fetch import fetch, reading, sha256_of
from monai_zsad.errors import WeightsError

if TYPE_CHECKING:
    import torch

    from monai_zsad.backbones.architectures import Activation

__all__ = [
    "WeightsRecord",
    "adapter_state_dict",
    "clip_state_dict",
    "prior_state_dict",
    "prompts_state_dict",
    "read_state_dict",
    "refuse_pointer",
]

_SUFFIXES = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"}
_LFS_POINTER = b"version https://git-lfs"
_LFS_REMEDY = "it is a pointer of Git LFS; fetch the file itself with `git lfs pull`"
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


def adapter_state_dict(source: str | Path, part: str) -> tuple[dict[str, torch.Tensor], WeightsRecord]:
    """AA-CLIP's adapter of a checkpoint ``{part: ...}`` or a plain state dict, and what it is.

    Args:
        source: file; no adapters are published, so there are no names.
        part: ``"image_adapter"`` or ``"text_adapter"``.

    Raises:
        WeightsError: if the file is missing or damaged.
    """
    path, _, record = _locate(Path(source), "prompts", download=False)
    return _tensors(_read(path), path, (part, "state_dict")), record


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


def _members(path: Path) -> list[str]:
    """Names in a zip archive; empty for other files."""
    with reading(path), contextlib.suppress(zipfile.BadZipFile, struct.error):
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

    with reading(path), open(path, "rb") as file:
        head = file.read(64)
    try:
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
            return load_file(path)
        if _is_torchscript(_members(path)):
            with warnings.catch_warnings():
                # OpenAI publishes nothing else, so its reader's deprecation is not the user's concern.
                for category in (FutureWarning, DeprecationWarning):  # as PyTorch's version has it
                    warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", category)
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


def refuse_pointer(path: Path) -> None:
    """Say of a pointer of Git LFS, which a checkout without it leaves, what it is.

    Raises:
        WeightsError: if ``path`` is one.
    """
    with reading(path), open(path, "rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise WeightsError(f"{path} is not a usable weights file: {_LFS_REMEDY}")


def _kind_of_damage(head: bytes) -> str:
    if not head:
        return "it is empty; fetch it again"
    if head.startswith(_LFS_POINTER):
        return _LFS_REMEDY
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
