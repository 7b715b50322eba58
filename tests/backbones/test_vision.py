"""One pass for several requests against one pass for each."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import torch

from monai_zsad.backbones import AttentionKind, CLIPBackbone, VisionRequest
from monai_zsad.backbones import vision as module
from monai_zsad.backbones.attention import self_correlation_attention
from tests.networks.zoo import ARCHITECTURE

IMAGES = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
REQUESTS = (
    VisionRequest(),
    VisionRequest("qq+kk+vv", 2, (4,), patches=False),
    VisionRequest("vv", 2, (2, 3), layers=(1, 4), patches=False),
    VisionRequest("vv", 1, (4,)),
    VisionRequest("(q+k+v)^2", 3, (3, 4)),
    VisionRequest("vv", 4, ()),
)
KINDS: tuple[AttentionKind, ...] = get_args(AttentionKind)


@pytest.fixture(scope="module")
def clip() -> CLIPBackbone:
    backbone = CLIPBackbone(ARCHITECTURE)
    backbone.load_weights("seed:0")
    return backbone


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-6 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("pair", list(itertools.combinations(range(len(REQUESTS)), 2)))
@torch.no_grad()
def test_two_requests_in_one_pass_equal_two_passes(clip: CLIPBackbone, pair: tuple[int, int]) -> None:
    requests = [REQUESTS[number] for number in pair]
    for request, found in zip(requests, clip.vision_features(IMAGES, requests), strict=True):
        (alone,) = clip.vision_features(IMAGES, [request])
        close(found.tokens, alone.tokens)
        close(found.last_attended, alone.last_attended)
        for ours, theirs in ((found.path, alone.path), (found.layers, alone.layers)):
            assert ours.keys() == theirs.keys()
            for number in ours:
                close(ours[number], theirs[number])
        assert found.path.keys() == set(request.path_layers)


@torch.no_grad()
def test_each_block_projects_and_correlates_once(clip: CLIPBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"qkv": 0, "correlation": 0}
    qkv = module._qkv

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls[name] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(module, "_qkv", counted("qkv", qkv))
    monkeypatch.setattr(module, "self_correlation_attention", counted("correlation", self_correlation_attention))
    clip.vision_features(IMAGES, [VisionRequest("qq+kk+vv", 1, (4,)), VisionRequest("vv", 1, (4,))])
    # qq, kk and vv of four blocks, and no second vv.
    assert calls == {"qkv": 4, "correlation": 12}


@torch.no_grad()
def test_a_path_ends_with_its_last_layer(clip: CLIPBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []

    def seen(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, kind: AttentionKind) -> torch.Tensor:
        kinds.append(kind)
        return self_correlation_attention(q, k, v, kind)

    monkeypatch.setattr(module, "self_correlation_attention", seen)
    features = clip.vision(IMAGES, attention="vv", first_block=2, path_layers=(3,))
    assert kinds == ["vv", "vv"]
    assert list(features.path) == [3]


@pytest.mark.parametrize("first", KINDS)
def test_kinds_together_equal_kinds_alone(first: AttentionKind) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 30, 16, generator=generator) for _ in range(3))
    kinds = (first, *KINDS)
    for kind, found in zip(kinds, module.self_correlations(q, k, v, kinds), strict=True):
        assert torch.equal(found, self_correlation_attention(q, k, v, kind))
