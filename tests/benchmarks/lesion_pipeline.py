"""A screening bundle's own pipeline on single scans and slices, for benchmarks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate

from monai_zsad.prompts import PromptEnsemble
from monai_zsad.workflow.bundles import build_network, load_weights, read_bundle, released_weights

WRITERS = "monai_zsad.writers"
# General prompts look for anything. They are what a NIfTI file gets without options.
GENERAL: dict[str, Any] = {}
# A slice is unfamiliar above this value of the network's third channel.
UNFAMILIAR = 1.0


class Screened(NamedTuple):
    """A scan and its map.

    Attributes:
        scan: (1, X, Y, Z) as it was loaded, RAS affine.
        anomaly: (X, Y, Z), on the scan's grid.
        slice_scores: the network's score of each slice of the scan's own third axis that was run.
        unfamiliar: whether each of these slices is unfamiliar; empty if the network does not tell.
    """

    scan: MetaTensor
    anomaly: np.ndarray
    slice_scores: dict[int, float]
    unfamiliar: dict[int, bool]


class SliceMaps(NamedTuple):
    """Maps of single slices.

    Attributes:
        anomaly: (N, H, W).
        scores: (N,), the network's own.
        unfamiliar: (N,) of bool; empty if the network does not tell.
    """

    anomaly: np.ndarray
    scores: np.ndarray
    unfamiliar: np.ndarray


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
        self.weights_file = Path(sources["model"] or checkpoint)
        self.prompt_set: str = parser.get_parsed_content("prompt_set")
        self.min_volume_mm3: float = parser.get_parsed_content("min_volume_mm3")
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
        flags = batch["pred"][0, 2:].amax((1, 2)).tolist()
        (data,) = decollate_batch(batch)
        for step in self.steps:
            data = step(data)
        entries = [(place, entry) for place, entry in enumerate(data["slice_scores"]) if entry["scored"]]
        scores = {entry["slice"]: entry["score"] for _, entry in entries}
        unfamiliar = {entry["slice"]: flags[0][place] > UNFAMILIAR for place, entry in entries if flags}
        return Screened(scan, data["pred"].as_tensor()[0].float().numpy(), scores, unfamiliar)

    def slices(self, images: torch.Tensor) -> SliceMaps:
        """Run slices (N, C, H, W) in [0, 1] through the network alone."""
        with torch.no_grad():
            parts = [self.network(part) for part in images.split(8)]
        values = torch.cat([part[:, 1:, 0, 0] for part in parts]).numpy()
        maps = torch.cat([part[:, 0] for part in parts]).numpy()
        return SliceMaps(maps, values[:, 0], values[:, 1:].ravel() > UNFAMILIAR)
