"""Every bundle of this checkout, made small: a few layers, small slices, seeded weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai.bundle
from monai.bundle import ConfigParser

from tests.networks.zoo import ARCHITECTURE, IMAGE_SIZE

ROOT = Path(__file__).resolve().parents[2] / "bundles"
ALL_BUNDLES = sorted(folder for folder in ROOT.iterdir() if folder.is_dir() and folder.name[0] not in "._")
# `musc` compares scans with one another: tests/workflow/cases/test_cohort.py. The others take one scan alone.
BUNDLES = [folder for folder in ALL_BUNDLES if folder.name != "musc"]
SMALL: dict[str, Any] = {"architecture": ARCHITECTURE, "image_size": IMAGE_SIZE}


def small(bundle: Path) -> dict[str, Any]:
    """Overrides by which a bundle's network is small; the included model's own is."""
    own = parser_of(bundle)["architecture"]
    return {"image_size": 64} if isinstance(own, dict) else SMALL


def config_file(bundle: Path) -> str:
    return str(bundle / "configs" / "inference.yaml")


def parser_of(bundle: Path, **overrides: Any) -> ConfigParser:
    """What a program sees that reads the one file, as MONAI Label does."""
    parser = ConfigParser()
    parser.read_config(config_file(bundle))
    parser.update({"bundle_root": str(bundle), **overrides})
    return parser


def seeded(bundle: Path, seed: int = 0) -> dict[str, str]:
    """Overrides by which every part gets random weights."""
    return {f"weights#{part}": f"seed:{seed}" for part in parser_of(bundle)["released_weights"]}


def run_small(bundle: Path, dataset_dir: Path, output_dir: Path, **overrides: Any) -> None:
    """``python -m monai.bundle run`` within this process; its logging configuration is left out."""
    # Small networks are faster in PyTorch, as they need no export.
    options = {"progress": False, "runtime": "torch", **small(bundle), **seeded(bundle), **overrides}
    monai.bundle.run(
        config_file=config_file(bundle),
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(dataset_dir),
        output_dir=str(output_dir),
        **options,
    )
