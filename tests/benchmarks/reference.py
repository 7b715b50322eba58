"""A plain reference of Crane in the manner of its release, to measure against.

float32, one image at a time, attention weights materialised by softmax, a map made and smoothed for each of the four
requested layers although they are one. Written for the benchmark from the method's description.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from monai_zsad.networks import Crane


class PlainCrane:
    """Crane's released computation over the weights of ``network``."""

    def __init__(self, network: Crane, layers: tuple[int, ...] = (6, 12, 18, 24)) -> None:
        self.network = network
        self.layers = layers

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Maps (B, S, S) and scores (B,) of normalised images (B, 3, S, S)."""
        maps, scores = zip(*(self._one(image.unsqueeze(0)) for image in images), strict=True)
        return np.stack(maps), np.array(scores)

    def _one(self, image: torch.Tensor) -> tuple[np.ndarray, float]:
        clip, network = self.network.clip, self.network
        visual: Any = clip.visual
        patches = visual.conv1(image).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.view(1, 1, -1), patches], dim=1) + visual.positional_embedding
        x = visual.ln_pre(x)
        y = None
        kept = []
        for number, block in enumerate(visual.transformer.resblocks, start=1):
            projected = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
            heads = block.attn.num_heads
            q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in projected.chunk(3, dim=-1))
            if number >= network.first_block:
                weights = self._weights(q, q) + self._weights(k, k) + self._weights(v, v)
                attended = block.attn.out_proj((weights @ v).transpose(1, 2).flatten(2))
                y = x.clone() if y is None else y
                y += attended
            x = x + block.attn.out_proj((self._weights(q, k) @ v).transpose(1, 2).flatten(2))
            x = x + block.mlp(block.ln_2(x))
            if number in self.layers and y is not None:
                kept.append(y)  # always the same tensor, changed in place: the release's aliasing
        text = network.text_anchors[0]
        features = [F.normalize(visual.ln_post(tokens)[:, 1:] @ visual.proj, dim=-1) for tokens in kept]
        logits = [f @ text.T / network.temperature for f in features]
        cls = F.normalize(visual.ln_post(x[:, 0]) @ visual.proj, dim=-1)
        size = network.image_size
        upsampled = []
        for layer in logits:
            grid = layer.softmax(-1)[..., 1].unflatten(1, (clip.grid_size, clip.grid_size)).unsqueeze(1)
            upsampled.append(F.interpolate(grid, (size, size), mode="bilinear", align_corners=False)[0, 0])
        amap = gaussian_filter(torch.stack(upsampled).mean(0).numpy(), sigma=4)
        share = torch.stack(logits).mean(0).softmax(-1)[..., 1:]
        pooled = F.normalize((share * torch.stack(features).mean(0)).sum(1), dim=-1)
        image_feature = F.normalize(0.5 * pooled + 0.5 * cls, dim=-1)
        score = (image_feature @ text.T / network.temperature).softmax(-1)[0, 1]
        return amap, float(score)

    @staticmethod
    def _weights(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.softmax(a @ b.transpose(-1, -2) / a.shape[-1] ** 0.5, dim=-1)
