"""``python -m monai_zsad demo``: the main job, from a sample scan to a map, scores and a picture."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from monai_zsad.errors import ConfigurationError, ZsadError

__all__ = ["demo"]

# Small enough for a minute on two cores. Random weights, since no model comes with the package yet.
_OVERRIDES = {
    "architecture": "ViT-B-16",
    "image_size": "224",
    "weights#clip": "seed:0",
    "weights#prompts": "seed:0",
}
_NOTICE = "The network ran on SEEDED RANDOM WEIGHTS: the map and the scores mean nothing; only the way is real."


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the sample scan and the results.")] = Path(
        "demo_output"
    ),
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle to run.")] = Path("bundles/crane"),
) -> None:
    """Make a sample scan with a known lesion, screen it with a bundle and say where the results lie.

    The results of an earlier demo in the same folder are replaced.
    """
    from monai_zsad.data import write_sample_scan

    config = bundle / "configs" / "inference.yaml"
    if not config.is_file():
        raise ConfigurationError(f"{bundle} is no bundle (no configs/inference.yaml): run in the project's folder")
    scan = write_sample_scan(output / "scan")
    truth = json.loads((scan.parent / "sample_flair.json").read_text(encoding="utf-8"))
    print(f"Sample scan: {scan} (a synthetic head with one lesion)")
    results = output / "results"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), "--bundle_root", str(bundle)]
    command += ["--dataset_dir", str(scan), "--output_dir", str(results), "--overwrite", "true"]
    command += [word for key, value in _OVERRIDES.items() for word in (f"--{key}", value)]
    print(f"Running: {shlex.join(['python', *command[1:]])}\n", flush=True)
    if subprocess.run(command, check=False).returncode:
        raise ZsadError("the demo's run failed; its messages stand above")
    _report(results, truth)


def _report(results: Path, truth: dict[str, Any]) -> None:
    (findings,) = results.glob("*/*_scores.json")
    content = json.loads(findings.read_text(encoding="utf-8"))
    ranked = sorted((s for s in content["slice_scores"] if s["scored"]), key=lambda s: -s["score"])[:3]
    folder = findings.parent
    print()
    print(f"Anomaly map: {folder / content['anomaly_map']}   (float32, on the scan's grid)")
    print(f"Findings:    {findings}")
    print(f"Picture:     {next(folder.glob('*_preview.png'))}")
    print(f"Volume score {content['volume_score']:.3f}; highest slices: " + ", ".join(str(s["slice"]) for s in ranked))
    place = ", ".join(f"{mm:.1f}" for mm in truth["lesion_center_ras_mm"])
    print(f"The scan's lesion: centre ({place}) mm in RAS, radius {truth['lesion_radius_mm']:.1f} mm")
    print(f"\n*** {_NOTICE} ***")
