"""Run time of each part of a study: reading, preparing, network, inverting, findings, writing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from monai.transforms import Compose, Invertd, LoadImaged, apply_transform
from monai.utils import CommonKeys

from monai_zsad.flags import parse_flag
from monai_zsad.writers.base import CaseWriter

__all__ = ["PARTS", "StudyProfiler", "part_table"]

PARTS = ("read", "prepare", "network", "invert", "findings", "write")
"""Parts of the run time of a study, in their order."""


class StudyProfiler:
    """Handler that measures the run time of each part of a study.

    MONAI's ``WorkflowProfiler`` was not enough. It traces every call of the interpreter, which makes the run slower.
    And it sees only its own thread, but scans are loaded in another thread. Put this handler into ``val_handlers``
    before the handler that logs the cases: that one writes the seconds into the row of each study and into a table at
    the end. Even if it is not active, this handler reduces the memory that a run needs, see :meth:`timed`.

    The program reads and prepares a study while it still works on the study before. So the sum of the parts of a study
    can be larger than the time between two results.

    Args:
        active: whether to measure; also the strings "true" and "false".

    Example:
        >>> profiler = StudyProfiler(True)
        >>> steps = profiler.timed(Compose([lambda data: data | {"pred": 1}]))
        >>> steps({})
        {'pred': 1}
        >>> list(profiler.seconds)
        ['findings']
    """

    def __init__(self, active: bool | str = False) -> None:
        self.active = parse_flag("profile", active)
        self.seconds: dict[str, float] = {}
        self._since = 0.0
        self._engine: Engine | None = None

    def loading(self, preprocessing: Compose) -> Any:
        """The same transforms with a measurement up to ``LoadImaged`` and one after it.

        The data get ``load_seconds``, a dictionary with "read" and "prepare".

        Args:
            preprocessing: of the bundle.

        Returns:
            The measured transforms; the argument itself if this profiler is not active.
        """
        return _TimedLoading(preprocessing) if self.active else preprocessing

    def timed(self, postprocessing: Compose) -> Compose:
        """The same transforms. Each of them is measured if this profiler is active.

        Writers count as "write", ``Invertd`` as "invert", and all other transforms as "findings".

        MONAI's engine and ``Compose`` keep the input of the first transform until the last transform has finished. For
        a large CT, these are two more volumes in memory. If this profiler is attached to an engine, the returned
        transforms remove ``pred`` from the output of the engine.

        Args:
            postprocessing: of the bundle.

        Returns:
            The transforms.
        """
        taken = [_Timed(step, _part(step), self.seconds) if self.active else step for step in postprocessing.transforms]
        return _Steps(taken, self._release)

    def _release(self, data: Any) -> None:
        if self._engine is not None and isinstance(data, MutableMapping):
            outputs = self._engine.state.output
            for held in (data, *(outputs if isinstance(outputs, list) else [])):
                held.pop(CommonKeys.PRED, None)

    def attach(self, engine: Engine) -> None:
        """Register the handler with an evaluator.

        Args:
            engine: the evaluator.
        """
        self._engine = engine
        if self.active:
            engine.add_event_handler(Events.ITERATION_STARTED, self._start)
            engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._inferred)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._complete)

    def _start(self, engine: Engine) -> None:
        self.seconds.clear()
        batch = engine.state.batch
        loaded = batch.get("load_seconds") if isinstance(batch, Mapping) else None
        if isinstance(loaded, Mapping):
            self.seconds.update({part: float(loaded[part]) for part in PARTS[:2]})
        self._since = time.perf_counter()

    def _inferred(self, engine: Engine) -> None:  # noqa: ARG002
        self.seconds["network"] = time.perf_counter() - self._since

    def _complete(self, engine: Engine) -> None:
        engine.state.parts = {part: round(self.seconds[part], 4) for part in PARTS if part in self.seconds}


class _Timed:
    """A transform whose run time is added to the time of its part."""

    def __init__(self, step: Any, part: str, seconds: dict[str, float]) -> None:
        self.step = step
        self.part = part
        self.seconds = seconds

    def __call__(self, data: Any) -> Any:
        begin = time.perf_counter()
        try:
            return self.step(data)
        finally:
            self.seconds[self.part] = self.seconds.get(self.part, 0.0) + time.perf_counter() - begin


class _Steps(Compose):
    """Transforms in a row. Nothing else keeps the data between two of them, so memory is free early."""

    def __init__(self, transforms: Sequence[Any], release: Callable[[Any], None]) -> None:
        super().__init__(list(transforms))
        self.release = release

    def __call__(
        self, input_: Any, start: int = 0, end: int | None = None, threading: bool = False, lazy: bool | None = None
    ) -> Any:
        if start or end is not None or lazy or not isinstance(input_, Mapping):
            return super().__call__(input_, start, end, threading, lazy)
        data = dict(input_)
        self.release(input_)
        for step in self.transforms:
            data = apply_transform(step, data)
        return data


class _TimedLoading:
    """A ``Compose`` in two measured parts. ``Invertd`` needs the ``Compose`` itself, so it is not split."""

    def __init__(self, steps: Compose) -> None:
        self.steps = steps
        self.read = next((n for n, step in enumerate(steps.transforms, start=1) if isinstance(step, LoadImaged)), 0)

    def __call__(self, data: Any) -> Any:
        begin = time.perf_counter()
        image = self.steps(data, end=self.read) if self.read else data
        between = time.perf_counter()
        image = self.steps(image, start=self.read)
        return {**image, "load_seconds": {"read": between - begin, "prepare": time.perf_counter() - between}}


def _part(step: Any) -> str:
    if isinstance(step, Invertd):
        return "invert"
    return "write" if isinstance(step, CaseWriter) else "findings"


def part_table(studies: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """Table of the seconds of each part: by study, in all, and as shares. Empty if nothing was measured.

    Example:
        >>> print(part_table([("anna", {"read": 1.0, "network": 3.0})]))
        seconds    read  network
        anna       1.00     3.00
        in all     1.00     3.00
        share       25%      75%
    """
    measured = [(case, parts) for case, parts in studies if parts]
    names = [part for part in PARTS if any(part in parts for _, parts in measured)]
    if not names:
        return ""
    total = {name: sum(parts.get(name, 0.0) for _, parts in measured) for name in names}
    whole = sum(total.values()) or 1.0
    width = max(len("seconds"), *(len(case) for case, _ in measured)) + 2
    rows = [("seconds", names), *((case, [f"{parts.get(n, 0.0):.2f}" for n in names]) for case, parts in measured)]
    rows += [("in all", [f"{total[n]:.2f}" for n in names]), ("share", [f"{total[n] / whole:.0%}" for n in names])]
    return "\n".join(f"{name:<{width}}" + "  ".join(f"{cell:>7}" for cell in cells).rstrip() for name, cells in rows)
