"""Base of the methods with learned prompts: loading of the prompts, and their text anchors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from monai_zsad.backbones import Activation
from monai_zsad.backbones.seeds import parse_seed, seeded_state_dict
from monai_zsad.backbones.weights import WeightsRecord, prompts_state_dict
from monai_zsad.networks.base import ZeroShotNetwork
from monai_zsad.networks.prompt_learner import PromptLearner

__all__ = ["LearnedPromptNetwork"]


class LearnedPromptNetwork(ZeroShotNetwork):
    """A network with learned prompts for normal and anomalous (Crane, AnomalyCLIP).

    Args:
        architecture: see :class:`~monai_zsad.backbones.CLIPBackbone`.
        image_size: side S of the input in pixels.
        activation: activation of CLIP's MLPs.
    """

    def __init__(
        self, architecture: str | Mapping[str, Any], image_size: int | None, *, activation: Activation
    ) -> None:
        super().__init__(architecture, image_size, activation=activation, position_resize="bilinear")
        self.prompt_learner = PromptLearner(self.clip.text_width, self.clip.context_length)
        self.prompt_learner.requires_grad_(False)
        self.prompts_record: WeightsRecord | None = None

    def _loaded_records(self) -> dict[str, WeightsRecord]:
        return super()._loaded_records() | ({} if self.prompts_record is None else {"prompts": self.prompts_record})

    def load_weights(
        self,
        *,
        clip: str | Path,
        prompts: str | Path,
        activation: Activation | None = None,
        download: bool = True,
    ) -> dict[str, WeightsRecord]:
        """Load CLIP and the learned prompts, then compute the text anchors.

        Args:
            clip: name, file or ``"seed:N"``, see :meth:`CLIPBackbone.load_weights`.
            prompts: name (``"crane:mvtec_epoch5"``), released or own checkpoint file, or ``"seed:N"``.
            activation: activation that CLIP weights from a file were trained with, if the file does not state it.
            download: whether registered weights that are not on this machine may be downloaded.

        Returns:
            The records of the loaded weights, by part.

        Raises:
            WeightsError: if weights are unknown, missing, damaged or do not fit.
        """
        self._restored = {}
        self.clip.load_weights(clip, activation=activation, download=download)
        seed = parse_seed(prompts)
        if seed is not None:
            self.prompt_learner.load_state_dict(seeded_state_dict(self.prompt_learner.state_dict(), seed))
            self.prompt_learner.embed_fixed_tokens(self.clip)
            self.prompts_record = WeightsRecord(name=f"seed:{seed}", sha256="", licence="", activation=None, seed=seed)
        else:
            state, self.prompts_record = prompts_state_dict(prompts, download=download)
            self.prompt_learner.load_released(state, self.prompts_record.name, self.clip)
        self.update_text_anchors()
        return self.records

    def update_text_anchors(self) -> None:
        """Compute the anchors of the prompts without an image, (1, 2, D)."""
        with torch.no_grad():
            self.text_anchors = self.prompt_learner(self.clip).to(self.text_anchors)
