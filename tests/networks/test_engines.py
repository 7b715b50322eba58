from __future__ import annotations

from typing import Any

import pytest
import torch

from monai_zsad.errors import ConfigurationError
from monai_zsad.networks import OpenVINONetwork, with_engine
from tests.networks.test_contract import slices
from tests.networks.zoo import BFLOAT16_BOUND, IMAGE_SIZE, NETWORKS, crane, rounding

openvino = pytest.importorskip("openvino")


@pytest.fixture(params=["crane", "crane_plus", "aaclip", "anoclip"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_openvino_gives_the_same_maps_at_any_size_and_batch(name: str) -> None:
    network: Any = NETWORKS[name]()
    compiled = with_engine(network, "openvino")
    assert isinstance(compiled, OpenVINONetwork)
    assert (compiled.image_size, compiled.patch_size) == (IMAGE_SIZE, 14)
    with torch.no_grad():
        for batch in (slices(3), slices(1, 40), slices(2, 70, channels=3)):
            torch.testing.assert_close(compiled(batch), network(batch), atol=3 * rounding(name), rtol=0)


def test_openvino_in_bfloat16() -> None:
    network = crane()
    with torch.no_grad():
        expected = network(slices())
    found = with_engine(network, "openvino", "bfloat16")(slices())
    assert (found - expected).abs().max() < BFLOAT16_BOUND
    assert network.describe()["engine"] == "openvino"
    assert network.describe()["precision"] == "bfloat16"


def test_torch_engine_sets_the_precision() -> None:
    network: Any = with_engine(crane(), "torch", "bfloat16")
    assert network.clip.vision_dtype == torch.bfloat16
    assert (network.describe()["engine"], network.describe()["precision"]) == ("torch", "bfloat16")
    assert network.text_anchors.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tensorrt",), "engine='tensorrt' is unknown"),
        (("torch", "int8"), "precision='int8'"),
        (("openvino", "int8"), "precision='int8'"),
        (("openvino", "float32", "cuda"), "add --device cpu"),
    ],
)
def test_bad_choices(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        with_engine(crane(), *arguments)


def test_conditioned_prompts_are_refused_by_openvino() -> None:
    with pytest.raises(ConfigurationError, match="text tower"):
        with_engine(crane(image_conditioned=True), "openvino")
