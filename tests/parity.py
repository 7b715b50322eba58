"""Compare this project's networks with golden files of the authors' programs.

``python -m tests.parity FILE.npz [FILE.npz ...] [--checkpoints DIR]`` rebuilds weights, images and options from each
file's ``meta``, runs the network and prints the largest error of every array relative to its largest magnitude.
Exit status 0 if all are within the bound. ``seeded_clip.py``, which makes weights and images, is looked for beside the
file and then in the development data (see ``tests/conftest.py``); it needs no network access.

A method joins by one function in :data:`METHODS`: meta and context in, arrays by their golden names out.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from monai_zsad.backbones import CLIPBackbone
from monai_zsad.networks import Crane, CranePlus
from tests.conftest import shared_folder

BOUND = 2e-5
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Context:
    """Where a golden file's weights and images come from."""

    seeded: ModuleType
    checkpoints: Path

    def architecture(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        shape = self.seeded.SHAPES[meta["shape"]]
        return {
            "embed_dim": shape.embed_dim,
            "vision_cfg": {
                "image_size": shape.image_size,
                "layers": shape.vision_layers,
                "width": shape.vision_width,
                "patch_size": shape.patch_size,
            },
            "text_cfg": {
                "context_length": shape.context_length,
                "vocab_size": shape.vocab_size,
                "width": shape.text_width,
                "heads": shape.text_width // 64,
                "layers": shape.text_layers,
            },
        }

    def load_clip(self, clip: CLIPBackbone, meta: Mapping[str, Any]) -> None:
        clip.load_state_dict(_clip_state(self.seeded, meta["shape"], meta["clip_seed"]))

    def images(self, meta: Mapping[str, Any]) -> torch.Tensor:
        return self.seeded.seeded_image(meta.get("batch", 1), meta["image_size"], meta["image_seed"])


class FixedPrior(torch.nn.Module):
    """A dense prior that was drawn from a seed: the golden files' stand-in for DINOv2."""

    similarity_offset = 1.2

    def __init__(self, features: torch.Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.features[: pictures.shape[0]]

    def load_weights(self, source: str | Path, *, download: bool = True) -> Any:
        raise AssertionError("the fixed prior has no weights")

    @classmethod
    def from_seed(cls, seed: int, batch: int, channels: int, grid: int) -> FixedPrior:
        rng = np.random.RandomState(seed)
        coarse = torch.from_numpy(rng.standard_normal((batch, channels, 3, 3)).astype(np.float32))
        fine = torch.from_numpy(rng.standard_normal((batch, channels, grid, grid)).astype(np.float32))
        return cls(F.interpolate(coarse, (grid, grid), mode="bicubic", align_corners=False) + 0.5 * fine)


def build_crane(meta: Mapping[str, Any], context: Context) -> Crane:
    """The network of a ``crane`` or ``crane+`` golden file, weights loaded."""
    options: dict[str, Any] = {
        "attention": meta["attention"],
        "average": "probabilities" if meta["average_probabilities"] else "logits",
        "image_conditioned": meta["image_conditioned"],
        "temperature": meta["temperature"],
        "sigma": meta["gaussian_sigma"],
    }
    architecture, size = context.architecture(meta), meta["image_size"]
    if meta["method"] == "crane+":
        grid = size // architecture["vision_cfg"]["patch_size"]
        prior = FixedPrior.from_seed(meta["dense_prior_seed"], meta.get("batch", 1), meta["dense_prior_channels"], grid)
        network: Crane = CranePlus(architecture, size, prior=prior, **options)
    else:
        network = Crane(architecture, size, **options)
    context.load_clip(network.clip, meta)
    path = context.checkpoints / meta["checkpoint"]
    state = torch.load(path, map_location="cpu", weights_only=True)["prompt_learner"]
    network.prompt_learner.load_released(state, meta["checkpoint"], network.clip)
    network.update_text_anchors()
    return network


def run_crane(meta: Mapping[str, Any], context: Context) -> Arrays:
    with torch.inference_mode():
        prediction = build_crane(meta, context).predict(context.images(meta))
    details = dict(prediction.details)
    if meta["method"] == "crane":
        # The release returns its one dense feature once for every layer it was asked for.
        for name in ("patch", "logits"):
            details[name] = details[name].expand(len(meta["features_list"]), -1, -1, -1)
    details |= {"amap_smooth": prediction.anomaly_map, "score": prediction.score}
    return {name: value.float().numpy() for name, value in details.items()}


METHODS: dict[str, Callable[[Mapping[str, Any], Context], Arrays]] = {"crane": run_crane, "crane+": run_crane}
# Arrays with a bound of their own, stated in the golden files' README.
BOUNDS: dict[str, float] = {"map_after_tta": 2e-4}


def relative_error(found: np.ndarray, golden: np.ndarray) -> float:
    """Largest absolute difference over the golden array's largest magnitude."""
    if found.shape != golden.shape:
        raise ValueError(f"shape {found.shape}, golden {golden.shape}")
    return float(np.abs(found - golden).max() / np.abs(golden).max())


def compare(path: Path, checkpoints: Path | None = None) -> dict[str, float]:
    """Largest relative error of every array of a golden file."""
    with np.load(path) as archive:
        golden = {name: archive[name] for name in archive.files}
    meta = json.loads(str(golden.pop("meta")))
    if meta["method"] not in METHODS:
        raise LookupError(f"method {meta['method']!r} is not implemented here: {', '.join(METHODS)} are")
    context = Context(_seeded_module(path.resolve().parent), checkpoints or shared_folder() / "checkpoints" / "crane")
    found = METHODS[meta["method"]](meta, context)
    return {name: relative_error(found[name], value) for name, value in golden.items()}


@functools.lru_cache(maxsize=1)
def _clip_state(seeded: ModuleType, shape: str, seed: int) -> dict[str, torch.Tensor]:
    return seeded.seeded_clip_state_dict(seeded.SHAPES[shape], seed)


@functools.cache
def _seeded_module(beside: Path) -> ModuleType:
    for folder in (beside, shared_folder() / "golden"):
        file = folder / "seeded_clip.py"
        if file.is_file():
            spec = importlib.util.spec_from_file_location("seeded_clip", file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
            return module
    raise FileNotFoundError(f"seeded_clip.py is neither in {beside} nor in the development data")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz")
    parser.add_argument("--checkpoints", type=Path, help="folder of the released prompt checkpoints")
    options = parser.parse_args(arguments)
    failed = False
    for path in options.files:
        try:
            errors = compare(path, options.checkpoints)
        except (LookupError, OSError, ValueError) as reason:
            print(f"{path.name}: cannot be compared: {reason}")
            failed = True
            continue
        for name, error in errors.items():
            within = error <= BOUNDS.get(name, BOUND)
            failed |= not within
            print(f"{path.name:40} {name:14} {error:.2e} {'ok' if within else 'TOO LARGE'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
