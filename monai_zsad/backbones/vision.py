"""One pass through CLIP's vision blocks for several networks: the features that each one requests, and the results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from monai_zsad.backbones.attention import (
    AttentionKind,
    attention_of,
    merge_heads,
    self_correlation_attention,
    split_heads,
)
from monai_zsad.backbones.text import AfterBlock

__all__ = ["VisionFeatures", "VisionRequest", "run_blocks", "self_correlations"]


@dataclass(frozen=True)
class VisionRequest:
    """The features that a network needs from a pass through the vision tower. Block numbers start at 1.

    Attributes:
        attention: kind of the second path; ``None`` for no second path.
        first_block: block at which the second path starts.
        path_layers: blocks after which y of the second path is returned. It is computed up to the last of them.
        layers: blocks after which CLIP's own x is returned.
        patches: whether the final x is needed for the patches too. If not, the last block computes x for the class
            token only, which saves half of its time. y and the earlier blocks are complete in any case.
    """

    attention: AttentionKind | None = None
    first_block: int = 1
    path_layers: tuple[int, ...] = ()
    layers: tuple[int, ...] = ()
    patches: bool = True


class VisionFeatures(NamedTuple):
    """Features of one pass through the vision tower. Block numbers start at 1; token 0 is the class token.

    Attributes:
        tokens: CLIP's own stream x after the last block, (B, 1 + N, W), before ``ln_post``; (B, 1, W), the class token
            only, if the patches were not requested.
        layers: x after each requested block, by block number.
        path: y of the second path after each requested block, by block number.
        last_attended: the last block's input plus its own attention output, before its MLP; tokens as above.
    """

    tokens: torch.Tensor
    layers: dict[int, torch.Tensor]
    path: dict[int, torch.Tensor]
    last_attended: torch.Tensor


def run_blocks(
    blocks: Sequence[Any],
    x: torch.Tensor,
    requests: Sequence[VisionRequest],
    after_block: AfterBlock | None = None,
) -> list[VisionFeatures]:
    """Run embedded tokens through the blocks once, with all second paths of the requests.

    CLIP's own stream, q, k and v of each block, and common paths are computed once.

    Args:
        blocks: residual attention blocks of open_clip.
        x: (B, 1 + N, W).
        requests: at least one.
        after_block: called as ``after_block(block, x)`` after every block; its result replaces x.

    Returns:
        The features of each request.
    """
    depth = len(blocks)
    patches = any(request.patches for request in requests)
    # The block at which each second path ends, by its kind and first block.
    ends: dict[tuple[AttentionKind, int], int] = {}
    for request in requests:
        if request.attention is not None and request.path_layers:
            path = (request.attention, request.first_block)
            ends[path] = max(ends.get(path, 0), *request.path_layers)
    streams: dict[tuple[AttentionKind, int], torch.Tensor] = {}
    kept: dict[int, torch.Tensor] = {}
    kept_paths: dict[tuple[AttentionKind, int], dict[int, torch.Tensor]] = {path: {} for path in ends}
    wanted = {layer for request in requests for layer in request.layers}
    wanted_of_paths = {layer for request in requests for layer in request.path_layers}
    attended = x
    for number, block in enumerate(blocks, start=1):
        q, k, v = _qkv(block, x)
        own = slice(None) if patches or number < depth else slice(1)
        active = [path for path, end in ends.items() if path[1] <= number <= end]
        kinds = list(dict.fromkeys(kind for kind, _ in active))
        found = [merge_heads(attention_of(q[:, :, own], k, v))]
        found += [merge_heads(correlated) for correlated in self_correlations(q, k, v, kinds)]
        projected = block.attn.out_proj(torch.cat(found, dim=1)).split([part.shape[1] for part in found], dim=1)
        for path in active:
            streams[path] = streams.get(path, x) + projected[1 + kinds.index(path[0])]
            if number in wanted_of_paths:
                kept_paths[path][number] = streams[path]
        attended = x[:, own] + projected[0]
        x = attended + block.mlp(block.ln_2(attended))
        if after_block is not None:
            x = after_block(number, x)
        if number in wanted:
            kept[number] = x

    def result(request: VisionRequest) -> VisionFeatures:
        last = slice(None) if request.patches or not patches else slice(1)
        paths = {} if request.attention is None else kept_paths.get((request.attention, request.first_block), {})
        return VisionFeatures(
            tokens=x[:, last],
            layers={n: kept[n][:, last] if n == depth else kept[n] for n in kept if n in request.layers},
            path={n: paths[n] for n in paths if n in request.path_layers},
            last_attended=attended[:, last],
        )

    return [result(request) for request in requests]


def self_correlations(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, kinds: Iterable[AttentionKind]
) -> list[torch.Tensor]:
    """:func:`self_correlation_attention` of several kinds. Common terms are computed once.

    >>> x = torch.randn(1, 2, 5, 4)
    >>> vv, both = self_correlations(x, x, x, ["vv", "qq+kk"])
    >>> both.equal(2 * vv)
    True
    """
    kinds = list(kinds)
    if len(kinds) < 2:
        return [self_correlation_attention(q, k, v, kind) for kind in kinds]
    terms: dict[str, torch.Tensor] = {}
    found = []
    for kind in kinds:
        names = [kind] if kind == "(q+k+v)^2" else kind.split("+")
        for name in names:
            if name not in terms:
                terms[name] = self_correlation_attention(q, k, v, name)  # type: ignore[arg-type]  # each term is a kind too
        total = terms[names[0]]
        for name in names[1:]:
            total = total + terms[name]
        found.append(total)
    return found


def _qkv(block: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    projected = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
    q, k, v = (split_heads(part, block.attn.num_heads) for part in projected.chunk(3, dim=-1))
    return q, k, v
