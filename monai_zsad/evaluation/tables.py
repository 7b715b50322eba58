"""Table of an evaluation as Markdown, CSV and JSON. It shows published values beside the measured values."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from monai_zsad.data.benchmarks import get_benchmark
from monai_zsad.evaluation.metrics.estimates import MEAN, POOLED, Estimate, Findings, Scoring
from monai_zsad.evaluation.metrics.registry import METRICS
from monai_zsad.evaluation.published import published_metrics, published_title
from monai_zsad.writers import SEEDED_WARNING, is_seeded
from monai_zsad.writers.pages.values import NOTHING

__all__ = ["COLUMNS", "Table", "compared"]

COLUMNS = (
    "benchmark", "method", "protocol", "scope", "figure", "percent", "low", "high", "normal", "anomalous", "threshold",
    "published", "difference", "source", "note",
)  # fmt: skip

_FEW = 20
_COMPARED = {one.published_as: one.name for one in METRICS.values() if one.published_as}


class Table:
    """All metrics of a run, in percent as papers print them.

    Args:
        run: content of ``evaluation.json``.
        findings: metrics of its predictions.
        scoring: options of the metrics.
        title: title of the set.
        missing: number of cases without a prediction.
    """

    def __init__(
        self, run: Mapping[str, Any], findings: Findings, scoring: Scoring, title: str, missing: int = 0
    ) -> None:
        self.run = run
        self.findings = findings
        self.scoring = scoring
        self.title = title
        self.missing = missing
        self.method = str(run["protocol"]["method"])
        scopes = [one.scope for one in findings.estimates]
        # A set with one class has no mean over classes. Papers print the values of the class.
        self.main = MEAN if MEAN in scopes and POOLED not in scopes else POOLED if POOLED in scopes else scopes[0]

    @property
    def seeded(self) -> bool:
        """Whether the network had random weights. Then the table is not a result."""
        return is_seeded(self.run["model"])

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per value, with the keys of :data:`COLUMNS`. Undefined values are NaN."""
        published = {} if self.seeded else compared(self.run["benchmark"], self.method)
        found = []
        for one in self.findings.estimates:
            row: dict[str, Any] = {
                "benchmark": self.run["benchmark"],
                "method": self.method,
                "protocol": self.run["protocol"]["name"],
                "scope": one.scope,
                "figure": one.name,
                "percent": 100 * one.value,
                "low": 100 * one.low,
                "high": 100 * one.high,
                "normal": one.normal,
                "anomalous": one.anomalous,
                "threshold": one.threshold,
                "note": one.note,
            }
            percent, source = published.get(one.name, (math.nan, "")) if one.scope == self.main else (math.nan, "")
            row |= {"published": percent, "difference": row["percent"] - percent, "source": source}
            found.append({column: row[column] for column in COLUMNS})
        return found

    def as_csv(self) -> str:
        """The rows as CSV. Undefined values are ``nan``."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in self.rows():
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
        return stream.getvalue()

    def as_json(self) -> str:
        """Rows and description of the run as JSON. Undefined values are ``null``, because JSON has no NaN."""
        rows = [{key: _finite(value) for key, value in row.items()} for row in self.rows()]
        content = {
            "seeded": self.seeded,
            "missing_cases": self.missing,
            "scoring": asdict(self.scoring),
            "facts": self.findings.facts,
            **{key: self.run[key] for key in ("run", "benchmark", "protocol", "model", "settings")},
            "figures": rows,
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    @property
    def markdown(self) -> str:
        """The report as Markdown."""
        parts = [f"# {self.title}, {published_title(self.method)}", *self._warnings()]
        head, rows = self.summary()
        parts += [f"**{self.main_words()}**", _markdown(head, rows)]
        head, rows = self.by_scope()
        if rows:
            parts += [f"## {self.scope_words()}", _markdown(head, rows)]
        head, rows = self.others()
        if rows:
            parts += ["## Published by others on this set", _markdown(head, rows)]
        parts += ["## How", "\n".join(f"- {line}" for line in self.notes())]
        return "\n\n".join(parts) + "\n"

    def _warnings(self) -> list[str]:
        found = [f"**NOT A RESULT: {SEEDED_WARNING}.**"] if self.seeded else []
        if self.missing:
            found.append(f"**{self.missing} of {len(self.run['cases'])} cases have no prediction and are left out.**")
        return found

    def main_words(self) -> str:
        """Title of the summary."""
        if self.main == MEAN:
            return "Mean over the classes, percent"
        return "All volumes together, percent" if self.main == POOLED else f"{self.main}, percent"

    def scope_words(self) -> str:
        """Title of the table of classes or volumes."""
        return "Volumes" if self.main == POOLED else "Classes"

    def summary(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the values that papers print."""
        rows = [row for row in self.rows() if row["scope"] == self.main]
        head = ["metric", "measured", "95 % interval"]
        cells = [
            [METRICS[row["figure"]].title, number(row["percent"]), interval(row["low"], row["high"])] for row in rows
        ]
        if any(row["source"] for row in rows):
            head += ["published", "difference"]
            for line, row in zip(cells, rows, strict=True):
                line += [
                    number(row["published"], missing=NOTHING),
                    number(row["difference"], sign=True, missing=NOTHING),
                ]
        return head, cells

    def by_scope(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the classes or volumes, and of their mean."""
        scopes = [name for name in dict.fromkeys(one.scope for one in self.findings.estimates) if name != self.main]
        if not scopes:
            return [], []
        names = [name for name in METRICS if any(one.name == name for one in self.findings.estimates)]
        cells = {(one.scope, one.name): one for one in self.findings.estimates}
        names = [name for name in names if any((scope, name) in cells for scope in scopes)]
        lesions = self.findings.facts.get("lesions", {})
        rows = []
        for scope in scopes:
            first = next(one for one in self.findings.estimates if one.scope == scope)
            counts = [str(first.normal), str(first.anomalous)]
            if lesions:
                counts.append(str(lesions.get(scope, sum(lesions.values()))))
            rows.append([scope, *counts, *(_cell(cells.get((scope, name))) for name in names)])
        counted = ["normal", "anomalous", *(["lesions"] if lesions else [])]
        return ["", *counted, *(METRICS[name].title for name in names)], rows

    def others(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the published values of other methods on this set."""
        known = [one for one in published_metrics(self.run["benchmark"]) if one.method != self.method]
        cells = {(one.method, one.source, _COMPARED.get(one.metric, one.metric)): one for one in known}
        names = [name for name in METRICS if any(metric == name for _, _, metric in cells)]
        rows = [
            [
                published_title(method),
                *(number(cells[method, source, name].percent) if (method, source, name) in cells else NOTHING
                  for name in names),
                source,
            ]
            for method, source in dict.fromkeys((one.method, one.source) for one in known)
        ]  # fmt: skip
        return ["method", *(METRICS[name].title for name in names), "source"], rows

    def notes(self) -> list[str]:
        """Sentences on how the metrics were computed, and why some are undefined."""
        protocol, model = self.run["protocol"], self.run["model"]
        weights = ", ".join(
            f"{part}: {record['name']}" + _after(f"sha256 {record['sha256'][:12]}" if record.get("sha256") else "")
            for part, record in model["weights"].items()
        )
        found = [
            f"protocol {protocol['name']}{_after(protocol['source'])}; run {self.run['run'][:12]}",
            f"model {model['method']}, weights {weights or NOTHING}, input of {model['image_size']} pixels, "
            f"{model['precision']}",
            *([protocol["notes"]] if protocol["notes"] else []),
            *self._departures(),
            *self._how(),
        ]
        sources = dict.fromkeys(row["source"] for row in self.rows() if row["source"])
        found += [f"published: {source}" for source in sources]
        found += dict.fromkeys(
            f"{METRICS[one.name].title}, {one.scope}: {one.note}" for one in self.findings.estimates if one.note
        )
        return found

    def _departures(self) -> list[str]:
        """Differences between the run and the protocol. They make a comparison with published values unfair."""
        protocol, model = self.run["protocol"], self.run["model"]
        settings = self.run["settings"]["own"]
        names = {"average": "average", "sigma": "sigma", "views": "views", "domain": "blur"}
        pairs = {"image_size": (model["image_size"], protocol["image_size"])}
        pairs |= {key: (settings[key], protocol[name]) for key, name in names.items() if key in settings}
        pairs |= {
            f"weights of {part}": (model["weights"].get(part, {}).get("name"), name)
            for part, name in protocol["released"].items()
        }
        found = [
            f"not as the protocol: {key} is {own}, not {stated}"
            for key, (own, stated) in pairs.items()
            if own != stated
        ]
        benchmark, count = get_benchmark(self.run["benchmark"]), len(self.run["cases"])
        if benchmark.images not in (None, count):
            found.append(f"not the whole set: {count} images, its publisher has {benchmark.images}")
        return found

    def _how(self) -> list[str]:
        scoring = self.scoring
        if self.main != POOLED:
            drawn = "images, drawn within class and label" if self.main == MEAN else "images, drawn within their label"
            found = ["a metric is computed over all images, or all pixels, of a class; the mean weighs classes equally"]
        else:
            drawn = "volumes"
            found = [
                f"voxels inside the region `{self.run['settings'].get('region')}` on the scans' own grids; a slice "
                f"counts if {100 * scoring.slice_fraction:g} % of it lies inside",
                f"a lesion (connected by corners too, {scoring.min_lesion} voxels or more) is found if a right "
                f"candidate overlaps it; a candidate is a connected region at or above the threshold, of "
                f"{scoring.min_voxels} voxels or more, right if {100 * scoring.min_overlap:g} % of it lies in lesions; "
                "FP: false candidates per volume",
                "the FROC of one volume has thresholds at quantiles of its own map; the FROC of all volumes has common "
                "thresholds",
            ]
        if scoring.bootstrap:
            few = "; they mean little for so few cases" if len(self.run["cases"]) < _FEW else ""
            found.append(f"intervals: percentile bootstrap, {scoring.bootstrap} resamples of {drawn}{few}")
        return found


def compared(benchmark: str, method: str) -> dict[str, tuple[float, str]]:
    """Published values of a method on a set, by the name of the measured metric that they are compared with.

    >>> compared("visa", "crane")["pixel_aupro_released"][0]
    87.5
    """
    return {
        _COMPARED.get(one.metric, one.metric): (one.percent, one.source) for one in published_metrics(benchmark, method)
    }


def number(value: float, *, sign: bool = False, missing: str = "nan") -> str:
    """Format a value in percent with one decimal.

    >>> number(95.31), number(-0.04, sign=True), number(float("nan"))
    ('95.3', '-0.0', 'nan')
    """
    return missing if math.isnan(value) else f"{value:+.1f}" if sign else f"{value:.1f}"


def interval(low: float, high: float) -> str:
    """Format both ends of an interval, or a dash if one is undefined."""
    return NOTHING if math.isnan(low) or math.isnan(high) else f"{low:.1f} to {high:.1f}"


def _cell(one: Estimate | None) -> str:
    return NOTHING if one is None else number(100 * one.value)


def _after(text: str) -> str:
    return f" ({text})" if text else ""


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
