"""``monai-zsad demo``: from a sample scan to an anomaly map, scores, a preview and a report."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from monai_zsad.errors import ZsadError

__all__ = ["demo"]

# Anatomy and modality of the sample scan.
_OVERRIDES = {"anatomy": "brain", "modality": "FLAIR"}


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the sample scan and the results.")] = Path(
        "demo_output"
    ),
    bundle: Annotated[str, typer.Option(help="Folder or name of a bundle.")] = "tiny_screening",
) -> None:
    """Make a sample scan with a known lesion, screen it, and compare the findings with the lesion.

    The results of an earlier demo in the same folder are replaced.

    Example: python -m monai_zsad demo -o demo_output
    """
    from monai_zsad.synthesis import write_sample_scan
    from monai_zsad.workflow.bundles import find_bundle

    folder = find_bundle(bundle)
    config = folder / "configs" / "inference.yaml"
    scan = write_sample_scan(output / "scan")
    truth = json.loads((scan.parent / "sample_flair.json").read_text(encoding="utf-8"))
    print(f"Sample scan: {scan} (a synthetic head with one lesion)")
    results = output / "results"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), "--bundle_root", str(folder)]
    command += ["--dataset_dir", str(scan), "--output_dir", str(results), "--overwrite", "true"]
    command += [word for key, value in _OVERRIDES.items() for word in (f"--{key}", value)]
    print(f"Running: {shlex.join(['python', *command[1:]])}\n", flush=True)
    if subprocess.run(command, check=False).returncode:
        raise ZsadError("the run of the demo failed: correct the error that is printed above")
    _report(results, truth)


def _report(results: Path, truth: dict[str, Any]) -> None:
    (findings,) = results.glob("*/*_findings.json")
    content = json.loads(findings.read_text(encoding="utf-8"))
    folder, files, candidates = findings.parent, content["files"], content["candidates"]
    anomaly_map = folder / files["anomaly_map"]
    print()
    print(f"Anomaly map: {anomaly_map}   (float32, on the scan's grid)")
    print(f"Findings:    {findings}")
    print(f"Report:      {folder / files['report']}   (open it in a browser)")
    print(f"Preview:     {folder / files['preview']}")
    print(f"Volume score {content['volume_score']:.3f}, {len(candidates)} candidates above {_threshold(content)}")
    center, radius = truth["lesion_center_ras_mm"], truth["lesion_radius_mm"]
    for found in candidates[:3]:
        away = math.dist(found["peak_ras_mm"], center)
        where = "inside the lesion" if away <= radius else f"{away:.0f} mm from the lesion's centre"
        point, volume = _text(found["peak_ras_mm"]), found["volume_mm3"]
        print(f"  {found['id']}: peak {found['peak_score']:.3f} at {point} mm in RAS, {volume:.0f} mm3, {where}")
    peak, value = _peak(anomaly_map)
    print(f"Highest value {value:.3f} at {_text(peak)} mm in RAS")
    print(f"The scan's lesion: centre {_text(center)} mm, radius {radius:.1f} mm")
    away = math.dist(peak, center)
    inside = "inside the lesion" if away <= radius else "outside the lesion"
    print(f"\nThe highest value lies {away:.1f} mm from the lesion's centre, {inside}.")


def _threshold(content: dict[str, Any]) -> str:
    return f"{content['settings']['threshold']:g}"


def _peak(path: Path) -> tuple[list[float], float]:
    """RAS position in mm and value of the map's maximum."""
    import nibabel
    import numpy as np

    image = nibabel.load(path)
    values = np.asanyarray(image.dataobj)
    index = np.unravel_index(int(values.argmax()), values.shape)
    return (image.affine @ [*index, 1])[:3].tolist(), float(values[index])


def _text(point: list[float]) -> str:
    return "(" + ", ".join(f"{mm:.1f}" for mm in point) + ")"
