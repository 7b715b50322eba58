"""Training of the included model: the parts that MONAI's trainer lacks."""

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
    """Handler that bounds the norm of all gradients before an optimizer's step; MONAI's trainers have no such option.

    Args:
        network: whose gradients.
        norm: largest norm.
    """

    def __init__(self, network: torch.nn.Module, norm: float) -> None:
        self.network = network
        self.norm = norm

    def attach(self, engine: Engine) -> None:
        """Register the handler with a trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Bound the gradients."""
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
    """Write the best epoch as a file that the bundle's inference loads, with its description beside it.

    Parameters are kept in half precision: half the size, and maps that differ by less than they do between machines.
    With ``average`` they are the means of the best epoch's and the last ones', as in model soups (Wortsman et al., ICML
    2022): random errors of the two partly cancel.

    Args:
        training: the network that was trained, with its last weights; takes over those that are written.
        output_dir: of the training.
        target: file to write.
        average: see above.
        name: of the weights, in reports.

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
