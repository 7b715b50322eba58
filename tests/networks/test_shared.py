"""Several networks in one pass: the numbers of each network by itself, and who may share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.inferers import SliceInferer, SlidingWindowInferer
from torch import nn

from monai_zsad.errors import ConfigurationError
from monai_zsad.inferers import VolumeSliceInferer
from monai_zsad.networks import AnomalyCLIP, Crane, SharedNetworks, ZeroShotNetwork
from monai_zsad.networks.shared import same_vision
from tests.networks.test_contract import slices
from tests.networks.zoo import ARCHITECTURE, IMAGE_SIZE, NETWORKS, anomalyclip, crane, rounding

VOLUME = torch.rand(1, 1, 60, 50, 7, generator=torch.Generator().manual_seed(1))
VOLUME[..., 2] = 0


@pytest.fixture(scope="module")
def networks() -> dict[str, ZeroShotNetwork]:
    return {name: build() for name, build in NETWORKS.items()}


@pytest.fixture(scope="module")
def together(networks: dict[str, ZeroShotNetwork]) -> SharedNetworks:
    return SharedNetworks(networks)


def test_who_shares(together: SharedNetworks) -> None:
    assert together.groups == (
        (
            "crane",
            "crane_layers",
            "crane_logits",
            "crane_conditioned",
            "crane_plus",
            "crane_plus_logits",
            "anomalyclip",
        ),
        ("aaclip",),
        ("aaclip_relu",),
        ("anoclip", "anoclip_adapted", "anoclip_views"),
    )


@torch.no_grad()
def test_every_network_gives_what_it_gives_alone(
    networks: dict[str, ZeroShotNetwork], together: SharedNetworks
) -> None:
    batch = slices(3, 48)
    found = together(batch)
    assert list(found) == list(networks)
    for name, network in networks.items():
        torch.testing.assert_close(found[name], network(batch), atol=rounding(name), rtol=0)
    details = together.predict(batch)
    for name, network in networks.items():
        expected = network.predict(network.normalize(network.resize(batch))).details
        assert details[name].details.keys() == expected.keys()


@torch.no_grad()
def test_the_backbone_runs_once_for_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = {"crane": crane(), "anomalyclip": anomalyclip()}
    passes = []
    for name, network in pair.items():
        conv = network.clip.visual.conv1
        conv.register_forward_hook(lambda *_, name=name: passes.append(name))
    SharedNetworks(pair)(slices())
    assert passes == ["crane"]


@pytest.mark.parametrize(
    "change",
    [
        lambda: Crane(ARCHITECTURE, 70),
        lambda: Crane(ARCHITECTURE, IMAGE_SIZE, activation="gelu"),
        lambda: seeded(Crane(ARCHITECTURE, IMAGE_SIZE), "seed:1"),
        lambda: precise(crane()),
        lambda: Crane(ARCHITECTURE | {"vision_cfg": ARCHITECTURE["vision_cfg"] | {"layers": 3}}, IMAGE_SIZE),
    ],
    ids=["size", "activation", "weights", "precision", "architecture"],
)
def test_another_backbone_is_not_shared(change: Any) -> None:
    other = change()
    assert not same_vision(crane().clip, other.clip)
    assert SharedNetworks({"a": crane(), "b": other}).groups == (("a",), ("b",))


def seeded(network: Crane, clip: str) -> Crane:
    network.load_weights(clip=clip, prompts="seed:0")
    return network


def precise(network: Crane) -> Crane:
    network.set_precision("bfloat16")
    return network


@pytest.mark.parametrize(
    "inferer",
    [
        VolumeSliceInferer(batch_size=3),
        VolumeSliceInferer(batch_size=2, planes=["axial", "coronal"], smooth_slices_mm=2.0),
        VolumeSliceInferer(batch_size=4, roi_size=32),
        VolumeSliceInferer(batch_size=2, token_spacing_mm=9.0),
        SliceInferer(roi_size=(60, 50), sw_batch_size=2, spatial_dim=2),
        SliceInferer(roi_size=(40, 40), sw_batch_size=2, spatial_dim=2, overlap=0.5),
    ],
    ids=["slices", "planes", "windows", "tokens", "monai", "monai windows"],
)
@torch.no_grad()
def test_volumes_through_an_inferer(inferer: Any) -> None:
    trio = {"crane": crane(), "anomalyclip": anomalyclip(), "aaclip": NETWORKS["aaclip"]()}
    found = SharedNetworks(trio).infer(lambda name, network: inferer(VOLUME, network))
    for name, network in trio.items():
        # MONAI's windows weigh sums of many small parts.
        torch.testing.assert_close(found[name], inferer(VOLUME, network), atol=4 * rounding(name), rtol=0)
    assert not torch.equal(found["crane"], found["anomalyclip"])


def test_an_inferer_that_asks_for_something_else_is_told() -> None:
    pair: dict[str, ZeroShotNetwork] = {"crane": crane(), "anomalyclip": anomalyclip()}
    sizes = iter([(40, 40), (30, 30)])

    def restless(name: str, network: nn.Module) -> torch.Tensor:
        side = next(sizes)[0]
        return SlidingWindowInferer((side, side))(VOLUME[..., 0], network)

    with torch.no_grad(), pytest.raises(ConfigurationError, match="other slices"):
        SharedNetworks(pair).infer(restless)


def test_no_network_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="networks is empty"):
        SharedNetworks({})


def test_untrained_networks_stay_nan() -> None:
    untrained = {"crane": Crane(ARCHITECTURE, IMAGE_SIZE), "anomalyclip": AnomalyCLIP(ARCHITECTURE, IMAGE_SIZE)}
    with torch.no_grad():
        assert all(pred.isnan().all() for pred in SharedNetworks(untrained)(slices()).values())
