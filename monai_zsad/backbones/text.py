"""CLIP's text tower: tokens, embedded prompts, and changes between its blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from monai_zsad.backbones.tokenizer import count_tokens, tokenizer
from monai_zsad.errors import ConfigurationError

__all__ = ["AfterBlock", "TextTower"]

AfterBlock = Callable[[int, torch.Tensor], torch.Tensor]


class TextTower(nn.Module):
    """The text half of :class:`~monai_zsad.backbones.CLIPBackbone`, which builds the parameters."""

    context_length: int
    attn_mask: torch.Tensor
    transformer: Any
    token_embedding: Any
    positional_embedding: Any
    ln_final: Any
    text_projection: Any

    @property
    def text_width(self) -> int:
        """Width T of the text tower."""
        return int(self.positional_embedding.shape[1])

    @property
    def text_depth(self) -> int:
        """Number of text blocks."""
        return len(self.transformer.resblocks)

    def drop_text_tower(self) -> None:
        """Free the text tower. Inference with computed text anchors does not need it."""
        self.transformer = self.token_embedding = self.ln_final = None
        self.positional_embedding = self.text_projection = None

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Token ids (P, context length) of ``texts``.

        Raises:
            ConfigurationError: if a text is longer than the context. Texts are never cut.
        """
        for text in texts:
            length = count_tokens(text)
            if length > self.context_length:
                raise ConfigurationError(
                    f"the prompt {text!r} has {length} tokens, {self.context_length} fit: shorten it"
                )
        return tokenizer()(list(texts), context_length=self.context_length).to(self._text_device())

    def embed_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token embeddings (P, L, T) of token ids (P, L), without the position embedding."""
        self._text_device()
        return self.token_embedding(tokens)

    def text_tokens(
        self,
        embeddings: torch.Tensor,
        end: torch.Tensor,
        *,
        before_block: AfterBlock | None = None,
        after_block: AfterBlock | None = None,
    ) -> torch.Tensor:
        """Run the text tower on embedded prompts.

        Args:
            embeddings: (P, L, T), without the position embedding; L may be less than the context length.
            end: position of each prompt's end-of-text token (P,).
            before_block: called as ``before_block(block, x)``; its result is the input of the block (deep prompts).
            after_block: called in the same way after each block (residual adapters).

        Returns:
            The end-of-text token after ``ln_final``, (P, T), not yet projected.
        """
        self._text_device()
        length = embeddings.shape[1]
        x = embeddings + self.positional_embedding[:length].to(embeddings.dtype)
        mask = self.attn_mask[:length, :length].to(x.dtype)
        for number, block in enumerate(self.transformer.resblocks, start=1):
            if before_block is not None:
                x = before_block(number, x)
            x = block(x, attn_mask=mask)
            if after_block is not None:
                x = after_block(number, x)
        x = self.ln_final(x)
        return x[torch.arange(x.shape[0], device=x.device), end.to(x.device)]

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        """Text features (P, D) of ``texts``, not normalised."""
        tokens = self.tokenize(texts)
        # In portions, because a set of a thousand prompts would need gigabytes at once.
        features = [
            self.text_tokens(self.embed_tokens(part), part.argmax(-1)) @ self.text_projection
            for part in tokens.split(64)
        ]
        return torch.cat(features)

    def _text_device(self) -> torch.device:
        if self.token_embedding is None:
            raise ConfigurationError(
                "the text tower was dropped from this network: build it again to compute other text anchors"
            )
        return self.token_embedding.weight.device
