"""D-Attn: attention that follows the patch similarities of a dense prior (Crane+)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from monai_zsad.networks.maps import l2_normalize

__all__ = ["dense_prior_attention"]

_SHARPNESS = 3.0
_ROWS = 512


def dense_prior_attention(prior: torch.Tensor, values: torch.Tensor, offset: float) -> torch.Tensor:
    """Average ``values`` over the patches that a dense prior finds similar.

    For each image, ``s = 3 (cos(d_i, d_j) - offset * mean(cos))``, negative entries dropped, softmax over j. The mean
    is taken per image, so that a slice does not depend on its batch (Crane's release takes it over the batch). A patch
    that is similar to no other, itself included (a nearly uniform picture), keeps its own value; there the release
    gives NaN. Rows are processed in portions, so that no N x N matrix is held.

    Args:
        prior: patch features d (B, C, h, w).
        values: (B, N, W) on a square grid; resized bilinearly to h x w where the grids differ, and the result back.
        offset: multiple of the mean similarity that is subtracted (1.2 for DINO).

    Returns:
        (B, N, W) in the type of ``values``.

    References:
        Salehi et al., Crane, arXiv 2504.11055, section 3 (D-Attn); Lan et al., ProxyCLIP, ECCV 2024.

    >>> out = dense_prior_attention(torch.eye(4).view(1, 4, 2, 2), torch.arange(4.0).view(1, 4, 1), 1.2)
    >>> out.flatten()
    tensor([0., 1., 2., 3.])
    """
    side = math.isqrt(values.shape[1])
    same_grid = prior.shape[-2:] == (side, side)
    v = values if same_grid else _to_grid(values, (side, side), prior.shape[-2:])
    d = l2_normalize(prior.flatten(2).transpose(1, 2))
    # The mean of all pairwise products is the squared length of the mean vector.
    mean = d.mean(1).square().sum(-1).view(-1, 1, 1)
    attended = []
    for start in range(0, d.shape[1], _ROWS):
        rows = d[:, start : start + _ROWS]
        similarity = _SHARPNESS * (rows @ d.transpose(1, 2) - offset * mean)
        itself = torch.arange(start, start + rows.shape[1], device=d.device).view(1, -1, 1)
        columns = torch.arange(d.shape[1], device=d.device).view(1, 1, -1)
        lonely = (similarity < 0).all(-1, keepdim=True)
        keep = (similarity >= 0) | (lonely & (itself == columns))
        weights = torch.softmax(similarity.masked_fill(~keep, -torch.inf), dim=-1)
        attended.append(weights.to(v.dtype) @ v)
    out = torch.cat(attended, dim=1)
    return out if same_grid else _to_grid(out, prior.shape[-2:], (side, side))


def _to_grid(tokens: torch.Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> torch.Tensor:
    grid = tokens.transpose(1, 2).unflatten(2, old)
    resized = F.interpolate(grid.float(), new, mode="bilinear", align_corners=False)
    return resized.to(tokens.dtype).flatten(2).transpose(1, 2)
