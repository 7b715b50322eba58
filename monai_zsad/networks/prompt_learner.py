"""Learned prompts of Crane and AnomalyCLIP: context vectors in the prompt, deep prompts in the text tower."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import nn

from monai_zsad.backbones import CLIPBackbone
from monai_zsad.errors import WeightsError
from monai_zsad.networks.maps import l2_normalize
from monai_zsad.prompts.learned import CONTEXT_TOKENS, learned_prompt_texts

__all__ = ["PromptLearner"]

logger = logging.getLogger(__name__)


class PromptLearner(nn.Module):
    """Object-agnostic learnable prompts; parameter and buffer names are those of the released checkpoints.

    The prompt is [start token, learned context, suffix]. Before text blocks 2, 3, ... the positions after the start
    token are replaced by deep prompts, rounded to float16 as the releases do.

    Args:
        text_width: width T of the text tower.
        context_length: number of token positions of the text tower (77).
        context_tokens: number of learned context vectors before the fixed text.
        deep_prompts: number of text blocks with deep prompts, counted from the second block.
        deep_tokens: number of positions that a deep prompt replaces.

    References:
        Zhou et al., AnomalyCLIP, ICLR 2024, section 4.2; Salehi et al., Crane, arXiv 2504.11055, section 3.
    """

    def __init__(
        self,
        text_width: int,
        context_length: int,
        *,
        context_tokens: int = CONTEXT_TOKENS,
        deep_prompts: int = 8,
        deep_tokens: int = 4,
    ) -> None:
        super().__init__()
        suffix_length = context_length - 1 - context_tokens
        for kind in ("pos", "neg"):
            self.register_parameter(f"ctx_{kind}", nn.Parameter(torch.zeros(1, 1, context_tokens, text_width)))
            self.register_buffer(f"token_prefix_{kind}", torch.zeros(1, 1, 1, text_width))
            self.register_buffer(f"token_suffix_{kind}", torch.zeros(1, 1, suffix_length, text_width))
            self.register_buffer(f"tokenized_prompts_{kind}", torch.zeros(1, 1, context_length, dtype=torch.long))
        self.compound_prompts_text = nn.ParameterList(
            nn.Parameter(torch.zeros(deep_tokens, text_width)) for _ in range(deep_prompts)
        )

    @property
    def context_tokens(self) -> int:
        """Number of learned context vectors."""
        return self.get_parameter("ctx_pos").shape[2]

    def reset_parameters(self, seed: int = 0) -> None:
        """Draw all learned vectors from N(0, 0.02^2), as the releases do before a training."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))

    def load_released(self, state: Mapping[str, torch.Tensor], name: str, clip: CLIPBackbone) -> None:
        """Load the learned vectors of a released checkpoint, strictly.

        A checkpoint also holds the token embeddings of its fixed text. They are computed again from ``clip`` and
        compared. A difference means that the checkpoint was trained with other CLIP weights; it is logged as a warning.

        Args:
            state: state dict of the checkpoint.
            name: name of the checkpoint for messages.
            clip: the backbone.

        Raises:
            WeightsError: if names or shapes differ.
        """
        own = self.state_dict()
        # AnomalyCLIP's files also hold projections that its forward pass never uses.
        state = {key: value for key, value in state.items() if not key.startswith("compound_prompt_projections")}
        if own.keys() != state.keys():
            raise WeightsError(
                f"the prompt checkpoint {name} holds other parameters: missing "
                f"{sorted(own.keys() - state.keys()) or 'none'}, unknown {sorted(state.keys() - own.keys()) or 'none'}"
            )
        for key, value in state.items():
            if value.shape != own[key].shape:
                raise WeightsError(
                    f"the prompt checkpoint {name} has {key} of shape {tuple(value.shape)}, but this CLIP needs "
                    f"{tuple(own[key].shape)}: it was trained on another CLIP architecture; choose that one"
                )
        self.load_state_dict(state, strict=True)
        self.embed_fixed_tokens(clip)
        fixed = [key for key in own if key.startswith("token")]
        differing = [key for key in fixed if not _close(state[key], self.get_buffer(key))]
        if differing:
            logger.warning(
                "The prompt checkpoint %s was trained with other CLIP weights than the loaded ones (%s differ): "
                "the maps will differ from those of the release.",
                name,
                ", ".join(differing),
            )

    def embed_fixed_tokens(self, clip: CLIPBackbone) -> None:
        """Fill the buffers with the token embeddings of the fixed text."""
        texts = learned_prompt_texts(self.context_tokens)
        first_suffix = 1 + self.context_tokens
        with torch.no_grad():
            for kind, text in zip(("pos", "neg"), texts, strict=True):
                tokens = clip.tokenize([text])
                embedded = clip.embed_tokens(tokens)
                self.get_buffer(f"tokenized_prompts_{kind}").copy_(tokens.unsqueeze(1))
                self.get_buffer(f"token_prefix_{kind}").copy_(embedded[:, None, :1])
                self.get_buffer(f"token_suffix_{kind}").copy_(embedded[:, None, first_suffix:])

    def forward(self, clip: CLIPBackbone, image_features: torch.Tensor | None = None) -> torch.Tensor:
        """Text anchors, l2-normalised, normal first.

        Args:
            clip: the backbone whose text tower encodes the prompts.
            image_features: l2-normalised (B, D) for image-conditioned prompts: each is appended as a further context
                vector (needs D = T). ``None`` for prompts without an image.

        Returns:
            (1, 2, D), or (B, 2, D) for image-conditioned prompts; float32.
        """
        prompts, ends = [], []
        for kind in ("pos", "neg"):
            prompt, end = self._prompt(kind, image_features)
            prompts.append(prompt)
            ends.append(end)
        embeddings = torch.stack(prompts, dim=1)
        end = torch.stack(ends, dim=-1).expand(embeddings.shape[0], -1).reshape(-1)
        # Newer layers normalise in float32 for all types of weights, so the embeddings decide the type of the pass.
        dtype = clip.positional_embedding.dtype
        tokens = clip.text_tokens(embeddings.flatten(0, 1).to(dtype), end, before_block=self._deep_prompts)
        features = tokens @ clip.text_projection
        return l2_normalize(features.unflatten(0, (-1, 2)))

    def _prompt(self, kind: str, image_features: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        prefix, suffix = self.get_buffer(f"token_prefix_{kind}")[0], self.get_buffer(f"token_suffix_{kind}")[0]
        context = self.get_parameter(f"ctx_{kind}")[0]
        end = self.get_buffer(f"tokenized_prompts_{kind}")[0].argmax(-1)
        if image_features is not None:
            count = image_features.shape[0]
            condition = image_features.unsqueeze(1).to(context.dtype)
            prefix, context, suffix = (part.expand(count, -1, -1) for part in (prefix, context, suffix[:, :-1]))
            context = torch.cat([context, condition], dim=1)
            end = end + 1
        return torch.cat([prefix, context, suffix], dim=1), end

    def _deep_prompts(self, block: int, x: torch.Tensor) -> torch.Tensor:
        index = block - 2
        if not 0 <= index < len(self.compound_prompts_text):
            return x
        deep = self.compound_prompts_text[index].half().to(x.dtype)
        return torch.cat([x[:, :1], deep.expand(x.shape[0], -1, -1), x[:, 1 + deep.shape[0] :]], dim=1)


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    # Published CLIP weights are float16, so equal embeddings may differ by their rounding.
    return torch.allclose(a.float().cpu(), b.float().cpu(), rtol=2e-3, atol=1e-5)
