"""The suite that every network passes: the contract towards MONAI, purity, precision, state, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers import SliceInferer, SlidingWindowInferer

from monai_zsad.errors import ConfigurationError
from monai_zsad.networks import ZeroShotNetwork
from tests.networks.zoo import BFLOAT16_BOUND, BFLOAT16_TEXT_BOUND, IMAGE_SIZE, NETWORKS, rounding

NOT_EXPORTED = {"anoclip_adapted": "the adapter is trained slice by slice at run time: no fixed graph"}


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(name: str) -> ZeroShotNetwork:
    return NETWORKS[name]()


def slices(batch: int = 3, size: int = IMAGE_SIZE, channels: int = 1) -> torch.Tensor:
    return torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(("height", "width", "channels"), [(56, 56, 1), (40, 40, 3), (100, 90, 1)])
def test_shape_range_and_constant_score(network: ZeroShotNetwork, height: int, width: int, channels: int) -> None:
    with torch.no_grad():
        out = network(torch.rand(2, channels, height, width))
    assert out.shape == (2, 2, height, width)
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()
    assert out.min() >= 0
    assert out.max() <= 1
    assert out[0, 0].std() > 0
    assert torch.equal(out[:, 1], out[:, 1, :1, :1].expand(-1, height, width))
    out.fill_(2)  # a fresh tensor: writing must work and reach every pixel
    assert out.eq(2).all()


def test_a_slice_alone_equals_the_slice_in_a_batch(name: str, network: ZeroShotNetwork) -> None:
    batch = slices()
    batch[1] = 0  # a neighbour that looks different must not matter
    with torch.no_grad():
        together = network(batch)
        alone = torch.cat([network(batch[i : i + 1]) for i in range(len(batch))])
    torch.testing.assert_close(together, alone, atol=rounding(name), rtol=0)


def test_input_untouched_and_calls_equal(network: ZeroShotNetwork) -> None:
    batch = slices()
    before = batch.clone()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        first, second = network(batch), network(batch)
    assert torch.equal(batch, before)
    assert torch.equal(first, second)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("how", ["set_precision", "autocast", "to"])
def test_bfloat16(name: str, how: str) -> None:
    network = NETWORKS[name]()
    batch = slices()
    with torch.no_grad():
        exact = network(batch)
        if how == "autocast":
            with torch.autocast("cpu", torch.bfloat16):
                low = network(batch)
        else:
            network.set_precision(torch.bfloat16) if how == "set_precision" else network.to(torch.bfloat16)
            low = network(batch)
    assert low.dtype == torch.float32
    text_too = how == "to" and name == "crane_conditioned"
    assert 0 < (low - exact).abs().max() < (BFLOAT16_TEXT_BOUND if text_too else BFLOAT16_BOUND)


def test_state_dict_round_trip(name: str, network: ZeroShotNetwork, tmp_path: Path) -> None:
    torch.save(network.portable_state_dict(), tmp_path / "model.pt")
    other = NETWORKS[name]()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        other.text_anchors.fill_(0.5)
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    with torch.no_grad():
        assert torch.equal(other(slices()), network(slices()))


def test_export(name: str, network: ZeroShotNetwork) -> None:
    if name in NOT_EXPORTED:
        pytest.skip(NOT_EXPORTED[name])
    batch = slices(size=48)
    batch_size = torch.export.Dim("batch", min=1, max=16)
    with torch.no_grad():
        program = torch.export.export(network, (slices(2, 48),), dynamic_shapes=({0: batch_size},))
        torch.testing.assert_close(program.module()(batch), network(batch), atol=rounding(name), rtol=0)


def test_onnx(name: str, network: ZeroShotNetwork, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if name in NOT_EXPORTED:
        pytest.skip(NOT_EXPORTED[name])
    if name == "crane_conditioned":
        pytest.skip("image-conditioned prompts need the text tower at run time; exports fold the anchors in")
    batch = slices(2, 48)
    path = tmp_path / "network.onnx"
    torch.onnx.export(network, (batch,), path, dynamo=True, verbose=False, input_names=["image"], output_names=["pred"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (pred,) = session.run(None, {"image": batch.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(pred, network(batch).numpy(), atol=3 * rounding(name), rtol=0)
    vocabulary = network.clip.token_embedding.weight
    vision = (
        sum(p.nbytes for p in network.parameters())
        - sum(p.nbytes for p in network.clip.transformer.parameters())
        - vocabulary.nbytes
    )
    assert path.stat().st_size < vision * 1.2 + 1e6, "the text tower went along"


def test_monai_inferers(name: str, network: ZeroShotNetwork) -> None:
    volume = torch.rand(1, 1, 60, 60, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = torch.stack([network(volume[..., i]) for i in range(3)], dim=-1)
        whole = SliceInferer(roi_size=(60, 60), spatial_dim=2)(volume, network)
        windows = SlidingWindowInferer(roi_size=(40, 40), sw_batch_size=2, overlap=0.5)(volume[..., 0], network)
    torch.testing.assert_close(whole, expected, atol=rounding(name), rtol=0)
    assert windows.shape == (1, 2, 60, 60)
    assert torch.isfinite(windows).all()


def test_without_weights_the_output_is_nan_not_a_result(name: str, network: ZeroShotNetwork) -> None:
    if name == "crane_conditioned":
        pytest.skip("computes its anchors in the forward pass")
    untrained = type(network)(network.clip.architecture_config, IMAGE_SIZE, **_prior(network))
    with torch.no_grad():
        assert untrained(slices()).isnan().all()


def _prior(network: ZeroShotNetwork) -> dict[str, Any]:
    prior = getattr(network, "prior", None)
    return {} if prior is None else {"prior": prior}


def test_seeded_weights_are_marked(network: ZeroShotNetwork) -> None:
    assert network.meaningless
    assert {record.name for record in network.records.values()} <= {"seed:0", "seed:1"}


@pytest.mark.parametrize("shape", [(2, 2, 56, 56), (1, 56, 56), (1, 1, 56, 56, 3)])
def test_wrong_shapes_are_named(network: ZeroShotNetwork, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match="1 or 3 channels"):
        network(torch.zeros(shape))
