"""CLIP: architectures of open_clip, dense features by a second attention path, and text features.

open_clip gives the parameters and their names; the forward passes are ours, since the methods read features from
inside the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from monai_zsad.backbones.architectures import Activation, build_empty_clip, clip_configuration
from monai_zsad.backbones.attention import AttentionKind
from monai_zsad.backbones.positions import PositionResize, resize_positions
from monai_zsad.backbones.seeds import parse_seed, seeded_state_dict
from monai_zsad.backbones.text import AfterBlock, TextTower
from monai_zsad.backbones.vision import VisionFeatures, VisionRequest, run_blocks
from monai_zsad.backbones.weights import WeightsRecord, clip_state_dict
from monai_zsad.errors import ConfigurationError, WeightsError

__all__ = ["CLIPBackbone"]

_POSITIONS = "visual.positional_embedding"


class CLIPBackbone(TextTower):
    """A frozen ViT CLIP whose parameters carry OpenAI's names, so that released files load strictly.

    The parameters are zero until :meth:`load_weights` (or ``load_state_dict``) fills them; building one never
    downloads.

    Args:
        architecture: name of an open_clip ViT (``"ViT-L-14-336"``), or its configuration as a mapping with
            ``embed_dim``, ``vision_cfg`` and ``text_cfg`` in open_clip's form.
        image_size: side of the square input in pixels, a multiple of the patch; ``None`` for the native one.
        activation: of the MLPs. OpenAI's weights were trained with ``"quick_gelu"``; whether loaded weights agree is
            checked by :meth:`load_weights`.
        position_resize: how the position embedding is brought to another grid when weights are loaded: ``"bilinear"``
            without antialiasing, or ``"bicubic"`` with it.

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
            raise ConfigurationError(f"image_size={image_size!r} is no whole number of pixels")
        self.image_size = self.native_image_size if image_size is None else image_size
        if self.image_size < self.patch_size or self.image_size % self.patch_size:
            below = max(self.patch_size, self.image_size // self.patch_size * self.patch_size)
            raise ConfigurationError(
                f"image_size={self.image_size} is not a multiple of the patch size {self.patch_size} of "
                f"{self.architecture}: use {below} or {below + self.patch_size}"
            )
        self.grid_size = self.image_size // self.patch_size
        self.context_length = int(config["text_cfg"]["context_length"])
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

    # ---- sizes, all read from the parameters -----------------------------------------------------------------

    @property
    def width(self) -> int:
        """Width W of the vision tower."""
        return int(self.visual.class_embedding.shape[0])

    @property
    def embed_dim(self) -> int:
        """Width D of the joint space."""
        return int(self.visual.proj.shape[1])

    @property
    def text_width(self) -> int:
        """Width T of the text tower."""
        return int(self.positional_embedding.shape[1])

    @property
    def depth(self) -> int:
        """Number of vision blocks."""
        return len(self.visual.transformer.resblocks)

    @property
    def text_depth(self) -> int:
        """Number of text blocks."""
        return len(self.transformer.resblocks)

    @property
    def vision_dtype(self) -> torch.dtype:
        """Type in which the vision tower computes."""
        return self.visual.conv1.weight.dtype

    def path_start(self, blocks: int) -> int:
        """First block (from 1) of a second path that spans the last ``blocks`` blocks, or all there are.

        Args:
            blocks: of the second path, at least 1.

        Returns:
            The block's number, from 1.
        """
        return max(1, self.depth + 1 - blocks)

    def check_layers(self, layers: Sequence[int] | None, first: int = 1) -> tuple[int, ...]:
        """Block numbers from ``first`` on; ``None`` for quarters of the depth (6, 12, 18, 24 of ViT-L).

        Args:
            layers: block numbers from ``first`` on, or None.
            first: smallest number that is allowed: 0 stands for what enters the first block.

        Returns:
            The numbers as they are used.

        Raises:
            ConfigurationError: if a number is outside, or there is none.
        """
        if layers is None:
            quarters = (self.depth * part // 4 for part in (1, 2, 3, 4))
            return tuple(layer for layer in quarters if layer >= first)
        found = tuple(int(layer) for layer in layers)
        if not found or any(not first <= layer <= self.depth for layer in found):
            raise ConfigurationError(f"layers {layers!r}: give block numbers from {first} to {self.depth}")
        return found

    # ---- weights ---------------------------------------------------------------------------------------------

    def load_weights(
        self,
        source: str | Path,
        *,
        activation: Activation | None = None,
        accept_activation_mismatch: bool = False,
        download: bool = True,
    ) -> WeightsRecord:
        """Load all parameters, strictly, and note in ``record`` what they are.

        Args:
            source: a registered name (``"ViT-L-14-336:openai"``; see ``python -m monai_zsad weights list``), a file
                (OpenAI's archive, open_clip's ``.pt``/``.bin``, safetensors), or ``"seed:N"`` for reproducible random
                values, which are for tests only and marked so in the record.
            activation: what a file's weights were trained with, where the file does not tell.
            accept_activation_mismatch: allow weights trained with another activation than this backbone's. Only for
                methods whose release does so.
            download: whether a registered name that is not cached may be fetched.

        Returns:
            What was loaded.

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
                f"{self.activation}: the result would look plausible and be wrong; choose weights trained with "
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
                f"{'; '.join(problems)}. Choose the weights' own architecture, or weights for this one"
            )
        self.load_state_dict(dict(state), strict=True)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # load_state_dict hands its own copy of the dictionary down, so replacing an entry changes nobody's argument.
        key = prefix + _POSITIONS
        if key in state_dict:
            # A copy: the dictionary may hold another network's parameter, which training would change.
            self._native_positions = state_dict[key].detach().to("cpu", copy=True)
            resized = resize_positions(self._native_positions, self.grid_size, self.position_resize)
            state_dict[key] = resized.to(state_dict[key].device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def portable_state_dict(self) -> dict[str, torch.Tensor]:
        """State dict with the position embedding as it was loaded, so that it serves every input size.

        One that was changed since, as by training in place, is returned as it is.
        """
        state = dict(self.state_dict())
        if self._native_positions is not None:
            present = state[_POSITIONS]
            loaded = resize_positions(self._native_positions, self.grid_size, self.position_resize)
            if torch.equal(present.cpu(), loaded.to(present.dtype)):
                state[_POSITIONS] = self._native_positions
        return state

    # ---- vision ----------------------------------------------------------------------------------------------

    def vision(
        self,
        images: torch.Tensor,
        *,
        attention: AttentionKind | None = None,
        first_block: int = 1,
        path_layers: Sequence[int] = (),
        layers: Sequence[int] = (),
        patches: bool = True,
        after_block: AfterBlock | None = None,
    ) -> VisionFeatures:
        """Run the vision tower, with a second path beside it where one is asked for.

        From ``first_block`` on, a second stream y takes the block's output projection of self-correlation attention
        and no MLP; it starts as a copy of x at that block and shares all of CLIP's weights (CLIP Surgery's dual path).

        Args:
            images: (B, 3, S, S), normalised with CLIP's mean and standard deviation.
            attention: as in :class:`VisionRequest`, like the four that follow.
            first_block: block (from 1) at which the second path starts.
            path_layers: blocks after which y is returned.
            layers: blocks after which x is returned.
            patches: whether x is wanted for the patches too at the end.
            after_block: called as ``after_block(block, x)`` after every block; what it returns goes on as x
                (residual adapters).

        Returns:
            Features before ``ln_post``.
        """
        request = VisionRequest(attention, first_block, tuple(path_layers), tuple(layers), patches)
        return self.vision_features(images, [request], after_block)[0]

    def vision_features(
        self, images: torch.Tensor, requests: Sequence[VisionRequest], after_block: AfterBlock | None = None
    ) -> list[VisionFeatures]:
        """As :meth:`vision` for several requests, in one pass: x, and what their second paths share, is computed once.

        Args:
            images: (B, 3, S, S), normalised with CLIP's mean and standard deviation.
            requests: at least one.
            after_block: see :meth:`vision`.

        Returns:
            The features of each request. Requests may be given the same tensors: change none in place.
        """
        return run_blocks(self.visual.transformer.resblocks, self.embed(images), requests, after_block)

    def project(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (..., W) into the joint space (..., D): ``ln_post``, then ``visual.proj``.

        Args:
            tokens: (..., W), of the last block.

        Returns:
            (..., D), not normalised.
        """
        return self.visual.ln_post(tokens) @ self.visual.proj

    def last_block_values(self, tokens: torch.Tensor) -> torch.Tensor:
        """Value projection (B, N, W) of the last block's ``ln_1`` of ``tokens`` (B, N, W).

        Args:
            tokens: (B, N, W) that enter the last block.

        Returns:
            (B, N, W).
        """
        block = self.visual.transformer.resblocks[-1]
        _, _, weight = block.attn.in_proj_weight.chunk(3)
        _, _, bias = block.attn.in_proj_bias.chunk(3)
        return F.linear(block.ln_1(tokens), weight, bias)

    def last_block_output(self, attended: torch.Tensor) -> torch.Tensor:
        """Output projection (B, N, W) of the last block's attention.

        Args:
            attended: (B, N, W), values weighted by attention.

        Returns:
            (B, N, W).
        """
        return self.visual.transformer.resblocks[-1].attn.out_proj(attended)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Tokens (B, 1 + N, W) that enter the first block, of normalised images (B, 3, S, S).

        Args:
            images: (B, 3, S, S), normalised.

        Returns:
            (B, 1 + N, W), the class token first.

        Raises:
            ConfigurationError: for another size.
        """
        if images.ndim != 4 or images.shape[1:] != (3, self.image_size, self.image_size):
            raise ConfigurationError(
                f"images have shape {tuple(images.shape)}; needed (B, 3, {self.image_size}, {self.image_size})"
            )
        patches = self.visual.conv1(images.to(self.vision_dtype)).flatten(2).transpose(1, 2)
        cls = self.visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        positions = self.visual.positional_embedding.to(patches.dtype)
        return self.visual.ln_pre(torch.cat([cls, patches], dim=1) + positions)
