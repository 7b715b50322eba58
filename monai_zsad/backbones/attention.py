"""Attention of a ViT block: CLIP's own, and self-correlation attention of the zero-shot methods."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F

from monai_zsad.errors import ConfigurationError

__all__ = [
    "AttentionKind",
    "attention_of",
    "check_attention_kind",
    "merge_heads",
    "self_correlation_attention",
    "split_heads",
]

AttentionKind = Literal["vv", "kk", "qq", "qq+kk", "qq+kk+vv", "(q+k+v)^2"]
"""The projections that are compared with themselves. Attention weights of several kinds are summed, not averaged."""


_CAPABILITIES = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
_HAS_AMX = bool(_CAPABILITIES.get("amx_bf16", False))


def check_attention_kind(kind: str) -> AttentionKind:
    """Return ``kind`` if it is known.

    Raises:
        ConfigurationError: if it is unknown.
    """
    if kind not in get_args(AttentionKind):
        raise ConfigurationError(f"attention={kind!r} is unknown: choose one of {', '.join(get_args(AttentionKind))}")
    return kind  # type: ignore[return-value]  # narrowed by the test above


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, N, W) to (B, heads, N, W / heads), a view."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """(B, heads, N, d) to (B, N, heads * d)."""
    return x.transpose(1, 2).flatten(2)


def attention_of(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """``softmax(q k^T / sqrt(d)) v`` with the fastest exact kernel, in the type of ``v``.

    That is ``scaled_dot_product_attention``. On a CPU without bfloat16 matrix units (AMX) it runs in float32, because
    the half-precision kernel is slower there.

    Args:
        q: queries (B, heads, M, d).
        k: keys (B, heads, N, d).
        v: values (B, heads, N, d).

    Returns:
        (B, heads, M, d).
    """
    if v.device.type == "cpu" and v.dtype != torch.float32 and not _HAS_AMX:
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(v.dtype)
    return F.scaled_dot_product_attention(q, k, v)


def self_correlation_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, kind: AttentionKind) -> torch.Tensor:
    """Sum over the kinds of ``softmax(a a^T / sqrt(d)) v``.

    ``softmax(a a^T / sqrt(d))`` compares the tokens in one projection, so that a token attends to itself and to similar
    tokens. For ``qq+kk+vv``, each row of the attention weights sums to three.

    Args:
        q: queries (B, heads, N, d).
        k: keys, same shape.
        v: values, same shape.
        kind: see :data:`AttentionKind`. ``(q+k+v)^2`` compares the concatenation of the three, 3 d wide.

    Returns:
        (B, heads, N, d), before the output projection.

    References:
        Salehi et al., Crane, arXiv 2504.11055 (E-Attn); Zhou et al., AnomalyCLIP, ICLR 2024; Li et al., CLIP Surgery.

    >>> x = torch.randn(1, 2, 5, 4)
    >>> one = self_correlation_attention(x, x, x, "vv")
    >>> self_correlation_attention(x, x, x, "qq+kk+vv").allclose(3 * one, atol=1e-5)
    True
    """
    if kind == "(q+k+v)^2":
        joint = torch.cat([q, k, v], dim=-1)
        # The fused kernels need values as wide as the keys.
        padded = F.pad(v, (0, joint.shape[-1] - v.shape[-1]))
        return attention_of(joint, joint, padded)[..., : v.shape[-1]]
    projections = {"q": q, "k": k, "v": v}
    out: torch.Tensor | None = None
    for term in kind.split("+"):
        a = projections[term[0]]
        attended = attention_of(a, a, v)
        out = attended if out is None else out + attended
    if out is None:  # pragma: no cover - AttentionKind has no empty member
        raise ConfigurationError(f"attention={kind!r} names no projection")
    return out
