"""What AA-CLIP, AnoCLIP and AnomalyCLIP do beyond the golden values and the common suite."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.networks import AACLIP, AnoCLIP, TestTimeAdaptation
from monai_zsad.networks.adaptation import adapt_tokens
from monai_zsad.networks.anoclip import score_views
from monai_zsad.networks.maps import l2_normalize
from tests.networks.zoo import ARCHITECTURE, IMAGE_SIZE, aaclip, anoclip, anomalyclip

IMAGES = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(3))


# ---- AA-CLIP -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_aaclip_map_ranks_pixels_as_the_released_sum() -> None:
    prediction = aaclip().predict(IMAGES)
    released = prediction.details["amap"].flatten()
    order = released.argsort()
    assert (prediction.anomaly_map.flatten()[order].diff() >= 0).all()
    torch.testing.assert_close(prediction.details["layer_maps"].sum(1), prediction.details["amap"])


@torch.no_grad()
def test_aaclip_level_maps_come_at_the_slices_size() -> None:
    network = aaclip()
    maps = network.level_maps(torch.rand(2, 1, 40, 30))
    assert maps.shape == (2, 4, 40, 30)
    assert not torch.allclose(maps[:, 0], maps[:, 3])


def test_aaclip_checkpoints_of_the_release_load(tmp_path) -> None:
    network = aaclip()
    for part in ("image_adapter", "text_adapter"):
        state = getattr(network, part).state_dict()
        torch.save({part: state, "epoch": 5}, tmp_path / f"{part}.pth")
    assert set(network.text_adapter.state_dict()) == {f"{i}.fc.0.weight" for i in range(4)}
    assert {"seg_proj.0.fc.weight", "det_proj.fc.weight", "layer_adapters.0.fc.0.weight"} <= set(
        network.image_adapter.state_dict()
    )
    other = AACLIP(ARCHITECTURE, IMAGE_SIZE)
    records = other.load_weights(
        clip="seed:0", image_adapter=tmp_path / "image_adapter.pth", text_adapter=tmp_path / "text_adapter.pth"
    )
    assert sorted(records) == ["clip", "image_adapter", "text_adapter"]
    with torch.no_grad():
        assert torch.equal(other.predict(IMAGES).anomaly_map, network.predict(IMAGES).anomaly_map)
    relu = AACLIP(ARCHITECTURE, IMAGE_SIZE, projection_relu=True)
    with pytest.raises(WeightsError, match="projection_relu"):
        relu.load_weights(
            clip="seed:0", image_adapter=tmp_path / "image_adapter.pth", text_adapter=tmp_path / "text_adapter.pth"
        )


# ---- AnoCLIP -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_anoclip_temperature_keeps_the_ranking_and_gives_contrast() -> None:
    released = anoclip(temperature=1).predict(IMAGES)
    torch.testing.assert_close(released.anomaly_map, released.details["amap"], atol=1e-6, rtol=0)
    contrast = anoclip().predict(IMAGES).anomaly_map
    order = released.details["amap"].flatten().argsort()
    # A float32 step next to 0.5, 6e-8, becomes up to 6e-6 at a temperature of 0.01.
    assert (contrast.flatten()[order].diff() >= -1e-5).all()
    assert contrast.std() > 10 * released.anomaly_map.std()


@torch.no_grad()
def test_views_change_the_score_and_not_the_map() -> None:
    one, many = anoclip().predict(IMAGES), anoclip(views=22).predict(IMAGES)
    assert torch.equal(one.anomaly_map, many.anomaly_map)
    assert not torch.allclose(one.score, many.score, atol=1e-4)


def test_views_are_what_they_say() -> None:
    pictures = torch.rand(1, 3, 20, 20)
    views = list(score_views(pictures))
    assert torch.equal(views[16], pictures.flip(-1))
    assert torch.equal(views[17][:, 0], views[17][:, 2])
    assert torch.equal(views[18].rot90(-1, (-2, -1)), pictures)
    # 0.2 of the half-width of 20 pixels is two pixels.
    torch.testing.assert_close(views[8][..., :18, :18], pictures[..., 2:, 2:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_adaptation_of_a_batch_is_that_of_each_slice_by_itself(mode: Any) -> None:
    """Against a plain loop: one linear layer, one AdamW, one slice."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(3, 16, 8, generator=generator)
    prompts = l2_normalize(torch.randn(6, 8, generator=generator))
    anchors = l2_normalize(torch.randn(2, 8, generator=generator))
    settings = TestTimeAdaptation(steps=4, learning_rate=1e-2, seed=3)
    with mode():
        found = adapt_tokens(tokens, prompts, anchors, settings)
    weight, bias = settings.start(6, 8)
    noise = settings.noise(16, 8)
    for index, f0 in enumerate(tokens):
        linear = torch.nn.Linear(8, 6)
        linear.load_state_dict({"weight": weight, "bias": bias})
        optimizer = torch.optim.AdamW(linear.parameters(), lr=1e-2, weight_decay=0.01)

        def adapted(f: torch.Tensor, linear: torch.nn.Linear = linear) -> torch.Tensor:
            return 0.5 * f + 0.5 * torch.tanh(linear(l2_normalize(f))) @ prompts

        for step in range(4):
            clean = torch.softmax(l2_normalize(adapted(f0)) @ anchors.T, -1)
            noisy = torch.softmax(l2_normalize(adapted(f0 + noise[step])) @ anchors.T, -1)
            loss = -(clean * clean.log()).sum(-1).mean() + 0.5 * (-noisy[:, 1].log() - clean[:, 0].log()).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            torch.testing.assert_close(found.losses[step, index], loss.detach(), atol=1e-6, rtol=0)
        torch.testing.assert_close(found.tokens[index], adapted(f0).detach(), atol=1e-4, rtol=0)
    assert not found.tokens.requires_grad


def test_bad_adaptation_and_options() -> None:
    with pytest.raises(ConfigurationError, match="steps must be at least 1"):
        TestTimeAdaptation(steps=0)
    with pytest.raises(ConfigurationError, match="views=7"):
        AnoCLIP(ARCHITECTURE, IMAGE_SIZE, views=7)
    with pytest.raises(ConfigurationError, match="domain='brain'"):
        AACLIP(ARCHITECTURE, IMAGE_SIZE, domain="brain")  # type: ignore[arg-type]
    assert anoclip(adaptation={"steps": 3}).adaptation == TestTimeAdaptation(steps=3)


# ---- AnomalyCLIP ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_anomalyclip_map_is_the_mean_of_the_released_sum() -> None:
    prediction = anomalyclip().predict(IMAGES)
    assert prediction.details["layer_maps"].shape[0] == 4
    torch.testing.assert_close(prediction.anomaly_map, prediction.details["amap_smooth"] / 4)


def test_unused_projections_of_anomalyclips_checkpoints_are_ignored() -> None:
    network = anomalyclip()
    state = {key: value.clone() for key, value in network.prompt_learner.state_dict().items()}
    extra = {"compound_prompt_projections.0.weight": torch.zeros(2, 2)}
    network.prompt_learner.load_released(state | extra, "released", network.clip)
