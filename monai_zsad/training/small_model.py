"""Parts for the training of the included model that MONAI's trainer does not have."""

from __future__ import annotations

import json
import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from monai_zsad.backbones.weights import sha256_of
from monai_zsad.errors import WeightsError
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
        """Clip the gradients."""
        del engine
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.norm)


def export_model(
    training: ConceptTraining,
    output_dir: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    average: bool = False,
    name: str = "tiny_screening",
) -> Path:
    """Write the weights of the best epoch for the bundle's inference, with a description beside them.

    Parameters are stored in half precision. This halves the file and changes maps less than another machine does.
    With ``average``, parameters are the mean of the best and the last epoch, as in model soups (Wortsman et al., ICML
    2022). Random errors of the two epochs then partly cancel out.

    Args:
        training: the trained network with the weights of the last epoch. It gets the weights that are written.
        output_dir: output folder of the training.
        target: file to write.
        average: whether to average the best and the last epoch.
        name: name of the weights in reports.

    Raises:
        WeightsError: the training has no best epoch, or its file is damaged.
    """
    best = Path(output_dir).expanduser() / "best_network.pth"
    if not best.is_file():
        raise WeightsError(f"{best} is missing: the training has no validated epoch yet")
    try:
        state = torch.load(best, map_location="cpu", weights_only=True)["network"]
    except (OSError, RuntimeError, LookupError, ValueError, EOFError, TypeError, UnpicklingError) as error:
        raise WeightsError(f"{best} is damaged or not a checkpoint of a training: train again") from error
    if average:
        last = training.state_dict()
        state = {k: (v + last[k].to(v)) / 2 if v.is_floating_point() else last[k] for k, v in state.items()}
    training.load_state_dict(state)
    network = training.network
    network.update_text_anchors()
    parameters = dict(network.named_parameters())
    written = {k: v.half() if k in parameters else v for k, v in network.portable_state_dict().items()}
    path = Path(target).expanduser()
    with atomic_path(path.with_suffix(".json")) as description, atomic_path(path) as file:
        save_state(written, file, path)
        record = {
            "name": name,
            "sha256": sha256_of(best),
            "licence": "Apache-2.0",
            "activation": network.clip.activation,
            "seed": None,
        }
        content = {"sha256": sha256_of(file), "weights": {"network": record}}
        description.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path
