"""``monai-zsad score``: figures of an evaluation's predictions, without the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["score"]


def score(
    results: Annotated[Path, typer.Argument(help="Output folder of a bundle's evaluate.yaml.")],
    bootstrap: Annotated[int, typer.Option(help="Resamples of the 95 % intervals; 0 for none.")] = 200,
    min_lesion: Annotated[int, typer.Option(help="Volumes: smallest lesion in voxels.")] = 3,
    min_voxels: Annotated[int, typer.Option(help="Volumes: smallest candidate in voxels.")] = 10,
    min_overlap: Annotated[float, typer.Option(help="Volumes: share of a candidate that must lie in lesions.")] = 0.1,
    limit: Annotated[float, typer.Option(help="False positive rate up to which AUPRO is integrated.")] = 0.3,
    partial: Annotated[bool, typer.Option("--partial", help="Leave out cases without a prediction.")] = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write index.html with curves and pictures.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score the predictions that an evaluation has kept: table, curves and page are written anew beside them.

    Example: python -m monai_zsad score RESULTS --bootstrap 1000
    """
    from monai_zsad.evaluation.scoring import score_run

    table = score_run(
        results,
        partial=partial,
        page=page,
        bootstrap=bootstrap,
        min_lesion=min_lesion,
        min_voxels=min_voxels,
        min_overlap=min_overlap,
        limit=limit,
    )
    typer.echo(table.as_json() if as_json else table.markdown, nl=False)
