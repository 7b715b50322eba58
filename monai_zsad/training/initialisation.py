"""Initial values for a small CLIP that is trained from scratch with little data."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from monai_zsad.networks.screening_clip import ScreeningCLIP

__all__ = ["initialize_small_clip", "sine_positions"]


def initialize_small_clip(network: ScreeningCLIP, seed: int) -> None:
    """Initialise a small network so that it learns quickly from small sets of images.

    A plain ViT needs long to learn that neighbouring patches belong together. Position embeddings therefore start as
    sines of the position. ``W_q^T W_k`` starts near ``0.7 (Z + I)``, with a random Z. Each token then attends to tokens
    with similar content and position. The product of value and output weights starts near ``0.4 (Z - I)``. The output
    of attention is then roughly compared with the token itself.

    Args:
        network: network to initialise. All its parameters are overwritten, and can be trained afterwards, except for
            the projections and the scale that stay fixed.
        seed: random seed. The same seed gives the same values.

    References:
        Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers", ICML 2023, arXiv 2305.09828.
    """
    generator = torch.Generator().manual_seed(seed)
    clip = network.clip
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(True)
            if parameter.ndim > 1:
                parameter.normal_(0, 0.02, generator=generator)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        clip.logit_scale.requires_grad_(False)
        clip.visual.proj.requires_grad_(False)
        clip.text_projection.requires_grad_(False)
        network.image_adapter.det_proj.requires_grad_(False)

        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        for block in clip.visual.transformer.resblocks:
            _mimetic(block.attn, generator)
            _mlp(block.mlp, clip.width, clip.depth, generator)
        for block in clip.transformer.resblocks:
            width = clip.text_width
            block.attn.in_proj_weight.normal_(0, width**-0.5, generator=generator)
            block.attn.out_proj.weight.normal_(0, (2 * width * clip.text_depth) ** -0.5, generator=generator)
            _mlp(block.mlp, width, clip.text_depth, generator)
        clip.token_embedding.weight.normal_(0, 0.05, generator=generator)
        clip.visual.positional_embedding[1:] = 0.4 * sine_positions(clip.grid_size, clip.width)
        (projection,) = network.text_adapter[-1].parameters()
        projection.normal_(0, projection.shape[1] ** -0.5, generator=generator)


def sine_positions(side: int, width: int) -> torch.Tensor:
    """Sines and cosines of rows and columns, (side * side, width), with wavelengths from 6 to 600 tokens.

    >>> sine_positions(3, 8).shape
    torch.Size([9, 8])
    """
    count = width // 4
    frequencies = 100.0 ** (-torch.arange(count) / count)
    places = torch.arange(side, dtype=torch.float32)
    waves = [
        wave(axis.reshape(-1, 1) * frequencies)
        for axis in torch.meshgrid(places, places, indexing="ij")
        for wave in (torch.sin, torch.cos)
    ]
    return torch.nn.functional.pad(torch.cat(waves, dim=1), (0, width - 4 * count))


def _mimetic(attention: torch.nn.MultiheadAttention, generator: torch.Generator) -> None:
    width, heads = attention.embed_dim, attention.num_heads
    per_head = width // heads
    identity = torch.eye(width)

    def near(noise: float, diagonal: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Two matrices whose product is near ``noise * Z + diagonal * I``."""
        random = torch.randn(width, width, generator=generator) * width**-0.5
        left, strengths, right = torch.linalg.svd(noise * random + diagonal * identity)
        return left * strengths.sqrt(), strengths.sqrt()[:, None] * right

    pairs = [near(0.7, 0.7) for _ in range(heads)]
    queries = [left[:, :per_head].T for left, _ in pairs]
    keys = [right[:per_head] for _, right in pairs]
    output, values = near(0.4, -0.4)
    attention.in_proj_weight.copy_(torch.cat([*queries, *keys, values]))
    attention.out_proj.weight.copy_(output)


def _mlp(mlp: Any, width: int, depth: int, generator: torch.Generator) -> None:
    first, last = mlp.c_fc, mlp.c_proj
    first.weight.normal_(0, (2 * width) ** -0.5, generator=generator)
    last.weight.normal_(0, (2 * width * depth) ** -0.5, generator=generator)
