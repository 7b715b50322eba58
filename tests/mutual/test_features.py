"""Tokens and embeddings of slices, from every network of the package."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from monai_zsad.backbones import DINOv2Prior
from monai_zsad.errors import ConfigurationError
from monai_zsad.mutual import DenseFeatures, MuSc
from monai_zsad.networks import ScreeningCLIP
from tests.networks.small import SIZE, SLICES, small_network
from tests.networks.zoo import IMAGE_SIZE, NETWORKS, crane, crane_plus


@pytest.fixture(scope="module")
def screening() -> ScreeningCLIP:
    network = small_network()
    network.load_weights(model="seed:0")
    return network


def slices(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 1, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["crane", "crane_plus", "anomalyclip", "aaclip", "anoclip"])
def test_clip(name: str) -> None:
    network = NETWORKS[name]()
    tokens, embeddings = DenseFeatures("clip")(network, slices())
    clip = network.clip
    assert tokens.shape == (len(clip.check_layers(None)), 2, clip.grid_size**2, clip.width)
    found = clip.vision(network.normalize(network.resize(slices())), layers=(2, clip.depth))
    torch.testing.assert_close(tokens[-1], found.layers[clip.depth][:, 1:])
    torch.testing.assert_close(DenseFeatures("clip", [2])(network, slices())[0][0], found.layers[2][:, 1:])
    torch.testing.assert_close(embeddings, clip.project(found.tokens[:, 0]))


def test_dinov2() -> None:
    network = crane_plus()
    prior = network.prior
    assert DenseFeatures().source_for(network) == "clip"
    assert DenseFeatures().source_for(prior) == "dinov2"
    tokens, embeddings = DenseFeatures("dinov2")(network, slices())
    assert tokens.shape == (4, 2, prior.grid_size**2, embeddings.shape[1])
    # The last block gives the features of Crane+.
    torch.testing.assert_close(tokens[-1], prior(slices().expand(-1, 3, -1, -1)).flatten(2).transpose(1, 2))
    again, _ = DenseFeatures("dinov2", [3, 12])(prior, slices())
    torch.testing.assert_close(again, tokens[[0, 3]])
    small, _ = DenseFeatures("dinov2")(prior, slices()[..., ::2, ::2])
    assert small.shape == tokens.shape


def test_included_model(screening: ScreeningCLIP) -> None:
    images = screening.normalize(SLICES)
    tokens, embeddings = DenseFeatures()(screening, SLICES)
    torch.testing.assert_close(F.normalize(tokens, dim=-1), screening.features(images)[0])
    pixels, context = screening.dense_features(images)
    torch.testing.assert_close(embeddings, context)
    fewer, _ = DenseFeatures(side=8)(screening, SLICES)
    mean = pixels.unflatten(3, (8, -1)).unflatten(2, (8, -1)).mean((3, 5))
    torch.testing.assert_close(fewer[0], mean.flatten(2).transpose(1, 2))


def test_levels_of_the_encoder(screening: ScreeningCLIP) -> None:
    levels = screening.clip.visual.encoder(screening.normalize(SLICES)[:, :3])
    tokens, embeddings = DenseFeatures("encoder")(screening, SLICES)
    fine, coarse = levels[2:4]
    assert tokens.shape == (1, 3, 8**2, fine.shape[1] + coarse.shape[1])
    torch.testing.assert_close(embeddings, levels[-1].mean((2, 3)))
    # Each level has the same share, whatever its scale and its number of channels.
    alone, _ = DenseFeatures("encoder", [3])(screening, SLICES)
    torch.testing.assert_close(tokens[..., : fine.shape[1]], alone)
    torch.testing.assert_close(alone.square().sum(-1).mean(2), torch.ones(1, 3), atol=1e-3, rtol=0)
    assert DenseFeatures("encoder", [4, 5], side=2)(screening, SLICES)[0].shape[2] == 2**2


def test_a_slice_does_not_depend_on_its_batch(screening: ScreeningCLIP) -> None:
    before = SLICES.clone()
    for network, batch in ((screening, SLICES), (crane(), slices(3))):
        for part, alone in zip(DenseFeatures()(network, batch), DenseFeatures()(network, batch[1:2]), strict=True):
            torch.testing.assert_close(part.narrow(part.ndim // 3, 1, 1), alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(before, SLICES)


def test_a_set_of_slices_is_scored(screening: ScreeningCLIP) -> None:
    generator = torch.Generator().manual_seed(1)
    alike = SLICES[:1] + 0.02 * torch.rand(6, 3, SIZE, SIZE, generator=generator)
    alike[4, :, 16:24, 16:24] += 0.8
    found = MuSc(degrees=(1,))(*DenseFeatures()(screening, alike.clamp(0, 1)), size=SIZE)
    assert int(found.score.argmax()) == 4


def test_half_precision() -> None:
    network = crane()
    exact, _ = DenseFeatures()(network, slices())
    network.set_precision("bfloat16")
    tokens, _ = DenseFeatures()(network, slices())
    assert tokens.dtype == torch.bfloat16
    assert float(F.cosine_similarity(tokens.float(), exact, dim=-1).min()) > 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [({"source": "resnet"}, "choose auto, clip"), ({"side": 0}, "at least 1")],
)
def test_settings_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DenseFeatures(**options)


def test_networks_without_such_tokens(screening: ScreeningCLIP) -> None:
    with pytest.raises(ConfigurationError, match="choose fine or encoder"):
        DenseFeatures("clip")(screening, SLICES)
    with pytest.raises(ConfigurationError, match="choose clip"):
        DenseFeatures("dinov2").source_for(crane())
    with pytest.raises(ConfigurationError, match="runtime=torch"):
        DenseFeatures()(torch.nn.Identity(), SLICES)
    prior = DINOv2Prior(28, "vit_small_patch14_reg4_dinov2")
    with pytest.raises(ConfigurationError, match="from 1 to 12"):
        DenseFeatures(layers=[0])(prior, torch.zeros(1, 1, 28, 28))
    with pytest.raises(ConfigurationError, match="from 1 to"):
        DenseFeatures(layers=[99])(crane(), slices())
    with pytest.raises(ConfigurationError, match="levels from 1 to 5"):
        DenseFeatures("encoder", [6])(screening, SLICES)
