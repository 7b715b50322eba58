"""``monai-zsad slicer``: the results of a case in 3D Slicer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["slicer"]


def slicer(
    case: Annotated[Path, typer.Argument(help="Folder of one case in the output of `screen`.")],
    scan: Annotated[Path | None, typer.Option(help="The volume that was screened, to show below.")] = None,
    send: Annotated[bool, typer.Option("--send", help="Load it into a Slicer that runs, too.")] = False,
    port: Annotated[int, typer.Option(help="Port of Slicer's Web Server.")] = 2016,
) -> None:
    """Write a scene to drag into 3D Slicer: heat map in colour, candidates as segments, the scan below.

    Screen with --set seg_nrrd=true for the segments. --send needs Slicer's module Web Server with the Slicer API.

    Example: python -m monai_zsad slicer RESULTS/anna --scan anna.nii.gz
    """
    from monai_zsad.integrations.slicer import send_case, write_scene

    typer.echo(f"drag into 3D Slicer: {write_scene(case, scan)}")
    if send:
        typer.echo(f"loaded: {', '.join(send_case(case, scan, port=port))}")
