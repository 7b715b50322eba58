"""Everything that the included model's card reports, in one run.

``python -m tests.benchmarks.lesion_finding --bundle bundles/tiny_screening --data DIR --out FILE.json
[--checkpoint FILE] [--what flair volumes words quiet dicom speed]``. DIR holds ``ms3d``, ``mslong`` and
``dicom_vs_seg_001``. A checkpoint is a model file, the ``best_network.pth`` of a training, or ``seed:N`` for trying
this program; without one the bundle's model is measured. ``--what baselines`` needs no model. The FLAIR scans of
``ms3d`` are the test: run ``flair`` once, at the end. ``volumes`` refuses them.

Each part is written to the JSON when it is done, and its table is printed as Markdown. Pictures of candidates lie
beside the JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai
import torch

from tests.benchmarks.lesion_pipeline import Pipeline, model_file
from tests.benchmarks.lesion_scans import flair, tumour
from tests.benchmarks.lesion_speed import speed
from tests.benchmarks.lesion_synthetic import quiet, words
from tests.benchmarks.lesion_volumes import volumes

PARTS = ("flair", "volumes", "words", "quiet", "dicom", "speed")


def markdown(rows: Sequence[dict[str, Any]], title: str) -> str:
    """A table of the rows; columns in the order in which they first come."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_cell(row.get(column)) for column in columns) for row in rows]
    return "\n".join([f"\n### {title}\n", *(f"| {line} |" for line in lines)])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)


def show(part: str, found: Any) -> None:
    """Print a part's tables."""
    if part in ("flair", "baselines", "volumes", "words"):
        print(markdown(found, part))
    elif part == "quiet":
        thresholds = [{"sensitivity": key, **value} for key, value in found["validation"]["sensitivities"].items()]
        print(markdown(thresholds, f"quiet: thresholds from {found['validation']['lesions']} validation lesions"))
        print(markdown([*found["phantoms"], {"phantom": "mean", "words": "generic", **found["mean of generic"]}], part))
    elif part == "dicom":
        for entry in found["words"]:
            row = {key: value for key, value in entry.items() if key != "candidates"}
            print(markdown([row], "dicom"))
            print(markdown(entry["candidates"], f"dicom: candidates, {entry['words']}"))
    else:
        print(markdown([found], part))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lesion_finding", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/tiny_screening"))
    parser.add_argument("--checkpoint", help="model file, best_network.pth of a training, or seed:N")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--what", nargs="+", choices=(*PARTS, "baselines"), default=list(PARTS))
    parser.add_argument("--slices", type=int, default=24, help="of each kind, for words")
    options = parser.parse_args()
    results: dict[str, Any] = {
        "bundle": options.bundle.name,
        "checkpoint": options.checkpoint,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "software": {"torch": torch.__version__, "monai": monai.__version__},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        weights = model_file(options.bundle, options.checkpoint, Path(folder))
        pipeline = Pipeline(options.bundle, weights) if set(options.what) - {"baselines", "speed"} else None
        if pipeline is not None:
            results["weights"] = [record.summary() for record in pipeline.network.records.values()]
        for part in options.what:
            if part in ("flair", "baselines"):
                found: Any = flair(pipeline if part == "flair" else None, options.data)
            elif part == "speed":
                found = speed(options.bundle, weights)
            else:
                assert pipeline is not None
                if part == "words":
                    found = words(pipeline, options.bundle, options.data, options.slices)
                elif part == "volumes":
                    found = volumes(pipeline, options.bundle, options.data)
                elif part == "quiet":
                    found = quiet(pipeline, options.bundle, options.data)
                else:
                    found = tumour(pipeline, options.data, options.out.with_name(f"{options.out.stem}_candidates"))
            results[part] = found
            options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
            show(part, found)


if __name__ == "__main__":
    main()
