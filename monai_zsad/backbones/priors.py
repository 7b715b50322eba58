"""Dense priors: frozen vision networks whose patch similarities guide Crane+'s D-Attn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from monai_zsad.backbones.seeds import parse_seed, seeded_state_dict
from monai_zsad.backbones.weights import WeightsRecord, prior_state_dict
from monai_zsad.errors import ConfigurationError, WeightsError

__all__ = ["DINOv2Prior", "DensePrior"]


@runtime_checkable
class DensePrior(Protocol):
    """The interface of a dense prior for Crane+. Every module with this interface can be used.

    Attributes:
        similarity_offset: two patches are unrelated if their similarity is below the mean patch similarity times this
            number (1.2 for the DINO family, 1.08 for SAM in Crane's release).
    """

    similarity_offset: float

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Patch features (B, C, h, w) of images (B, 3, S, S) in [0, 1]. The prior normalises them."""
        ...

    def load_weights(self, source: str | Path, *, download: bool = True) -> WeightsRecord:
        """Load weights by registered name, file or seed.

        Args:
            source: a registered name, a file, or ``"seed:N"``.
            download: whether registered weights that are not on this machine may be downloaded.

        Returns:
            The record of the loaded weights.
        """
        ...


class DINOv2Prior(nn.Module):
    """DINOv2 patch features through timm, after the last layer norm.

    Args:
        image_size: side of the square input in pixels, a multiple of the patch (14).
        architecture: timm's name of the network; the default is ``vitb14_reg`` of DINOv2.

    Raises:
        ConfigurationError: if timm does not know the architecture or the size does not fit the patch.

    References:
        Oquab et al., DINOv2, TMLR 2024; Darcet et al., Vision Transformers Need Registers, ICLR 2024.

    >>> prior = DINOv2Prior(28, architecture="vit_small_patch14_reg4_dinov2")
    >>> _ = prior.load_weights("seed:0")
    >>> prior(torch.zeros(1, 3, 28, 28)).shape
    torch.Size([1, 384, 2, 2])
    """

    def __init__(self, image_size: int, architecture: str = "vit_base_patch14_reg4_dinov2") -> None:
        super().__init__()
        import timm

        self.similarity_offset = 1.2
        self.architecture = architecture
        name = architecture.split(".")[0]
        if name not in timm.list_models(name):
            raise ConfigurationError(
                f"architecture={architecture!r} is unknown to timm: choose one of timm.list_models('*dinov2*')"
            )
        config: Any = timm.models.get_pretrained_cfg(name)
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False, num_classes=0, img_size=image_size)
        self.model: Any = model._apply(lambda tensor: torch.zeros_like(tensor, device="cpu"))
        patch = self.model.patch_embed.patch_size[0]
        if image_size % patch:
            raise ConfigurationError(
                f"image_size={image_size} is not a multiple of the patch size {patch} of {architecture}: "
                f"use {image_size // patch * patch} or {(image_size // patch + 1) * patch}"
            )
        self.grid_size = image_size // patch
        self.record: WeightsRecord | None = None
        self._native_positions: torch.Tensor | None = None
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.requires_grad_(False)
        self.eval()

    def load_weights(self, source: str | Path, *, download: bool = True) -> WeightsRecord:
        """Load all parameters, strictly: timm's file, the official ``dinov2_vitb14_reg4_pretrain.pth``, or ``seed:N``.

        Args:
            source: a registered name (``"dinov2_vitb14_reg"``), a file, or ``"seed:N"`` for tests.
            download: whether registered weights that are not on this machine may be downloaded.

        Returns:
            The record of the loaded weights.

        Raises:
            WeightsError: if the weights are unknown, missing, damaged or of another architecture.
        """
        seed = parse_seed(source)
        if seed is not None:
            state = seeded_state_dict(self.model.state_dict(), seed)
            record = WeightsRecord(name=f"seed:{seed}", sha256="", licence="", activation=None, seed=seed)
        else:
            state, record = prior_state_dict(source, download=download)
        try:
            converted = self._converted(state)
            self.load_state_dict({f"model.{name}": value for name, value in converted.items()}, strict=True)
        except (RuntimeError, KeyError, IndexError) as error:
            raise WeightsError(
                f"the weights {record.name} do not fit {self.architecture}: {str(error).splitlines()[-1].strip()}"
            ) from error
        self.record = record
        return record

    def _converted(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """State dict with timm's names instead of the official ones. Positions keep their grid."""
        from timm.models.vision_transformer import checkpoint_filter_fn

        converted = checkpoint_filter_fn(dict(state), self.model)
        if "pos_embed" in state:
            # In the official file, the positions include the class token, before the patches.
            patches = math.isqrt(state["pos_embed"].shape[1]) ** 2
            converted["pos_embed"] = state["pos_embed"][:, -patches:]
        return converted

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # See CLIPBackbone. Like DINOv2, this resizes with bicubic interpolation and antialiasing.
        from timm.layers import resample_abs_pos_embed

        key = prefix + "model.pos_embed"
        if key in state_dict:
            self._native_positions = state_dict[key].detach().cpu()
            grid = [self.grid_size, self.grid_size]
            state_dict[key] = resample_abs_pos_embed(state_dict[key], grid, num_prefix_tokens=0)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def portable_state_dict(self) -> dict[str, torch.Tensor]:
        """State dict with the position embedding as it was loaded, so that it fits every input size."""
        state = dict(self.state_dict())
        if self._native_positions is not None:
            state["model.pos_embed"] = self._native_positions
        return state

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Patch features (B, C, h, w) of images (B, 3, S, S) in [0, 1]."""
        dtype = self.model.patch_embed.proj.weight.dtype
        normalized = ((images - self.mean) / self.std).to(dtype)
        tokens = self.model.forward_features(normalized)[:, self.model.num_prefix_tokens :]
        return tokens.transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size))
