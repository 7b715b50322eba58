"""Scans whose features are their brightness, for tests of what is compared with what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor

from monai_zsad.mutual.inferer import MutualInferer
from monai_zsad.mutual.store import FeatureStore

GRID = 4


class Network(torch.nn.Module):
    """Maps every pixel to its brightness; the score is the largest one."""

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        maps = slices.mean(1, keepdim=True)
        return torch.cat([maps, maps.amax((2, 3), keepdim=True).expand_as(maps)], dim=1)


def features(network: torch.nn.Module, slices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two layers of GRID x GRID tokens: brightness beside a constant, so that directions differ."""
    pooled = F.adaptive_avg_pool2d(slices.mean(1, keepdim=True), GRID).flatten(2).transpose(1, 2)
    tokens = torch.cat([pooled, pooled.square(), torch.ones_like(pooled) / 2], dim=2)
    return torch.stack([tokens, tokens.flip(-1)]), pooled.mean((1, 2), keepdim=False)[:, None].expand(-1, 3)


def inferer(**options: Any) -> MutualInferer:
    return MutualInferer(**{"degrees": [1, 3], "features": features, "min_foreground": 0.1, **options})


def body(seed: int = 0, lesion: bool = False, slices: int = 6, name: str = "") -> MetaTensor:
    """A volume (1, 1, 16, 16, slices): a body whose brightness depends on the height, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    volume = torch.zeros(1, 1, 16, 16, slices)
    inside = volume[..., 2:14, 2:14, :]
    inside += torch.linspace(0.3, 0.6, slices) + 0.02 * torch.rand(inside.shape, generator=generator)
    if lesion:
        volume[..., 8:12, 4:8, slices // 2] = 1.0
    meta = {"source_files": [name], "modality": ["MR"], "intensity": ["as it is"]}
    return MetaTensor(volume, affine=torch.eye(4)[None], meta=meta)


def keep(store: FeatureStore, case: str, scan: MetaTensor, own: MutualInferer) -> None:
    """What the first pass does with one scan."""
    found = own.extract(scan, Network())
    item = {name: value[0] for name, value in found.items()}
    image = MetaTensor(scan[0].as_tensor(), meta={"source_files": scan.meta["source_files"][0]})
    data: dict[Any, Any] = {"case": case, "image": image, "pred": item}
    for writer in store.writers():
        data = writer(data)


def kept(folder: Path, scans: dict[str, MetaTensor], own: MutualInferer) -> FeatureStore:
    store = FeatureStore(folder, {"method": "toy"})
    for case, scan in scans.items():
        keep(store, case, scan, own)
    return store
