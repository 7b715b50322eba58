"""Parts for the training of the included model that MONAI's trainer does not have."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from monai_zsad.backbones.weights import sha256_of
from monai_zsad.errors import WeightsError
from monai_zsad.training.calibrating import fit_calibration
from monai_zsad.training.concepts import ConceptTraining
from monai_zsad.workflow.bundles import save_state
from monai_zsad.writers import atomic_path

__all__ = ["ClipGradients", "export_model"]


class ClipGradients:
    """Handler that clips the norm of all gradients before a step of the optimizer. MONAI's trainers cannot do this.

    Args:
        network: the network that is trained.
        norm: largest norm of its gradients.
    """

    def __init__(self, network: torch.nn.Module, norm: float) -> None:
        self.network = network
        self.norm = norm

    def attach(self, engine: Engine) -> None:
        """Register the handler with a trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Clip the gradients, once all batches of a step have added theirs."""
        if engine.state.iteration % engine.accumulation_steps == 0:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.norm)


def export_model(
    training: ConceptTraining,
    output_dir: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    calibration: Callable[[], Mapping[str, Any]] | None = None,
    name: str = "tiny_screening",
) -> Path:
    """Write the weights of the best epoch for the bundle's inference, with a description beside them.

    Parameters are stored in half precision, which halves the file.

    Args:
        training: the trained network. It gets the weights of the best epoch.
        output_dir: output folder of the training.
        target: file to write.
        calibration: gives the slices for :func:`~monai_zsad.training.calibrating.fit_calibration`. Its record becomes
            ``calibration`` in the description. Without it, the file has the values that the network had.
        name: name of the weights in reports.

    Raises:
        WeightsError: the training has no best epoch, or its file is damaged.
    """
    best = Path(output_dir).expanduser() / "best_network.pth"
    if not best.is_file():
        raise WeightsError(f"{best} is missing: the training has no validated epoch yet")
    try:
        state = torch.load(best, map_location="cpu", weights_only=True)["network"]
        training.load_state_dict(state)
    except (OSError, RuntimeError, LookupError, ValueError, EOFError, TypeError, UnpicklingError) as error:
        raise WeightsError(f"{best} is damaged or not a checkpoint of this training: train again") from error
    network = training.network
    network.update_text_anchors()
    record = {} if calibration is None else {"calibration": fit_calibration(network, **calibration())}
    parameters = dict(network.named_parameters())
    written = {k: v.half() if k in parameters else v for k, v in network.portable_state_dict().items()}
    source = {
        "name": name,
        "sha256": sha256_of(best),
        "licence": "Apache-2.0",
        "activation": network.clip.activation,
        "seed": None,
    }
    path = Path(target).expanduser()
    with atomic_path(path.with_suffix(".json")) as description, atomic_path(path) as file:
        save_state(written, file, path)
        content = {"sha256": sha256_of(file), "weights": {"network": source}, **record}
        description.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path
