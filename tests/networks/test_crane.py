from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.networks import Crane, CranePlus
from monai_zsad.networks.crane import dense_prior_attention
from tests.networks.zoo import ARCHITECTURE, IMAGE_SIZE, crane
from tests.parity import main


def test_parity_command_fails_on_other_numbers(shared, tmp_path, capsys) -> None:
    import numpy as np

    with np.load(shared / "golden" / "crane_mini.npz") as archive:
        arrays = dict(archive)
    arrays["score"] = arrays["score"] * 1.001
    np.savez(tmp_path / "changed.npz", **arrays)
    assert main([str(tmp_path / "changed.npz")]) == 1
    out = capsys.readouterr().out
    assert "TOO LARGE" in out
    assert out.count(" ok") == len(arrays) - 2


def test_dense_layers_differ_from_the_released_aliasing() -> None:
    images = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        released = crane().predict(images).details["patch"]
        real = crane(dense_layers=(2, 3, 4)).predict(images).details["patch"]
    assert released.shape[0] == 1
    assert real.shape[0] == 3
    assert torch.equal(real[2], released[0])
    assert not torch.allclose(real[0], real[2], atol=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "qkv"}, r"attention='qkv'.*qq\+kk\+vv"),
        ({"average": "mean"}, "average='mean'.*'probabilities'"),
        ({"dense_layers": (1, 4)}, "block numbers from 2 to 4"),
        ({"dense_layers": "paper"}, "give 'released'"),
        ({"image_size": 60}, "not a multiple of the patch size 14.*56 or 70"),
        ({"activation": "relu"}, "activation='relu'"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Crane(ARCHITECTURE, **({"image_size": IMAGE_SIZE, "path_blocks": 3} | options))


def test_conditioning_needs_equal_widths() -> None:
    with pytest.raises(ConfigurationError, match="as wide as its text tower"):
        Crane(ARCHITECTURE | {"embed_dim": 32}, IMAGE_SIZE, image_conditioned=True)


def test_prompts_of_another_width_are_refused(shared) -> None:
    path = shared / "checkpoints" / "crane" / "trained_on_mvtec_crane" / "epoch_5.pth"
    with pytest.raises(WeightsError, match="another CLIP architecture"):
        Crane(ARCHITECTURE, IMAGE_SIZE).load_weights(clip="seed:0", prompts=path)


def test_prompts_trained_on_other_clip_weights_are_reported(caplog) -> None:
    network = crane()
    state = {key: value.clone() for key, value in network.prompt_learner.state_dict().items()}
    with caplog.at_level(logging.WARNING):
        network.prompt_learner.load_released(state, "same", network.clip)
    assert not caplog.records
    network.clip.load_weights("seed:1")
    with caplog.at_level(logging.WARNING):
        network.prompt_learner.load_released(state, "other", network.clip)
    assert "other was trained with other CLIP weights" in caplog.text


def test_prior_resized_to_another_grid() -> None:
    class Coarse(torch.nn.Module):
        similarity_offset = 1.2

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.adaptive_avg_pool2d(pictures, (3, 3))

        def load_weights(self, source: Any, *, download: bool = True) -> Any:
            return None

    network = CranePlus(ARCHITECTURE, IMAGE_SIZE, prior=Coarse())
    network.load_weights(clip="seed:0", prompts="seed:0", prior="seed:0")
    with torch.no_grad():
        assert torch.isfinite(network(torch.rand(2, 1, 56, 56))).all()


def test_dense_prior_attention_against_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    prior = torch.randn(2, 8, 30, 30, generator=generator) + 0.3
    values = torch.randn(2, 900, 5, generator=generator)
    d = torch.nn.functional.normalize(prior.flatten(2).transpose(1, 2), dim=-1)
    s = d @ d.transpose(1, 2)
    s = 3 * (s - 1.2 * s.mean((1, 2), keepdim=True))
    expected = torch.softmax(s.masked_fill(s < 0, -torch.inf), -1) @ values
    torch.testing.assert_close(dense_prior_attention(prior, values, 1.2), expected, atol=1e-5, rtol=1e-4)


def test_dense_prior_attention_of_a_uniform_picture_keeps_the_values() -> None:
    values = torch.randn(1, 16, 3)
    out = dense_prior_attention(torch.ones(1, 4, 4, 4), values, 1.2)
    torch.testing.assert_close(out, values)
