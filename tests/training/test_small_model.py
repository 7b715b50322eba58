"""From a training's best epoch to the file that inference loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.engines import SupervisedTrainer

from monai_zsad.errors import WeightsError
from monai_zsad.training.concepts import ConceptTraining
from monai_zsad.training.small_model import ClipGradients, export_model
from monai_zsad.workflow.bundles import load_weights
from tests.networks.small import SLICES, small_network, small_training

PARTS = {"model": None}


def best_epoch() -> ConceptTraining:
    training = small_training(4)
    with torch.no_grad():
        training(SLICES, 0)  # so that the batch norms know the data
    return training.eval()


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Folder of a training."""
    torch.save({"network": best_epoch().state_dict()}, tmp_path / "best_network.pth")
    return tmp_path


@torch.no_grad()
def test_inference_loads_what_is_exported(trained: Path, tmp_path: Path) -> None:
    training = small_training(5).eval()  # a later epoch, not the best
    later = training(SLICES)
    path = export_model(training, trained, tmp_path / "models.pt", name="small")
    assert path == tmp_path / "models.pt"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best_network.pth", "models.json", "models.pt"]
    state = torch.load(path, weights_only=True)
    network = small_network()
    parameters = dict(network.named_parameters())
    assert {state[key].dtype for key in parameters if key in state} == {torch.float16}
    assert torch.float16 not in {value.dtype for key, value in state.items() if key not in parameters}
    assert "calibration" not in json.loads((tmp_path / "models.json").read_text())

    records = load_weights(network, PARTS, PARTS, path)
    assert list(records) == ["network"]
    assert (records["network"].name, records["network"].licence) == ("small", "Apache-2.0")
    assert not network.meaningless
    assert network.clip.visual.head.weight.dtype == torch.float32
    best = best_epoch()(SLICES)
    assert best[:, 0].std() > 1e-3
    assert (network(SLICES) - best).abs().max() < 2e-2
    assert (later - best).abs().max() > 5e-2
    # The training itself goes on with the best epoch in full precision.
    torch.testing.assert_close(training.network(SLICES), best)


def test_the_calibration_travels_with_the_weights(trained: Path, tmp_path: Path) -> None:
    images = torch.rand(12, 3, *SLICES.shape[-2:], generator=torch.Generator().manual_seed(1))
    slices: dict[str, Any] = {
        "tumours": (images[:4], np.repeat([4, 9], 2)),
        "normal": images[4:8],
        "known": images,
        "least_pixels": 1,
    }
    path = export_model(small_training(5).eval(), trained, tmp_path / "model.pt", calibration=lambda: slices)
    record = json.loads((tmp_path / "model.json").read_text())["calibration"]
    network = small_network()
    load_weights(network, PARTS, PARTS, path)
    score = record["score"]
    assert network.calibration[1].tolist() == pytest.approx([score["scale"], score["offset"]])
    assert float(network.known_limit) == pytest.approx(record["known"]["limit"])
    assert network.known_basis.any()


def test_a_damaged_file_is_told(trained: Path) -> None:
    path = export_model(small_training(4), trained, trained / "model.pt")
    description = json.loads((trained / "model.json").read_text())
    description["sha256"] = "0" * 64
    (trained / "model.json").write_text(json.dumps(description))
    with pytest.raises(WeightsError, match="damaged"):
        load_weights(small_network(), PARTS, PARTS, path)


def test_without_a_best_epoch(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"best_network\.pth is missing"):
        export_model(small_training(), tmp_path, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("norm", "parts"), [(0.5, 1), (0.5, 2), (1e6, 1)])
def test_gradients_are_bounded_before_the_step(norm: float, parts: int) -> None:
    network = torch.nn.Linear(4, 1)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    # A second part with the opposite gradient: the sum is bounded, not each part.
    data = [{"image": 100 * torch.ones(2, 4), "label": torch.zeros(2, 1) + sign * 1e3} for sign in (0, 1)[:parts]]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=data,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=torch.nn.MSELoss(),
        train_handlers=[ClipGradients(network, norm)],
        accumulation_steps=parts,
        decollate=False,
    )
    trainer.run()
    moved = torch.cat([(new - old).flatten() for new, old in zip(network.parameters(), before, strict=True)]).norm()
    if norm == 0.5:
        assert float(moved) == pytest.approx(0.5, rel=1e-4)
    else:
        assert float(moved) > 1
