"""Levels of suspicion: a label map with few named values for all candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from monai_zsad.integrations.monailabel.options import RequestOptions

__all__ = ["LEVELS", "level_labels", "level_of"]

LEVELS = {"low suspicion": 1, "moderate suspicion": 2, "high suspicion": 3}
"""Names and values of the levels."""


def level_of(peak_score: float, options: RequestOptions) -> int:
    """Return the level of a candidate, 1, 2 or 3, from its peak score."""
    return 1 + (peak_score >= options.level_moderate) + (peak_score >= options.level_high)


def level_labels(
    labels: np.ndarray, candidates: Sequence[Any], options: RequestOptions, *, compact: bool = False
) -> tuple[np.ndarray, dict[str, int]]:
    """Replace the id of each candidate by its level of suspicion.

    Args:
        labels: ids of candidates, 0 for the background, of any shape.
        candidates: the ``LesionCandidate`` of every id.
        options: the scores at which the levels begin.
        compact: number the levels that occur from 1 to their number, without gaps.

    Returns:
        The levels, uint8 in the shape of ``labels``, and the value of each level by its name.

    Example:
        >>> from types import SimpleNamespace
        >>> options = RequestOptions({}, 0.7, 0.85, "fixed")
        >>> found = [SimpleNamespace(id=1, peak_score=0.9), SimpleNamespace(id=2, peak_score=0.6)]
        >>> level_labels(np.array([0, 1, 2]), found, options)[0]
        array([0, 3, 1], dtype=uint8)
        >>> level_labels(np.array([0, 1, 2]), found, options, compact=True)
        (array([0, 2, 1], dtype=uint8), {'low suspicion': 1, 'high suspicion': 2})
    """
    values = {found.id: level_of(found.peak_score, options) for found in candidates}
    names = dict(LEVELS)
    if compact:
        present = [name for name, level in LEVELS.items() if level in values.values()]
        renumbered = {LEVELS[name]: index for index, name in enumerate(present, start=1)}
        values = {key: renumbered[level] for key, level in values.items()}
        names = {name: renumbered[LEVELS[name]] for name in present}
    table = np.zeros(max(values, default=0) + 1, dtype=np.uint8)
    for key, value in values.items():
        table[key] = value
    return table[labels], names
