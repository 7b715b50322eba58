"""The registry of released weights: source, hash, licence, and how they were trained.

These facts are in ``registry.yaml``. MONAI's ``large_files.yml`` was not enough: it lists a URL and a hash for one
bundle, but neither the licence nor the activation and the normalisation that a network must know.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from monai_zsad.errors import ConfigurationError, WeightsError, did_you_mean

if TYPE_CHECKING:
    from monai_zsad.backbones.architectures import Activation

__all__ = ["CLIP_MEAN", "CLIP_STD", "WeightsEntry", "WeightsKind", "entry_of_sha256", "get_entry", "list_entries"]

WeightsKind = Literal["clip", "prior", "prompts"]
Channels = tuple[float, float, float]

CLIP_MEAN: Channels = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Channels = (0.26862954, 0.26130258, 0.27577711)

_HF_SAFE = "open_clip_model.safetensors"


@dataclass(frozen=True)
class WeightsEntry:
    """One released weights file and its facts.

    Attributes:
        name: unique name, which the user gives.
        kind: ``"clip"`` (both towers), ``"prior"`` (a dense prior of Crane+), ``"prompts"`` (learned prompts).
        architecture: open_clip's name, timm's name, or the method's name, by kind.
        description: a short text for a table.
        filename: name of the file in the weights folder.
        size: bytes, rounded if the publisher does not state it; 0 if unknown. For display only.
        licence: SPDX name if there is one.
        citation: the paper to cite.
        homepage: page that states licence and provenance.
        url: address of the file; ``None`` if only Hugging Face has it.
        hf_repo: Hugging Face repository with the same weights, the fallback of ``url``; ``None`` if there is none.
        hf_filename: the file in that repository.
        sha256: SHA-256 of the file at ``url``: complete, or the leading digits that the publisher states, or empty.
        activation: activation of the MLPs during training; ``None`` where the architecture leaves no choice.
        mean: mean of each channel for images in [0, 1]; ``None`` for prompts, which do not process images.
        std: standard deviation of each channel for images in [0, 1]; ``None`` for prompts.
        base: the CLIP weights that the prompts were trained with.
    """

    name: str
    kind: WeightsKind
    architecture: str
    description: str
    filename: str
    size: int
    licence: str
    citation: str
    homepage: str
    url: str | None = None
    hf_repo: str | None = None
    hf_filename: str | None = None
    sha256: str = ""
    activation: Activation | None = None
    mean: Channels | None = None
    std: Channels | None = None
    base: str | None = None

    @property
    def hf_local(self) -> str | None:
        """Name of the file from Hugging Face in the weights folder. Its hash differs from that of ``filename``."""
        return f"{self.hf_repo}/{self.hf_filename}".replace("/", "--") if self.hf_repo else None


def _stated_sha256(url: str) -> str:
    """The hash or its first digits, which OpenAI and open_clip write into their URLs; empty for other URLs."""
    if "openaipublic" in url:
        return url.split("/")[-2]
    if "mlfoundations" in url:
        return url.rsplit("-", 1)[-1].split(".")[0]
    return ""


@functools.cache
def _document() -> dict[str, Any]:
    import yaml

    return yaml.safe_load(files("monai_zsad.backbones.weights").joinpath("registry.yaml").read_text(encoding="utf-8"))


@functools.cache
def _listed() -> dict[str, WeightsEntry]:
    """The listed entries by name."""
    entries = [_from_yaml(facts) for facts in _document()["entries"]]
    return {entry.name: entry for entry in entries}


def _from_yaml(stated: dict[str, Any]) -> WeightsEntry:
    """An entry; facts that the YAML leaves out are derived from the stated ones."""
    facts: dict[str, Any] = {"mean": CLIP_MEAN, "std": CLIP_STD} if stated["kind"] == "clip" else {}
    if url := stated.get("url"):
        facts |= {"filename": url.rsplit("/", 1)[-1], "sha256": _stated_sha256(url)}
    else:
        facts |= {"filename": f"{stated['hf_repo']}/{stated['hf_filename']}".replace("/", "--")}
    facts |= {key: tuple(fact) if isinstance(fact, list) else fact for key, fact in stated.items()}
    return WeightsEntry(**facts)


def list_entries(kind: WeightsKind | None = None) -> list[WeightsEntry]:
    """All listed weights, or those of one kind.

    >>> [entry.name for entry in list_entries("prior")]
    ['dinov2_vitb14_reg']
    """
    return [entry for entry in _listed().values() if kind in (None, entry.kind)]


def get_entry(name: str) -> WeightsEntry:
    """The entry called ``name``: a listed one, or any ``ARCHITECTURE:TAG`` of open_clip that is a plain ViT CLIP.

    Args:
        name: name of the weights.

    Returns:
        The entry.

    Raises:
        WeightsError: if the name is unknown; the message gives similar names.

    >>> get_entry("ViT-L-14-336:openai").activation
    'quick_gelu'
    """
    listed = _listed()
    if name in listed:
        return listed[name]
    candidates = list(listed)
    if ":" in name:
        import open_clip

        architecture, tag = name.split(":", 1)
        if config := open_clip.get_pretrained_cfg(architecture, tag):
            return _from_open_clip(architecture, tag.lower().replace("-", "_"), config)
        candidates += open_clip.list_pretrained(as_str=True)
    hint = did_you_mean(name, candidates, listed=False)
    raise WeightsError(
        f"weights {name!r} are unknown{f'; {hint}' if hint else '.'} "
        "`python -m monai_zsad weights list` prints the names, any ARCHITECTURE:TAG of open_clip's plain ViTs works "
        "too, and a file is given by its path"
    )


def _from_open_clip(architecture: str, tag: str, config: dict[str, Any]) -> WeightsEntry:
    from monai_zsad.backbones.architectures import clip_configuration

    base = architecture.removesuffix("-quickgelu")
    name = f"{architecture}:{tag}"
    if listed := _listed().get(f"{base}:{tag}"):
        return listed
    try:
        clip_configuration(base)
    except ConfigurationError as error:
        raise WeightsError(f"weights {name!r} cannot be used: {error}") from error
    url = config.get("url", "")
    stated = _stated_sha256(url)
    repo, _, file = config.get("hf_hub", "").rpartition("/")
    # In open_clip's table, two tags may name the same repository. So a URL with a hash is used alone. A URL without a
    # hash is replaced by Hugging Face, whose server states the hash.
    url = url if stated or not repo else ""
    repo = "" if url else repo
    homepage = f"https://huggingface.co/{repo}" if repo else "https://github.com/mlfoundations/open_clip"
    return WeightsEntry(
        name=name,
        kind="clip",
        architecture=base,
        description=f"{base}, {tag} (open_clip)",
        filename=url.rsplit("/", 1)[-1] if url else f"{repo}/{file or _HF_SAFE}".replace("/", "--"),
        size=0,
        licence="MIT" if stated or repo.startswith("laion/") else f"not recorded here, see {homepage}",
        citation=_document()["open_clip"]["citation"],
        homepage=homepage,
        url=url or None,
        hf_repo=repo or None,
        hf_filename=(file or _HF_SAFE) if repo else None,
        sha256=stated,
        # The tag, not the architecture's file, states what the weights were trained with: open_clip compares the two
        # and only warns.
        activation="quick_gelu" if config.get("quick_gelu") else "gelu",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def entry_of_sha256(sha256: str, kind: WeightsKind = "clip") -> WeightsEntry | None:
    """The entry whose file has this hash, or ``None``.

    Args:
        sha256: the complete hash. Files of open_clip are found by the leading digits that open_clip states.
        kind: kind of the weights. Only for ``"clip"``, open_clip's table is searched too.
    """
    for entry in list_entries():
        if entry.sha256 and sha256.startswith(entry.sha256):
            return entry
    if kind != "clip":
        return None

    import open_clip

    for architecture, tag in open_clip.list_pretrained():
        config = open_clip.get_pretrained_cfg(architecture, tag)
        stated = _stated_sha256(config.get("url", ""))
        if re.fullmatch(r"[0-9a-f]{8,64}", stated) and sha256.startswith(stated):
            try:
                return _from_open_clip(architecture, tag, config)
            except WeightsError:
                return None
    return None
