"""A screening bundle's own pipeline on single scans and slices, for benchmarks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch, list_data_collate

from monai_zsad.prompts import PromptEnsemble
from monai_zsad.training.concepts import ConceptTraining
from monai_zsad.training.small_model import export_model
from monai_zsad.workflow.bundles import build_network, load_weights, read_bundle, released_weights

WRITERS = "monai_zsad.writers"
TRAINED = "best_network.pth"


class Screened(NamedTuple):
    """A scan and its map.

    Attributes:
        scan: (1, X, Y, Z) as it was loaded, RAS affine.
        anomaly: (X, Y, Z), on the scan's grid.
        slice_scores: the network's score of each slice of the scan's own third axis that was run.
    """

    scan: MetaTensor
    anomaly: np.ndarray
    slice_scores: dict[int, float]


class Pipeline:
    """Preprocessing, network, inferer and postprocessing as ``inference.yaml`` has them, without what writes files.

    Args:
        bundle: its folder.
        weights: file of a state dict, or ``"seed:N"``; None: what comes with the bundle.
    """

    def __init__(self, bundle: Path, weights: str | None = None) -> None:
        # Writers are built with the postprocessing and never called.
        overrides: dict[str, Any] = {"bundle_root": str(bundle), "output_dir": tempfile.gettempdir(), "progress": False}
        overrides |= {"device": "cpu"} | ({} if weights is None else {"weights#model": weights})
        parser = read_bundle(bundle, overrides)
        self.network = build_network(parser, bundle)
        sources, checkpoint = (parser.get_parsed_content(key) for key in ("weights", "checkpoint"))
        load_weights(self.network, sources, released_weights(parser), checkpoint)
        self.prompt_set: str = parser.get_parsed_content("prompt_set")
        self.preprocessing = parser.get_parsed_content("preprocessing")
        self.inferer = parser.get_parsed_content("inferer")
        self.steps = [
            step
            for step in parser.get_parsed_content("postprocessing").transforms
            if not type(step).__module__.startswith(WRITERS)
        ]

    def ask(self, **words: Any) -> None:
        """Look for what the words of :meth:`PromptEnsemble.named` say; without words for anything."""
        network: Any = self.network
        network.prompts = PromptEnsemble.named(self.prompt_set, **words)
        network.update_text_anchors()

    def screen(self, record: Mapping[str, Any]) -> Screened:
        """Run a record of :func:`monai_zsad.data.find_scans`."""
        scan = self.preprocessing.transforms[0](dict(record))["image"]
        batch = list_data_collate([self.preprocessing(dict(record))])
        with torch.no_grad():
            batch["pred"] = self.inferer(batch["image"], self.network)
        (data,) = decollate_batch(batch)
        for step in self.steps:
            data = step(data)
        scores = {entry["slice"]: entry["score"] for entry in data["slice_scores"] if entry["scored"]}
        return Screened(scan, data["pred"].as_tensor()[0].float().numpy(), scores)

    def maps(self, slices: torch.Tensor) -> np.ndarray:
        """Maps (N, S, S) of prepared slices (N, C, S, S)."""
        with torch.no_grad():
            return torch.cat([self.network(part)[:, 0] for part in slices.split(8)]).numpy()


def model_file(bundle: Path, checkpoint: str | None, folder: Path) -> str | None:
    """What :class:`Pipeline` loads: of a training's best epoch, the model that would be exported from it."""
    if checkpoint is None or Path(checkpoint).name != TRAINED:
        return checkpoint
    network: Any = build_network(read_bundle(bundle, {"bundle_root": str(bundle)}), bundle)
    return str(export_model(ConceptTraining(network), Path(checkpoint).parent, folder / "model.pt"))


def training_config(bundle: Path, data: Path, **values: Any) -> ConfigParser:
    """``train.yaml`` laid over ``inference.yaml``, with other values by id."""
    parser = ConfigParser()
    parser.read_config([str(bundle / "configs" / name) for name in ("inference.yaml", "train.yaml")])
    for key, value in ({"bundle_root": str(bundle), "dataset_dir": str(data)} | values).items():
        parser[key] = value
    return parser
