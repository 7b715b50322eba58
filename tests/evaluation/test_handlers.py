"""What an evaluation puts into a bundle's evaluator."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Compose, Identityd, Invertd
from torch import nn

from monai_zsad.errors import ConfigurationError
from monai_zsad.evaluation.handlers import before_writing, scored_network
from monai_zsad.evaluation.protocols import known_protocols
from monai_zsad.networks import AACLIP, Crane
from monai_zsad.writers import SaveScoresd
from tests.networks.zoo import ARCHITECTURE, IMAGE_SIZE


def test_the_map_before_it_is_squeezed_into_a_probability() -> None:
    network = AACLIP(ARCHITECTURE, IMAGE_SIZE)
    network.load_weights(clip="seed:0", image_adapter="seed:0", text_adapter="seed:0")
    slices = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    raw = scored_network(network, network, known_protocols()["aaclip-medical"])
    with torch.no_grad():
        found, plain = raw(slices), network(slices)
        details = network.predict(network.normalize(slices)).details
    torch.testing.assert_close(found[:, 0], details["amap"])
    torch.testing.assert_close(found[:, 1], plain[:, 1])
    assert not torch.allclose(found[:, 0], plain[:, 0])
    # The network's own map is a monotone function of it.
    torch.testing.assert_close(torch.sigmoid(2 * found[:, 0] / len(network.levels) - 1), plain[:, 0])


def test_other_protocols_leave_the_network_as_it_is() -> None:
    network = Crane(ARCHITECTURE, IMAGE_SIZE)
    engine = nn.Identity()
    assert scored_network(engine, network, known_protocols()["crane"]) is engine
    with pytest.raises(ConfigurationError, match="leave --runtime at torch"):
        scored_network(engine, network, known_protocols()["aaclip-medical"])


def test_what_writes_is_left_out() -> None:
    first, last = Identityd("pred"), Identityd("pred")
    back = Invertd("pred", Compose([]), "image")
    assert before_writing(Compose([first, SaveScoresd("pred"), back, last])) == [first, back]
