"""The evaluator of a benchmark set, and what a bundle gives to it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, Identityd, Invertd, Lambdad
from torch import nn

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.evaluation.evaluator import (
    BenchmarkEvaluator,
    IsolatedCases,
    before_writing,
    collate_cases,
    scored_network,
)
from monai_zsad.evaluation.protocols import known_protocols
from monai_zsad.networks import AACLIP, Crane
from monai_zsad.writers import SaveScoresd
from tests.networks.zoo import ARCHITECTURE, IMAGE_SIZE


def refuse_two(value: Any) -> Any:
    if value.max() == 2:
        raise InputError("two is refused; give another number")
    return value


@pytest.mark.parametrize("as_before", [False, True], ids=["evaluator", "iteration_update"])
def test_only_the_failed_case_of_a_batch_is_lost(as_before: bool, tmp_path: Path) -> None:
    """Both in the evaluator and in the ``iteration_update`` of bundles that were copied earlier."""
    run: Any = SimpleNamespace(output_dir=tmp_path, kept=set())
    items = [{"case": str(n), "image": torch.full((1, 2), float(n)), "label": 0} for n in range(4)]
    loader = DataLoader([*items, {"case": "4", "error": "is empty"}], batch_size=5, collate_fn=collate_cases)
    options: dict[str, Any] = {
        "device": torch.device("cpu"),
        "val_data_loader": loader,
        "network": nn.Identity(),
        "postprocessing": Compose([Lambdad("pred", refuse_two)]),
    }
    if as_before:
        evaluator = SupervisedEvaluator(**options, iteration_update=IsolatedCases(run))
    else:
        evaluator = BenchmarkEvaluator(**options, evaluation=run)
    evaluator.run()
    failed = [output["case"] for output in evaluator.state.output if output.get("status") == "failed"]
    kept = [float(output["pred"].max()) for output in evaluator.state.output if "pred" in output]
    assert (failed, kept) == (["4", "2"], [0, 1, 3])


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


def test_writers_are_left_out() -> None:
    first, last = Identityd("pred"), Identityd("pred")
    back = Invertd("pred", Compose([]), "image")
    assert before_writing(Compose([first, SaveScoresd("pred"), back, last])) == [first, back]
