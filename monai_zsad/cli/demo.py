"""``monai-zsad demo``: from a sample scan to an anomaly map, scores, a preview and a report."""

from __future__ import annotations

import json
import math
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from monai_zsad.errors import ZsadError
from monai_zsad.result_files import CASE_FILES, case_folder

__all__ = ["demo"]

_SAMPLE = "sample_flair"
# Anatomy and modality of the sample scan.
_OVERRIDES = {"anatomy": "brain", "modality": "FLAIR"}


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the sample scan and the results.")
    ] = Path("demo_output"),
    bundle: Annotated[str, typer.Option(metavar="NAME", help="Folder or name of a bundle.")] = "tiny_screening",
) -> None:
    """Screen a synthetic scan with a known lesion.

    The results of an earlier demo in the same folder are replaced.

    Example: python -m monai_zsad demo -o demo_output
    """
    from monai_zsad.workflow.console import quiet_console
    from monai_zsad.workflow.launching import prepare, run_bundle

    scan, results = output / "scan" / f"{_SAMPLE}.nii.gz", output / "results"
    options = {"overwrite": True, **_OVERRIDES}
    config, settings = prepare(str(scan), results, bundle, options)
    typer.echo(f"Sample scan: {scan} (a synthetic head with one lesion)")
    from monai_zsad.synthesis import write_sample_scan

    write_sample_scan(scan.parent)
    told = shlex.join(["monai-zsad", *sys.argv[1:]])
    try:
        done = run_bundle(config, settings, console=quiet_console(scans=scan, command=told))
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command begins again", err=True)
        raise typer.Exit(130) from None
    if not done:
        raise ZsadError("the run of the demo failed: the line above says why")
    folder = case_folder(results, _SAMPLE)
    typer.echo(_comparison(folder, scan.with_name(f"{_SAMPLE}.json")))
    typer.echo(f"Open {folder / CASE_FILES['report'].name} in a browser.")


def _comparison(folder: Path, truth: Path) -> str:
    """How far the most anomalous point lies from the lesion."""
    known = json.loads(truth.read_text(encoding="utf-8"))
    anomaly_map = folder / json.loads((folder / CASE_FILES["findings"].name).read_text())["files"]["anomaly_map"]
    away, radius = math.dist(_peak(anomaly_map), known["lesion_center_ras_mm"]), known["lesion_radius_mm"]
    where = f"{'inside' if away <= radius else 'outside'} it (radius {radius:.1f} mm)"
    return f"The most anomalous point lies {away:.1f} mm from the centre of the lesion, {where}."


def _peak(path: Path) -> list[float]:
    """Position of the map's maximum, RAS in mm."""
    import nibabel
    import numpy as np

    image = nibabel.load(path)
    values = np.asanyarray(image.dataobj)
    index = np.unravel_index(int(values.argmax()), values.shape)
    return (image.affine @ [*index, 1])[:3].tolist()
