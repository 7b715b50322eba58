"""CLIP: architectures of open_clip, dense features by a second attention path, and text features.

open_clip provides the parameters and their names. The forward passes are in this package, since the methods read
features inside the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from monai_zsad.backbones.architectures import Activation, build_empty_clip, clip_configuration
from monai_zsad.backbones.positions import PositionResize, resize_positions
from monai_zsad.backbones.seeds import parse_seed, seeded_state_dict
from monai_zsad.backbones.text import TextTower
from monai_zsad.backbones.vision_tower import VisionTower
from monai_zsad.backbones.weights import WeightsRecord, clip_state_dict
from monai_zsad.errors import ConfigurationError, WeightsError

__all__ = ["CLIPBackbone"]

_POSITIONS = "visual.positional_embedding"


class CLIPBackbone(VisionTower, TextTower):
    """A frozen ViT CLIP whose parameters carry OpenAI's names, so that released files load strictly.

    The parameters are zero until :meth:`load_weights` or ``load_state_dict`` fills them. The constructor never
    downloads.

    Args:
        architecture: name of an open_clip ViT (``"ViT-L-14-336"``), or its configuration as a mapping with
            ``embed_dim``, ``vision_cfg`` and ``text_cfg`` in open_clip's form.
        image_size: side of the square input in pixels, a multiple of the patch; ``None`` for the native one.
        activation: activation of the MLPs. OpenAI's weights were trained with ``"quick_gelu"``. :meth:`load_weights`
            checks that the weights fit.
        position_resize: interpolation of the position embedding to another grid when weights are loaded:
            ``"bilinear"`` without antialiasing, or ``"bicubic"`` with it.

    Raises:
        ConfigurationError: for an unknown architecture, another layout than a plain ViT CLIP, or an unusable size.

    >>> config = {"embed_dim": 32, "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 14},
    ...           "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}}
    >>> clip = CLIPBackbone(config, image_size=42)
    >>> clip.grid_size, clip.width, clip.embed_dim, clip.depth
    (3, 64, 32, 2)
    >>> _ = clip.load_weights("seed:0")
    >>> clip.vision(torch.zeros(1, 3, 42, 42)).tokens.shape
    torch.Size([1, 10, 64])
    """

    def __init__(
        self,
        architecture: str | Mapping[str, Any],
        image_size: int | None = None,
        *,
        activation: Activation = "quick_gelu",
        position_resize: PositionResize = "bilinear",
    ) -> None:
        super().__init__()
        if activation not in ("quick_gelu", "gelu"):
            raise ConfigurationError(f"activation={activation!r} is unknown: choose 'quick_gelu' or 'gelu'")
        if position_resize not in ("bilinear", "bicubic"):
            raise ConfigurationError(f"position_resize={position_resize!r} is unknown: choose 'bilinear' or 'bicubic'")
        config = clip_configuration(architecture)
        self.architecture = architecture if isinstance(architecture, str) else "custom"
        self.architecture_config = config
        self.activation: Activation = activation
        self.position_resize: PositionResize = position_resize
        self.native_image_size = int(config["vision_cfg"]["image_size"])
        self.patch_size = int(config["vision_cfg"]["patch_size"])
        if image_size is not None and (not isinstance(image_size, int) or isinstance(image_size, bool)):
            raise ConfigurationError(f"image_size={image_size!r} is not a whole number of pixels")
        self.image_size = self.native_image_size if image_size is None else image_size
        if self.image_size < self.patch_size or self.image_size % self.patch_size:
            below = max(self.patch_size, self.image_size // self.patch_size * self.patch_size)
            raise ConfigurationError(
                f"image_size={self.image_size} is not a multiple of the patch size {self.patch_size} of "
                f"{self.architecture}: use {below} or {below + self.patch_size}"
            )
        self.grid_size = self.image_size // self.patch_size
        self.context_length = int(config["text_cfg"]["context_length"])
        self.embed_dim = int(config["embed_dim"])
        self.record: WeightsRecord | None = None
        self._native_positions: torch.Tensor | None = None

        clip = build_empty_clip(config, self.image_size, activation)
        self.visual: Any = clip.visual
        self.transformer: Any = clip.transformer
        self.token_embedding: Any = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.ln_final: Any = clip.ln_final
        self.text_projection = clip.text_projection
        self.logit_scale = clip.logit_scale
        mask = torch.full((self.context_length, self.context_length), -math.inf).triu_(1)
        self.register_buffer("attn_mask", mask, persistent=False)
        self.requires_grad_(False)
        self.eval()

    # ---- weights ---------------------------------------------------------------------------------------------

    def load_weights(
        self,
        source: str | Path,
        *,
        activation: Activation | None = None,
        accept_activation_mismatch: bool = False,
        download: bool = True,
    ) -> WeightsRecord:
        """Load all parameters strictly, and set ``record``.

        Args:
            source: a registered name (``"ViT-L-14-336:openai"``; see ``python -m monai_zsad weights list``), a file
                (OpenAI's archive, open_clip's ``.pt``/``.bin``, safetensors), or ``"seed:N"`` for reproducible random
                values. Random values are for tests only, and the record says so.
            activation: activation that the weights of a file were trained with, if the file does not state it.
            accept_activation_mismatch: accept weights that were trained with another activation. Only for methods whose
                release does so.
            download: whether registered weights that are not on this machine may be downloaded.

        Returns:
            The record of the loaded weights.

        Raises:
            WeightsError: if the weights are unknown, missing, damaged, of another architecture or activation.
        """
        seed = parse_seed(source)
        if seed is not None:
            state: Mapping[str, torch.Tensor] = seeded_state_dict(self.state_dict(), seed)
            record = WeightsRecord(name=f"seed:{seed}", sha256="", licence="", activation=self.activation, seed=seed)
        else:
            architecture = None if self.architecture == "custom" else self.architecture
            state, record = clip_state_dict(source, architecture=architecture, activation=activation, download=download)
        if record.activation != self.activation and not accept_activation_mismatch:
            raise WeightsError(
                f"the weights {record.name} were trained with {record.activation}, but the network computes "
                f"{self.activation}: the result would look plausible but be wrong. Choose weights trained with "
                f"{self.activation}, or build the network with activation={record.activation!r}"
            )
        self._load_strictly(state, record.name)
        self.record = record
        return record

    def _load_strictly(self, state: Mapping[str, torch.Tensor], name: str) -> None:
        own = self.state_dict()
        missing = sorted(own.keys() - state.keys())
        surplus = sorted(state.keys() - own.keys())
        shapes = [
            f"{key} is {tuple(state[key].shape)}, needed {tuple(own[key].shape)}"
            for key in own.keys() & state.keys()
            if key != _POSITIONS and state[key].shape != own[key].shape
        ]
        if _POSITIONS in state and state[_POSITIONS].shape[-1] != own[_POSITIONS].shape[-1]:
            shapes.append(f"{_POSITIONS} is {tuple(state[_POSITIONS].shape)}, needed width {own[_POSITIONS].shape[-1]}")
        problems = [
            f"{len(items)} {what} ({', '.join(items[:3])}{', ...' if len(items) > 3 else ''})"
            for what, items in (("missing", missing), ("unknown", surplus), ("of another shape", sorted(shapes)))
            if items
        ]
        if problems:
            raise WeightsError(
                f"the weights {name} do not fit the architecture {self.architecture}: parameters "
                f"{'; '.join(problems)}. Choose the architecture of the weights, or other weights"
            )
        self.load_state_dict(dict(state), strict=True)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # load_state_dict passes its own copy of the dictionary, so the caller's dictionary does not change.
        key = prefix + _POSITIONS
        if key in state_dict:
            # A copy, because the dictionary may hold the parameter of another network that is still trained.
            self._native_positions = state_dict[key].detach().to("cpu", copy=True)
            resized = resize_positions(self._native_positions, self.grid_size, self.position_resize)
            state_dict[key] = resized.to(state_dict[key].device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def portable_state_dict(self) -> dict[str, torch.Tensor]:
        """State dict with the position embedding as it was loaded, so that it fits every input size.

        A position embedding that has changed since, for example by training, is returned as it is.
        """
        state = dict(self.state_dict())
        if self._native_positions is not None:
            present = state[_POSITIONS]
            loaded = resize_positions(self._native_positions, self.grid_size, self.position_resize)
            if torch.equal(present.cpu(), loaded.to(present.dtype)):
                state[_POSITIONS] = self._native_positions
        return state
