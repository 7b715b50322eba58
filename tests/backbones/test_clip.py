"""CLIP's towers against open_clip's own forward passes, and the second path against its definition."""

from __future__ import annotations

from typing import Any, get_args

import open_clip
import pytest
import torch
from open_clip.model import CLIP

from monai_zsad.backbones import AttentionKind, CLIPBackbone
from monai_zsad.backbones.attention import self_correlation_attention
from monai_zsad.backbones.positions import resize_positions
from monai_zsad.errors import ConfigurationError, WeightsError
from tests.networks.zoo import ARCHITECTURE

IMAGES = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))


def seeded(**options: Any) -> CLIPBackbone:
    clip = CLIPBackbone(ARCHITECTURE, **options)
    clip.load_weights("seed:0")
    return clip


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def pair(request: pytest.FixtureRequest) -> tuple[CLIPBackbone, Any]:
    ours = seeded(activation=request.param)
    text = {"context_length": 77, "vocab_size": 49408} | ARCHITECTURE["text_cfg"]
    theirs = CLIP(
        ARCHITECTURE["embed_dim"], ARCHITECTURE["vision_cfg"], text, quick_gelu=request.param == "quick_gelu"
    ).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


@torch.no_grad()
def test_image_feature_is_open_clips(pair: tuple[CLIPBackbone, Any]) -> None:
    ours, theirs = pair
    cases: list[dict[str, Any]] = [{}, {"attention": "vv", "path_layers": (4,)}]
    for options in cases:
        tokens = ours.vision(IMAGES, **options).tokens
        torch.testing.assert_close(ours.project(tokens[:, 0]), theirs.encode_image(IMAGES), atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_text_feature_is_open_clips(pair: tuple[CLIPBackbone, Any]) -> None:
    ours, theirs = pair
    texts = ["a normal brain.", "a FLAIR image of a brain with a hyperintense lesion"]
    tokens = open_clip.get_tokenizer("ViT-B-16")(texts)
    assert torch.equal(ours.tokenize(texts), tokens)
    torch.testing.assert_close(ours.encode_text(texts), theirs.encode_text(tokens), atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_what_follows_the_longest_text_changes_nothing() -> None:
    clip = seeded()
    tokens = clip.tokenize(["a normal brain", "a FLAIR image of a brain with a small hyperintense lesion"])
    end = tokens.argmax(-1)
    whole = clip.text_tokens(clip.embed_tokens(tokens), end)
    for length in (int(end.max()) + 1, int(end.max()) + 5):
        short = clip.text_tokens(clip.embed_tokens(tokens[:, :length]), end)
        torch.testing.assert_close(short, whole, atol=1e-6 * float(whole.abs().max()), rtol=0)


def reference_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, kind: str) -> torch.Tensor:
    """The definition, attention weights and all."""
    if kind == "(q+k+v)^2":
        joint = torch.cat([q, k, v], -1)
        return torch.softmax(joint @ joint.mT / (q.shape[-1] * 3) ** 0.5, -1) @ v
    named = {"qq": q, "kk": k, "vv": v}
    weights = [torch.softmax(named[name] @ named[name].mT / q.shape[-1] ** 0.5, -1) for name in kind.split("+")]
    return torch.stack(weights).sum(0) @ v


@pytest.mark.parametrize("kind", get_args(AttentionKind))
@pytest.mark.parametrize("tokens", [5, 300])
def test_self_correlation_kinds(kind: AttentionKind, tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, tokens, 64, generator=generator) for _ in range(3))
    found = self_correlation_attention(q, k, v, kind)
    torch.testing.assert_close(found, reference_attention(q, k, v, kind), atol=2e-5, rtol=1e-4)
    low = self_correlation_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), kind)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), found, atol=6e-2, rtol=5e-2)


@torch.no_grad()
def test_second_path_by_its_definition() -> None:
    clip = seeded()
    features = clip.vision(IMAGES, attention="qq+kk+vv", first_block=2, path_layers=(2, 4), layers=(1, 2, 3, 4))
    y = features.layers[1]
    for number in (2, 3, 4):
        block = clip.visual.transformer.resblocks[number - 1]
        projected = block.ln_1(features.layers[number - 1]) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
        q, k, v = (part.reshape(2, -1, block.attn.num_heads, 64).transpose(1, 2) for part in projected.chunk(3, -1))
        attended = reference_attention(q, k, v, "qq+kk+vv").transpose(1, 2).flatten(2)
        y = y + block.attn.out_proj(attended)
        if number in features.path:
            torch.testing.assert_close(features.path[number], y, atol=2e-5, rtol=1e-5)
    assert sorted(features.path) == [2, 4]


@torch.no_grad()
def test_second_path_leaves_clips_own_stream_alone() -> None:
    clip = seeded()
    plain = clip.vision(IMAGES)
    beside = clip.vision(IMAGES, attention="vv", path_layers=(4,))
    torch.testing.assert_close(beside.tokens, plain.tokens, atol=1e-5, rtol=0)
    torch.testing.assert_close(beside.last_attended, plain.last_attended, atol=1e-5, rtol=0)


@torch.no_grad()
def test_class_token_alone_at_the_end() -> None:
    clip = seeded()
    options: dict[str, Any] = {"attention": "qq+kk+vv", "path_layers": (3, 4)}
    whole, alone = clip.vision(IMAGES, **options), clip.vision(IMAGES, **options, patches=False)
    assert alone.tokens.shape == (2, 1, 128)
    torch.testing.assert_close(alone.tokens, whole.tokens[:, :1], atol=1e-5, rtol=0)
    for layer in (3, 4):
        torch.testing.assert_close(alone.path[layer], whole.path[layer], atol=1e-5, rtol=0)


@torch.no_grad()
def test_after_block_changes_the_stream() -> None:
    clip = seeded()
    features = clip.vision(IMAGES, layers=(1, 2), after_block=lambda n, x: x if n != 1 else x * 0)
    assert features.layers[1].eq(0).all()
    assert features.layers[2].ne(0).any()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_positions_are_resized_when_weights_load(mode: Any) -> None:
    native = seeded()
    large = CLIPBackbone(ARCHITECTURE, 70, position_resize=mode)
    large.load_state_dict(native.state_dict())
    own, loaded = native.visual.positional_embedding, large.visual.positional_embedding
    assert loaded.shape == (26, 128)
    assert torch.equal(loaded[0], own[0])
    grid = own[1:].T.reshape(1, 128, 2, 2)
    expected = torch.nn.functional.interpolate(grid, (5, 5), mode=mode, antialias=mode == "bicubic")
    torch.testing.assert_close(loaded[1:], expected[0].flatten(1).T)
    assert torch.equal(large.portable_state_dict()["visual.positional_embedding"], own)


@torch.no_grad()
@pytest.mark.parametrize("size", [28, 70], ids=["native", "larger"])
def test_positions_trained_in_place_are_what_is_kept(size: int) -> None:
    name = "visual.positional_embedding"
    loaded = seeded().state_dict()[name]

    def at_size() -> CLIPBackbone:
        clip = CLIPBackbone(ARCHITECTURE, size)
        clip.load_state_dict(seeded().state_dict())
        return clip

    clip = at_size()
    assert torch.equal(clip.portable_state_dict()[name], loaded)
    # What is only rounded was not trained.
    assert torch.equal(at_size().to(torch.bfloat16).portable_state_dict()[name], loaded)
    clip.visual.positional_embedding.add_(1e-4)
    kept = clip.portable_state_dict()[name]
    assert torch.equal(kept, clip.visual.positional_embedding)
    assert not torch.equal(kept, loaded)
    again = CLIPBackbone(ARCHITECTURE, size)
    again.load_state_dict(clip.portable_state_dict())
    assert torch.equal(
        again.vision(torch.ones(1, 3, size, size)).tokens, clip.vision(torch.ones(1, 3, size, size)).tokens
    )


@torch.no_grad()
def test_what_was_loaded_does_not_change_with_where_it_came_from() -> None:
    native, large = seeded(), CLIPBackbone(ARCHITECTURE, 70)
    large.load_state_dict(native.state_dict())
    before = native.visual.positional_embedding.clone()
    native.visual.positional_embedding.zero_()
    assert torch.equal(large.portable_state_dict()["visual.positional_embedding"], before)


def test_positions_of_another_layout() -> None:
    with pytest.raises(WeightsError, match="square grid"):
        resize_positions(torch.zeros(8, 4), 3, "bilinear")


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-32-quickgelu", "ViT-B-16-plus-240", "ViT-L-14-336", "ViT-H-14"])
def test_open_clip_architectures(name: str) -> None:
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        expected = open_clip.model.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"]).state_dict()
    if name in ("ViT-L-14-336", "ViT-H-14"):
        from monai_zsad.backbones.architectures import clip_configuration

        assert clip_configuration(name)["vision_cfg"] == config["vision_cfg"]
        return
    clip = CLIPBackbone(name)
    assert {k: v.shape for k, v in clip.state_dict().items()} == {k: v.shape for k, v in expected.items()}
    assert clip.image_size == config["vision_cfg"]["image_size"]


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("ViT-L-14-33", "unknown to open_clip.*ViT-L-14-336"),
        ("RN50", "not a plain ViT CLIP"),
        ("ViT-B-16-SigLIP", "not a plain ViT CLIP"),
        ("coca_ViT-B-32", "not a plain ViT CLIP"),
        ({"embed_dim": 3}, "lacks text_cfg, vision_cfg"),
    ],
)
def test_other_architectures_are_refused(architecture: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        CLIPBackbone(architecture)


def test_prompts_are_never_cut() -> None:
    with pytest.raises(ConfigurationError, match="has 202 tokens, 77 fit"):
        seeded().encode_text(["lesion " * 100])


def test_quick_gelu_mismatch_is_refused(tmp_path) -> None:
    clip = seeded(activation="gelu")
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    with pytest.raises(WeightsError, match="activation"):
        seeded().load_weights(tmp_path / "clip.pt")
    with pytest.raises(WeightsError, match="trained with gelu, but the network computes quick_gelu"):
        seeded().load_weights(tmp_path / "clip.pt", activation="gelu")
    record = seeded().load_weights(tmp_path / "clip.pt", activation="gelu", accept_activation_mismatch=True)
    assert record.activation == "gelu"
    assert not record.meaningless


def test_weights_of_another_width_are_refused(tmp_path) -> None:
    vision = ARCHITECTURE["vision_cfg"] | {"width": 64}
    other = CLIPBackbone(ARCHITECTURE | {"vision_cfg": vision})
    torch.save(other.state_dict(), tmp_path / "narrow.pt")
    with pytest.raises(WeightsError, match=r"narrow\.pt.*of another shape \(.*needed"):
        seeded().load_weights(tmp_path / "narrow.pt", activation="quick_gelu")


def test_dropped_text_tower() -> None:
    clip = seeded()
    before = sum(p.numel() for p in clip.parameters())
    clip.drop_text_tower()
    assert sum(p.numel() for p in clip.parameters()) < before / 2
    clip.vision(IMAGES)
    with pytest.raises(ConfigurationError, match="text tower was dropped"):
        clip.encode_text(["a brain"])
