"""Displays of a run: lines and one progress bar for a person, JSON lines for a program."""

from __future__ import annotations

import datetime
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from monai_zsad.result_files import STATUS_TABLES
from monai_zsad.workflow.console.events import Listener
from monai_zsad.writers.facts import SEEDED_WARNING, UNFAMILIAR_WARNING
from monai_zsad.writers.status import UNFAMILIAR

__all__ = ["JsonLines", "Lines", "both", "fractions"]

_BAR = "{desc} |{bar}| {elapsed}, {remaining} left{postfix}"
_MOST_INPUTS = 20
_WIDEST_CASE = 30


class Lines:
    """One line per scan and a summary on stdout, one progress bar on stderr.

    MONAI's ``StatsHandler`` prints losses and metrics of iterations; it knows no cases. The bar is only shown on a
    terminal or in Jupyter. It counts slices if the run has one scan, else scans with the share of the present one.

    Args:
        progress: show the bar.
        quiet: no lines of scans that are done, and no bar; only failures and the summary.
        silent: no lines at all; the bar is shown if it is wanted.

    Attributes:
        warnings: gives the number of warnings so far, for the summary.
    """

    def __init__(self, progress: bool = True, quiet: bool = False, silent: bool = False) -> None:
        self.quiet = quiet
        self.silent = silent
        self.progress = progress and not quiet and _can_show_bar()
        self.warnings: Callable[[], int] = int
        self._bar: Any = None
        self._scans = self._finished = 0
        self._width = 0
        self._parts: list[tuple[str, Mapping[str, float]]] = []
        self._inputs: list[Mapping[str, Any]] = []

    def __call__(self, name: str, fields: Mapping[str, Any]) -> None:
        """Show an event, see :data:`~monai_zsad.workflow.console.events.EVENTS`."""
        show = {
            "features": self._features,
            "kind": self._kind,
            "run-started": self._start,
            "progress": self._move,
            "scan-finished": self._scan,
            "input": self._inputs.append,
            "run-finished": self._end,
        }.get(name)
        if show is not None:
            show(fields)

    def prepare(self, text: str = "preparing") -> None:
        """Show that the program works, before the number of scans is known."""
        self.close()
        if self.progress:
            self._bar = tqdm(total=1, bar_format="{desc} ...", desc=text, leave=False, file=sys.stderr)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _features(self, fields: Mapping[str, Any]) -> None:
        self.prepare(f"features of {fields['number']}/{fields['scans']} scans")

    def _kind(self, fields: Mapping[str, Any]) -> None:
        scans = fields["scans"]
        if not self.quiet:
            self._print(f"of one kind: {scans} scan{'s' if scans != 1 else ''}, {fields['kind']}")

    def _start(self, fields: Mapping[str, Any]) -> None:
        self.close()
        self._scans, self._finished = fields["scans"], 0
        self._width = min(_WIDEST_CASE, fields.get("widest", 0))
        if self.progress and self._scans:
            self._bar = tqdm(
                total=1 if self._scans == 1 else self._scans,
                desc="1 scan" if self._scans == 1 else f"0/{self._scans} scans",
                bar_format=_BAR,
                dynamic_ncols=True,
                leave=False,
                file=sys.stderr,
            )

    def _move(self, fields: Mapping[str, Any]) -> None:
        if self._bar is None:
            return
        done, total = fields["done"], fields["total"]
        if self._scans == 1:
            self._bar.set_description_str(f"{done}/{total} slices", refresh=False)
        self._bar.update(self._finished + done / max(total, 1) - self._bar.n)

    def _scan(self, fields: Mapping[str, Any]) -> None:
        self._finished = fields["number"]
        scans = fields["scans"]
        if fields["parts"]:
            self._parts.append((fields["case"], fields["parts"]))
        is_done = fields["status"] in ("done", "repaired")
        if not (self.quiet and is_done) or SEEDED_WARNING in fields["warnings"]:
            count = f"[{fields['number']}/{scans}] " if scans else ""
            self._print(f"{count}{fields['case']:<{self._width}}  {'  '.join(_facts(fields))}")
        if self._bar is not None:
            if scans and self._scans > 1:
                self._scans = self._bar.total = scans
                self._bar.set_description_str(f"{self._finished}/{scans} scans", refresh=False)
                elapsed = self._bar.format_dict["elapsed"]
                self._bar.set_postfix_str(f"{3600 * self._finished / elapsed:.0f} scans/h" if elapsed else "", False)
            self._bar.update(self._finished - self._bar.n)
            self._bar.refresh()

    def _end(self, fields: Mapping[str, Any]) -> None:
        self.close()
        for line in _input_lines(self._inputs):
            self._print(line)
        if self._parts and not self.quiet:
            from monai_zsad.workflow.profiling import part_table

            self._print(part_table(self._parts))
        self._print(_summary(fields, self.warnings()))

    def _print(self, text: str) -> None:
        if not self.silent:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()


class JsonLines:
    """One JSON object per event on stdout: ``event``, ``time`` (ISO 8601) and the event's fields.

    ``progress`` comes once per second at most.
    """

    def __init__(self) -> None:
        self._last = datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)

    def __call__(self, name: str, fields: Mapping[str, Any]) -> None:
        """Print an event."""
        now = datetime.datetime.now(datetime.timezone.utc)
        if name == "progress":
            if (now - self._last).total_seconds() < 1:
                return
            self._last = now
        content = {"event": name, "time": now.isoformat(timespec="milliseconds"), **fields}
        sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")
        sys.stdout.flush()


def fractions(report: Callable[[float, str], None]) -> Listener:
    """A listener for a program's own progress bar.

    Args:
        report: is called with the fraction of the run that is done, in [0, 1], and a short text.

    Example:
        >>> hear = fractions(lambda fraction, text: print(f"{fraction:.2f} {text}"))
        >>> hear("run-started", {"scans": 2})
        0.00 2 scans
        >>> hear("progress", {"case": "anna", "done": 20, "total": 40})
        0.25 anna: slice 20 of 40
    """
    state = {"scans": 1, "finished": 0}

    def hear(name: str, fields: Mapping[str, Any]) -> None:
        scans = max(state["scans"], 1)
        if name == "features":
            report(0.0, f"features of scan {fields['number']} of {fields['scans']}")
        elif name == "run-started":
            state.update(scans=fields["scans"], finished=0)
            report(0.0, f"{fields['scans']} scan{'s' if fields['scans'] != 1 else ''}")
        elif name == "scan-started":
            report(state["finished"] / scans, f"{fields['case']}: prepared")
        elif name == "progress":
            share = (state["finished"] + fields["done"] / max(fields["total"], 1)) / scans
            report(min(share, 1.0), f"{fields['case']}: slice {fields['done']} of {fields['total']}")
        elif name == "scan-finished":
            state["finished"] = fields["number"]
            report(min(state["finished"] / scans, 1.0), f"{fields['case']}: {fields['status']}")

    return hear


def both(*listeners: Listener) -> Listener:
    """One listener that passes each event to all of these."""

    def hear(name: str, fields: Mapping[str, Any]) -> None:
        for one in listeners:
            one(name, fields)

    return hear


def _facts(fields: Mapping[str, Any]) -> list[str]:
    if fields["status"] not in ("done", "repaired"):
        return [f"{fields['status']}: {fields['reason']}"]
    facts = [] if fields["volume_score"] is None else [f"score {fields['volume_score']:.3f}"]
    if (count := fields["candidates"]) is not None:
        facts.append(f"{count} candidate{'' if count == 1 else 's'}")
    if SEEDED_WARNING in fields["warnings"]:
        facts.append(f"NOT A RESULT: {SEEDED_WARNING}")
    if UNFAMILIAR in fields["codes"]:
        facts.append(UNFAMILIAR_WARNING)
    if repaired := [code for code in fields["codes"] if code != UNFAMILIAR]:
        facts.append(f"repaired ({', '.join(repaired)})")
    return [*facts, str(fields["report"])]


def _input_lines(inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each reason of refusal; private inputs have reasons without names, and so perhaps the same."""
    refused = (one for one in inputs if one["status"] == "refused")
    counts = Counter(f"{one['reason']} [{' '.join(one['codes'])}]" for one in refused)
    lines = [f"refused: {f'{count} x ' if count > 1 else ''}{text}" for text, count in counts.items()]
    more = [f"refused: {len(lines) - _MOST_INPUTS} more, see {STATUS_TABLES[0]}"] if len(lines) > _MOST_INPUTS else []
    return lines[:_MOST_INPUTS] + more


def _summary(fields: Mapping[str, Any], warnings: int) -> str:
    if fields["complete"] and not fields["done"] + fields["refused"] + fields["failed"]:
        counts = f"nothing to do: all {fields['complete']} scans are complete"
    else:
        told = [
            f"{fields[name]} {name.replace('_', ' ')}" for name in ("refused", "failed", "left_out") if fields[name]
        ]
        told += [f"{fields['complete']} complete before"] if fields["complete"] else []
        counts = ", ".join([f"{fields['done']} done", *told]) + f" in {_duration(fields['seconds'])}"
    left = f" (why: {STATUS_TABLES[0]})" if fields["left_out"] else ""
    noted = (
        f"; {warnings} warning{'' if warnings == 1 else 's'} in {fields['log']}" if warnings and fields["log"] else ""
    )
    return f"{counts}{left}: {fields['index'] or fields['results']}{noted}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _can_show_bar() -> bool:
    stream = sys.stderr
    return bool(stream) and (stream.isatty() or type(stream).__module__.startswith("ipykernel"))
