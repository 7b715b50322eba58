"""Which released weights exist: where they come from, what they hash to, what they were trained with.

The one home of these facts. MONAI's ``large_files.yml`` lists a URL and a hash per bundle; it has no place for the
licence, the activation and the normalisation, which a network must know, and it is not shared between bundles.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from monai_zsad.errors import ConfigurationError, WeightsError

if TYPE_CHECKING:
    from monai_zsad.backbones.architectures import Activation

__all__ = ["CLIP_MEAN", "CLIP_STD", "WeightsEntry", "WeightsKind", "entry_of_sha256", "get_entry", "list_entries"]

WeightsKind = Literal["clip", "prior", "prompts"]
Channels = tuple[float, float, float]

CLIP_MEAN: Channels = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Channels = (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
_IMAGENET_STD: Channels = (0.229, 0.224, 0.225)

_HF_SAFE = "open_clip_model.safetensors"
_OPENAI = "https://openaipublic.azureedge.net/clip/models"
_OPEN_CLIP_RELEASE = "https://github.com/mlfoundations/open_clip/releases/download/v0.2-weights"
# HEAD is the default branch, whatever it is called; the hash guards the content.
_CRANE_FILES = "https://raw.githubusercontent.com/AlirezaSalehy/Crane/HEAD/checkpoints"
_CLIP_PAPER = "Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021"
_OPEN_CLIP_PAPER = "Cherti et al., Reproducible Scaling Laws for Contrastive Language-Image Learning, CVPR 2023"
_CRANE_PAPER = "Salehi et al., Crane: Context-Guided Prompt Learning and Attention Refinement, arXiv:2504.11055, 2025"


@dataclass(frozen=True)
class WeightsEntry:
    """One released weights file and the facts that go with it.

    Attributes:
        name: unique; what a user types.
        kind: ``"clip"`` (both towers), ``"prior"`` (a dense prior of Crane+), ``"prompts"`` (learned prompts).
        architecture: open_clip's name, timm's name, or the method's name, by kind.
        description: a few words for a table.
        filename: name of the file in the weights folder.
        size: bytes, rounded where the publisher states none; 0 if unknown. For display only.
        licence: SPDX name where there is one.
        citation: the paper to cite.
        homepage: where licence and provenance can be read.
        url: where the file is fetched from; ``None`` if only Hugging Face has it.
        hf_repo: Hugging Face repository with the same weights, the fallback of ``url``; ``None`` if there is none.
        hf_filename: the file in that repository.
        sha256: of the file at ``url``, complete or the leading digits that the publisher states; empty if none.
        activation: what the MLPs were trained with; ``None`` where the architecture leaves no choice.
        mean: per channel, of images in [0, 1]; ``None`` for prompts, which see no image.
        std: likewise.
        base: the CLIP weights that prompts were trained with.
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
        """Name in the weights folder of the file from Hugging Face: its content and hash differ from ``filename``'s."""
        return f"{self.hf_repo}/{self.hf_filename}".replace("/", "--") if self.hf_repo else None


def _openai(architecture: str, sha256: str, file: str, timm_name: str, size: int, description: str) -> WeightsEntry:
    return WeightsEntry(
        name=f"{architecture}:openai",
        kind="clip",
        architecture=architecture,
        description=description,
        filename=file,
        size=size,
        licence="MIT",
        citation=_CLIP_PAPER,
        homepage="https://github.com/openai/CLIP",
        url=f"{_OPENAI}/{sha256}/{file}",
        hf_repo=f"timm/{timm_name}.openai",
        hf_filename=_HF_SAFE,
        sha256=sha256,
        activation="quick_gelu",
        mean=CLIP_MEAN,
        std=CLIP_STD,
    )


def _release(architecture: str, tag: str, file: str, size: int, description: str) -> WeightsEntry:
    return WeightsEntry(
        name=f"{architecture}:{tag}",
        kind="clip",
        architecture=architecture,
        description=description,
        filename=file,
        size=size,
        licence="MIT",
        citation=_OPEN_CLIP_PAPER,
        homepage="https://github.com/mlfoundations/open_clip/releases/tag/v0.2-weights",
        # No fallback: open_clip's own table names the e31 repository of Hugging Face for e32 too.
        url=f"{_OPEN_CLIP_RELEASE}/{file}",
        sha256=_stated_sha256(f"{_OPEN_CLIP_RELEASE}/{file}"),
        activation="gelu",
        mean=CLIP_MEAN,
        std=CLIP_STD,
    )


def _laion(architecture: str, tag: str, repo: str, size: int, description: str) -> WeightsEntry:
    return WeightsEntry(
        name=f"{architecture}:{tag}",
        kind="clip",
        architecture=architecture,
        description=description,
        filename=f"{repo}/{_HF_SAFE}".replace("/", "--"),
        size=size,
        licence="MIT",
        citation=_OPEN_CLIP_PAPER,
        homepage=f"https://huggingface.co/{repo}",
        hf_repo=repo,
        hf_filename=_HF_SAFE,
        activation="gelu",
        mean=CLIP_MEAN,
        std=CLIP_STD,
    )


def _crane(method: str, data: str, epoch: int, size: int, sha256: str) -> WeightsEntry:
    folder = f"trained_on_{data}_{'cranep' if method == 'crane_plus' else 'crane'}"
    title = "Crane+" if method == "crane_plus" else "Crane"
    return WeightsEntry(
        name=f"{method}:{data}_epoch{epoch}",
        kind="prompts",
        architecture=method,
        description=f"{title} prompts, trained on {'MVTec AD' if data == 'mvtec' else 'VisA'}, epoch {epoch}",
        filename=f"{folder}_epoch_{epoch}.pth",
        size=size,
        licence="MIT",
        citation=_CRANE_PAPER,
        homepage="https://github.com/AlirezaSalehy/Crane",
        url=f"{_CRANE_FILES}/{folder}/epoch_{epoch}.pth",
        sha256=sha256,
        base="ViT-L-14-336:openai",
    )


def _stated_sha256(url: str) -> str:
    """The hash, or its first digits, that OpenAI and open_clip write into their URLs; empty elsewhere."""
    if "openaipublic" in url:
        return url.split("/")[-2]
    if "mlfoundations" in url:
        return url.rsplit("-", 1)[-1].split(".")[0]
    return ""


_ENTRIES: tuple[WeightsEntry, ...] = (
    _openai(
        "ViT-L-14-336", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02", "ViT-L-14-336px.pt",
        "vit_large_patch14_clip_336", 934_000_000, "CLIP ViT-L/14 at 336 px (Crane, AA-CLIP, AnomalyCLIP)",
    ),
    _openai(
        "ViT-L-14", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836", "ViT-L-14.pt",
        "vit_large_patch14_clip_224", 933_000_000, "CLIP ViT-L/14 at 224 px",
    ),
    _openai(
        "ViT-B-16", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f", "ViT-B-16.pt",
        "vit_base_patch16_clip_224", 351_000_000, "CLIP ViT-B/16 at 224 px",
    ),
    _openai(
        "ViT-B-32", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af", "ViT-B-32.pt",
        "vit_base_patch32_clip_224", 354_000_000, "CLIP ViT-B/32 at 224 px",
    ),
    _release(
        "ViT-B-16-plus-240", "laion400m_e32", "vit_b_16_plus_240-laion400m_e32-699c4b84.pt", 834_000_000,
        "CLIP ViT-B/16+ at 240 px, LAION-400M (AnoCLIP)",
    ),
    _release(
        "ViT-B-16-plus-240", "laion400m_e31", "vit_b_16_plus_240-laion400m_e31-8fb26589.pt", 834_000_000,
        "CLIP ViT-B/16+ at 240 px, LAION-400M, one epoch less",
    ),
    _laion(
        "ViT-B-16", "laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", 599_000_000,
        "CLIP ViT-B/16 at 224 px, LAION-2B",
    ),
    _laion(
        "ViT-H-14", "laion2b_s32b_b79k", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 3_940_000_000,
        "CLIP ViT-H/14 at 224 px, LAION-2B",
    ),
    WeightsEntry(
        name="dinov2_vitb14_reg",
        kind="prior",
        architecture="vit_base_patch14_reg4_dinov2.lvd142m",
        description="DINOv2 ViT-B/14 with registers, the dense prior of Crane+",
        filename="dinov2_vitb14_reg4_pretrain.pth",
        size=346_000_000,
        licence="Apache-2.0",
        citation="Oquab et al., DINOv2, TMLR 2024; Darcet et al., Vision Transformers Need Registers, ICLR 2024",
        homepage="https://github.com/facebookresearch/dinov2",
        url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_reg4_pretrain.pth",
        hf_repo="timm/vit_base_patch14_reg4_dinov2.lvd142m",
        hf_filename="model.safetensors",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    _crane("crane", "mvtec", 5, 576_693, "dc9bf1584c8abd8744f39e9607fdea8a04c8d30aa147de595d22bf444488e4c8"),
    _crane("crane", "visa", 5, 576_693, "66d070e3b72b61704495bdadd0f8c4979b62a23ca7211cfe08bd08ec7c0ab831"),
    _crane("crane_plus", "mvtec", 1, 576_693, "233cc4e623716f1aa26ebe374dd11aa7d77205266a52902837857c5a0fdc9e21"),
    _crane("crane_plus", "mvtec", 5, 577_159, "9163f13a9c0a75ac63de16239b850cf70d366b5591b083bea2c0c41e76beed53"),
    _crane("crane_plus", "visa", 5, 577_159, "732c7d1b76745950c56b0f9846f46f297619dcbb1db69a61e7b8fa5609ac10ab"),
)  # fmt: skip
_BY_NAME = {entry.name: entry for entry in _ENTRIES}


def list_entries(kind: WeightsKind | None = None) -> list[WeightsEntry]:
    """The listed weights, all or of one kind.

    >>> [entry.name for entry in list_entries("prior")]
    ['dinov2_vitb14_reg']
    """
    return [entry for entry in _ENTRIES if kind in (None, entry.kind)]


def get_entry(name: str) -> WeightsEntry:
    """The entry called ``name``: a listed one, or any ``ARCHITECTURE:TAG`` of open_clip that is a plain ViT CLIP.

    Raises:
        WeightsError: if there is none; the message gives the nearest names.

    >>> get_entry("ViT-L-14-336:openai").activation
    'quick_gelu'
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    candidates = list(_BY_NAME)
    if ":" in name:
        import open_clip

        architecture, tag = name.split(":", 1)
        if config := open_clip.get_pretrained_cfg(architecture, tag):
            return _from_open_clip(architecture, tag.lower().replace("-", "_"), config)
        candidates += open_clip.list_pretrained(as_str=True)
    folded = {candidate.casefold(): candidate for candidate in candidates}
    near = [match for match in folded if match.startswith(name.casefold())]
    near += difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    near = [folded[match] for match in dict.fromkeys(near)][:3]
    raise WeightsError(
        f"weights {name!r} are unknown{'; did you mean ' + ' or '.join(near) + '?' if near else '.'} "
        "`python -m monai_zsad weights list` prints the names, any ARCHITECTURE:TAG of open_clip's plain ViTs works "
        "too, and a file is given by its path"
    )


def _from_open_clip(architecture: str, tag: str, config: dict[str, Any]) -> WeightsEntry:
    from monai_zsad.backbones.architectures import clip_configuration

    base = architecture.removesuffix("-quickgelu")
    name = f"{architecture}:{tag}"
    if f"{base}:{tag}" in _BY_NAME:
        return _BY_NAME[f"{base}:{tag}"]
    try:
        clip_configuration(base)
    except ConfigurationError as error:
        raise WeightsError(f"weights {name!r} cannot be used: {error}") from error
    url = config.get("url", "")
    stated = _stated_sha256(url)
    repo, _, file = config.get("hf_hub", "").rpartition("/")
    # open_clip's table repeats a repository for another tag now and then, so a URL with its hash stands alone; a URL
    # without one yields to Hugging Face, whose server states the hash.
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
        citation=_OPEN_CLIP_PAPER,
        homepage=homepage,
        url=url or None,
        hf_repo=repo or None,
        hf_filename=(file or _HF_SAFE) if repo else None,
        sha256=stated,
        # The tag, not the architecture's file, tells what the weights were trained with: open_clip compares the two
        # and only warns.
        activation="quick_gelu" if config.get("quick_gelu") else "gelu",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def entry_of_sha256(sha256: str, kind: WeightsKind = "clip") -> WeightsEntry | None:
    """The entry whose file has this complete hash, or ``None``; open_clip's files are found by their stated digits."""
    for entry in _ENTRIES:
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
