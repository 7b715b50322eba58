"""DINOv2 as the network of a run that compares scans: features only, no prompts and no map of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from monai_zsad.backbones import DINOv2Prior
from monai_zsad.backbones.weights import WeightsRecord
from monai_zsad.errors import ConfigurationError

__all__ = ["DINOv2Features"]


class DINOv2Features(DINOv2Prior):
    """DINOv2 with what a bundle needs of its network: records, a description, precision.

    :class:`~monai_zsad.backbones.DINOv2Prior` was not enough, since it is a part of a network and has none of these.

    Args:
        image_size: side of the square input in pixels, a multiple of 14.
        architecture: see :class:`~monai_zsad.backbones.DINOv2Prior`.

    Example:
        >>> network = DINOv2Features(28, "vit_small_patch14_reg4_dinov2")
        >>> _ = network.load_weights(dinov2="seed:0")
        >>> network.describe()["method"], network.patch_size
        ('DINOv2', 14)
    """

    def __init__(self, image_size: int = 518, architecture: str = "vit_base_patch14_reg4_dinov2") -> None:
        super().__init__(image_size, architecture)
        self.image_size = image_size
        self.patch_size = image_size // self.grid_size
        # As of ZeroShotNetwork: what a run sets.
        self.runtime = "torch"
        self.runtime_precision: str | None = None
        self.runtime_file: str | None = None
        self.fixed_anchors = False
        self.head: dict[str, Any] = {}
        self._restored: dict[str, WeightsRecord] = {}

    @property
    def records(self) -> dict[str, WeightsRecord]:
        """Source of the loaded weights, by part."""
        return self._restored or ({} if self.record is None else {"dinov2": self.record})

    def restore_records(self, records: dict[str, WeightsRecord]) -> None:
        """Set the records of weights that ``load_state_dict`` has loaded.

        Args:
            records: by part.
        """
        self._restored = dict(records)

    def load_weights(  # type: ignore[override]  # by part, as of the networks
        self, *, dinov2: str | Path, activation: str | None = None, download: bool = True
    ) -> dict[str, WeightsRecord]:
        """Load the weights, see :meth:`~monai_zsad.backbones.DINOv2Prior.load_weights`.

        Args:
            dinov2: a registered name, a file, or ``"seed:N"``.
            activation: not used.
            download: see there.

        Returns:
            The record of the part ``dinov2``.
        """
        del activation
        super().load_weights(dinov2, download=download)
        return self.records

    def speed_up(self) -> None:
        """Nothing can be changed for inference."""

    def set_precision(self, precision: str | torch.dtype) -> None:
        """Set the type of the parameters.

        Args:
            precision: ``"float32"``, ``"bfloat16"``, ``"float16"`` or the torch type.
        """
        self.model.to(getattr(torch, precision) if isinstance(precision, str) else precision)

    def describe(self) -> dict[str, Any]:
        """Method, sizes and weights as plain values."""
        return {
            "method": "DINOv2",
            "architecture": self.architecture,
            "image_size": self.image_size,
            "runtime": self.runtime,
            "precision": str(self.model.patch_embed.proj.weight.dtype).removeprefix("torch."),
            "weights": {part: dataclasses.asdict(record) for part, record in self.records.items()},
            **({"head": self.head} if self.head else {}),
        }

    def forward(self, images: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Refused: DINOv2 has no prompts, so that there is no map to combine with.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("DINOv2 has no prompts, so that it has no map of its own: use --fuse none")
