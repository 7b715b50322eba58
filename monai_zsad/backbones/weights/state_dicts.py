"""State dicts of each kind of weights, and the record of what was loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monai_zsad.backbones.weights.download import fetch
from monai_zsad.backbones.weights.files import file_errors, sha256_of
from monai_zsad.backbones.weights.reading import archive_activation, load_file_content, read_state_dict, tensors_of
from monai_zsad.backbones.weights.registry import WeightsEntry, WeightsKind, entry_of_sha256, get_entry, list_entries
from monai_zsad.errors import WeightsError

if TYPE_CHECKING:
    import torch

    from monai_zsad.backbones.architectures import Activation

__all__ = ["WeightsRecord", "adapter_state_dict", "clip_state_dict", "prior_state_dict", "prompts_state_dict"]

_SUFFIXES = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"}
# OpenAI's archives and older files of open_clip hold these constants besides the parameters.
_NO_PARAMETERS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}


@dataclass(frozen=True)
class WeightsRecord:
    """Name, hash and licence of loaded weights, for logs and reports. It holds no path of this machine.

    Attributes:
        name: registered name, else the file's name, else ``seed:N``.
        sha256: complete SHA-256 of the file; empty for a seed.
        licence: licence of the weights; ``"unknown"`` for a file that the registry does not know.
        activation: activation of the MLPs during training; ``None`` where the architecture leaves no choice.
        seed: seed of random weights, else ``None``.

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
        """Whether the weights are random numbers. The output of the network then means nothing."""
        return self.seed is not None

    def summary(self) -> str:
        """One line for a log or a report."""
        if self.meaningless:
            return f"{self.name} (random weights for tests: the results mean nothing)"
        facts = [f"sha256 {self.sha256}", f"licence {self.licence}"]
        return f"{self.name} ({', '.join(facts + ([self.activation] if self.activation else []))})"


def clip_state_dict(
    source: str | Path,
    *,
    architecture: str | None,
    activation: Activation | None = None,
    download: bool = True,
) -> tuple[dict[str, torch.Tensor], WeightsRecord]:
    """CLIP parameters under OpenAI's names, in the file's own dtype, and their record.

    Args:
        source: a registered name, or a file.
        architecture: open_clip's name of the network to be filled; ``None`` if it has none.
        activation: activation that the weights in the file were **trained** with. It is needed only for a file that is
            neither registered nor a TorchScript archive. It must not contradict the registry or the archive.
        download: whether registered weights that are not on this machine may be downloaded.

    Raises:
        WeightsError: if the weights are unknown, missing, damaged, of another architecture, or of unknown activation.
    """
    path, entry, record = _locate(source, "clip", download)
    if entry and architecture and entry.architecture != architecture.removesuffix("-quickgelu"):
        raise WeightsError(
            f"the weights {entry.name} are of the architecture {entry.architecture}, but the network is "
            f"{architecture}: choose weights that begin with '{architecture}:', or architecture={entry.architecture!r}"
        )
    known = entry.activation if entry else archive_activation(path)
    if known and activation and known != activation:
        raise WeightsError(
            f"activation={activation!r} contradicts the weights {record.name}, which were trained with {known}: leave "
            "the argument out. A method that runs them with another activation sets it when it builds its network"
        )
    if not (known or activation):
        raise WeightsError(
            f"{path} does not tell which activation it was trained with. The wrong one changes every feature without "
            "an error: give activation='quick_gelu' (OpenAI, MetaCLIP, DFN and open_clip's '-quickgelu' "
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
    """Parameters of a dense prior under the names in the file (official or timm's), and their record.

    Raises:
        WeightsError: if the weights are unknown, missing or damaged.
    """
    path, _, record = _locate(source, "prior", download)
    return read_state_dict(path), record


def prompts_state_dict(source: str | Path, *, download: bool = True) -> tuple[dict[str, torch.Tensor], WeightsRecord]:
    """Learned prompts (the ``prompt_learner`` of a released checkpoint, or a plain state dict), and their record.

    Raises:
        WeightsError: if the prompts are unknown, missing or damaged.
    """
    path, _, record = _locate(source, "prompts", download)
    return tensors_of(load_file_content(path), path, ("prompt_learner", "state_dict")), record


def adapter_state_dict(source: str | Path, part: str) -> tuple[dict[str, torch.Tensor], WeightsRecord]:
    """AA-CLIP's adapter from a checkpoint ``{part: ...}`` or a plain state dict, and its record.

    Args:
        source: file. There are no registered names, since no adapters are published.
        part: ``"image_adapter"`` or ``"text_adapter"``.

    Raises:
        WeightsError: if the file is missing or damaged.
    """
    path, _, record = _locate(Path(source), "prompts", download=False)
    return tensors_of(load_file_content(path), path, (part, "state_dict")), record


def check_source(source: str | Path) -> None:
    """Refuse a source of weights that does not exist, without reading or downloading one.

    A name with a colon that is not listed may be one of open_clip's, which only a download tells.

    Args:
        source: a registered name, a file, or ``"seed:N"``.

    Raises:
        WeightsError: if the file does not exist, or the name is unknown.

    Example:
        >>> check_source("seed:0"), check_source("ViT-L-14-336:openai")
        (None, None)
    """
    path, text = Path(source).expanduser(), str(source)
    if path.is_file():
        return
    if _looks_like_path(text):
        with file_errors(path), path.open("rb"):
            return
    if ":" not in text:
        get_entry(text)


def _locate(source: str | Path, kind: WeightsKind, download: bool) -> tuple[Path, WeightsEntry | None, WeightsRecord]:
    """File, registry entry (if there is one) and record of the weights with a given name or path."""
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
