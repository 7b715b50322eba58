"""What the included model finds, on what, with how many false alarms, beside two baselines; and what it takes.

``python -m tests.benchmarks.lesion_finding --data DIR --out FILE.json [--checkpoint FILE] [--what PART ...]``. DIR
holds ``ms3d``, ``mslong``, ``btp``, ``tumours_t1c`` and ``dicom_vs_seg_001``; parts whose data are missing are left out
with a reason. A checkpoint is the ``model.pt`` of a training, or ``seed:N`` for trying this program; without one the
bundle's model is measured. The FLAIR scans of ``ms3d`` are the test: run ``ms`` once, at the end.

Each part is written to the JSON when it is done. A part that is there already is kept, unless ``--overwrite`` is given.

``--leave_out NAME --checkpoint FILE`` measures a model that was trained without a pathology, on that pathology only.
``--table FILE...`` joins such results into one table; it needs no data.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import monai
import torch

from tests.benchmarks.lesion_figures import BASELINES, RATES, Row
from tests.benchmarks.lesion_nothing import nothing, words
from tests.benchmarks.lesion_pipeline import Pipeline
from tests.benchmarks.lesion_scans import glioblastoma, multiple_sclerosis, schwannoma
from tests.benchmarks.lesion_slices import CLASSES, tumours
from tests.benchmarks.lesion_speed import speed

Measure = Callable[[Pipeline, Path, "int | None"], list[Row]]
# Function of each part of the first table, and the folders that it needs.
FINDING: dict[str, tuple[Measure, tuple[str, ...]]] = {
    "ms": (multiple_sclerosis, ("ms3d",)),
    **{kind: (functools.partial(tumours, kind=kind), ("tumours_t1c",)) for kind in CLASSES},
    "glioblastoma": (glioblastoma, ("btp",)),
    "schwannoma": (schwannoma, ("dicom_vs_seg_001",)),
    "nothing": (nothing, ("mslong",)),
}
OTHERS: dict[str, tuple[Measure, tuple[str, ...]]] = {
    "words": (words, ("mslong",)),
    "speed": (lambda pipeline, data, limit: speed(pipeline), ()),
}
PARTS = FINDING | OTHERS
LEFT_OUT = {
    "ms": ("ms",),
    "glioma": ("glioma", "glioblastoma"),
    "meningioma": ("meningioma",),
    "pituitary": ("pituitary",),
    "schwannoma": ("schwannoma",),
}
MAPS = ("model, general", *BASELINES)
FIGURES = (
    "AP",
    "slice AUROC",
    *(f"sensitivity at {rate} FP" for rate in RATES),
    "rank of the lesion",
    "highest in lesion",
    "sensitivity at 0.5",
    "FP at 0.5",
    "slices with a candidate",
    "unfamiliar slices",
)
LEGEND = f"""
Three values: {" / ".join(MAPS)}; a single value is the model's. AP: of voxels in the brain or head, without 10 pixels
around tumours. FP: false candidates per scan, or per slice where there are single slices. At 0.5: candidates above 0.5.
Slice AUROC of tumours: against T1 slices without contrast agent, of another data set. The model of the bundle was
calibrated on the tumour slices and on the patient without lesions that are measured here: expect less at 0.5 elsewhere.
"""


def markdown(rows: Sequence[Row], title: str) -> str:
    """A table of the rows; columns in the order in which they first come, without empty ones."""
    columns = [
        key for key in dict.fromkeys(key for row in rows for key in row) if any(_cell(row.get(key)) for row in rows)
    ]
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_cell(row.get(column)) for column in columns) for row in rows]
    return "\n".join([f"\n### {title}\n", *(f"| {line} |" for line in lines)])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)


def side_by_side(rows: Sequence[Row]) -> list[Row]:
    """One row for what is looked for on each set: figures of the model under general prompts and of the baselines."""
    keys = ("trained without", "looked for", "on")
    groups: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in keys), {})[row["map"]] = row
    found = []
    for group, of_map in groups.items():
        joined: Row = dict(zip(keys, group, strict=True))
        for name in FIGURES:
            cells = [_cell(of_map.get(one, {}).get(name)) for one in MAPS]
            joined[name] = " / ".join(cell for cell in cells if cell)
        found.append(joined)
    return found


def show(rows: Sequence[Row], title: str) -> None:
    """Print the table side by side, and rows of every map where there are several."""
    print(markdown(side_by_side(rows), title), LEGEND, sep="\n")
    print(markdown([row for row in rows if row["looked for"] != "nothing"], "Every map"))


def joined(files: Sequence[Path]) -> list[Row]:
    """Rows of the first table of several results, each with what its model was trained without."""
    rows: list[Row] = []
    for file in files:
        results = json.loads(file.read_text(encoding="utf-8"))
        without = results["run"]["leave_out"] or "nothing"
        found = [row for part in FINDING for row in results["parts"].get(part, [])]
        rows += [{"trained without": without, **row} for row in found]
    return rows


def opened(out: Path, run: Mapping[str, Any], overwrite: bool) -> dict[str, Any]:
    """Results that are there already, or none."""
    if overwrite or not out.is_file():
        return {"run": dict(run), "skipped": {}, "parts": {}}
    earlier = json.loads(out.read_text(encoding="utf-8"))
    if different := [key for key, value in run.items() if earlier["run"].get(key) != value]:
        raise SystemExit(f"{out} is of another run ({', '.join(different)}): add --overwrite, or give another --out")
    return {**earlier, "skipped": {}}


def measure(pipeline: Pipeline, data: Path, out: Path, parts: Sequence[str], results: dict[str, Any]) -> None:
    """Measure the parts that are not in the results, and write these after each."""
    for part in parts:
        function, folders = PARTS[part]
        if part in results["parts"]:
            continue
        if missing := [str(data / folder) for folder in folders if not (data / folder).is_dir()]:
            results["skipped"][part] = f"{', '.join(missing)} is missing"
        else:
            results["parts"][part] = function(pipeline, data, results["run"]["slices"])
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def arguments(values: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.lesion_finding",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--bundle", type=Path, default=Path("bundles/tiny_screening"))
    parser.add_argument("--checkpoint", help="model.pt of a training, or seed:N")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--what", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--leave_out", choices=tuple(LEFT_OUT), help="what the checkpoint was trained without")
    parser.add_argument("--slices", type=int, help="only so many of each row, to try this program")
    parser.add_argument("--overwrite", action="store_true", help="measure all parts again")
    parser.add_argument("--table", nargs="+", type=Path, metavar="FILE", help="only join these results")
    options = parser.parse_args(values)
    if not options.table and (options.data is None or options.out is None):
        parser.error("give --data and --out, or --table")
    if options.leave_out and not options.checkpoint:
        parser.error("--leave_out needs the --checkpoint that was trained so")
    return options


def main() -> None:
    options = arguments()
    if options.table:
        show(joined(options.table), "Pathologies that the training did not see")
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    pipeline = Pipeline(options.bundle, options.checkpoint)
    file = pipeline.weights_file
    run = {
        "bundle": options.bundle.name,
        "leave_out": options.leave_out,
        "slices": options.slices,
        "weights": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else str(file),
    }
    results = opened(options.out, run, options.overwrite)
    results["machine"] = {"processor": platform.machine(), "threads": torch.get_num_threads()}
    results["software"] = {"torch": torch.__version__, "monai": monai.__version__}
    measure(pipeline, options.data, options.out, LEFT_OUT.get(options.leave_out, options.what), results)
    show([row for part in FINDING for row in results["parts"].get(part, [])], "What the model finds")
    for part in OTHERS:
        if part in results["parts"]:
            print(markdown(results["parts"][part], part))
    for part, reason in results["skipped"].items():
        print(f"\n{part}: not measured, {reason}")


if __name__ == "__main__":
    main()
