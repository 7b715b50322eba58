"""CT windows as options name them: the table of names, and the reading of a value. It needs neither torch nor MONAI."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from types import MappingProxyType
from typing import NamedTuple

from monai_zsad.errors import ConfigurationError, did_you_mean

__all__ = ["CT_WINDOWS", "WINDOW_KEYWORDS", "HUWindow", "WindowSpec", "check_window", "parse_windows"]

WindowSpec = str | Sequence[object]
"""A name, a (level, width) pair in HU, or a list of one or three of those."""

WINDOW_KEYWORDS = ("auto", "percentile")
"""Values of the option ``window`` beside CT windows."""

CT_WINDOWS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "brain": (40.0, 80.0),
        "subdural": (75.0, 215.0),
        "stroke": (40.0, 40.0),
        "temporal_bone": (600.0, 2800.0),
        "bone": (400.0, 1800.0),
        "lung": (-600.0, 1500.0),
        "mediastinum": (50.0, 350.0),
        "soft_tissue": (40.0, 400.0),
        "abdomen": (50.0, 400.0),
        "liver": (30.0, 150.0),
        "spine": (50.0, 250.0),
    }
)
"""Named windows, (level, width) in HU. Reference: Radiopaedia, "Windowing (CT)", radiopaedia.org/articles/windowing-ct;
if it states a range (subdural, soft tissue), a value inside the range."""


class HUWindow(NamedTuple):
    """One window: values from ``level - width / 2`` to ``level + width / 2`` (HU) are shown from black to white."""

    level: float
    width: float
    name: str = ""

    def __str__(self) -> str:
        """``brain 40/80 HU``."""
        return f"{self.name} {self.level:g}/{self.width:g} HU".strip()


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _one_window(spec: object, argument: str, keywords: Iterable[str]) -> HUWindow:
    if isinstance(spec, str):
        name = spec.strip().lower().replace(" ", "_").replace("-", "_")
        if name in CT_WINDOWS:
            return HUWindow(*CT_WINDOWS[name], name=name)
        raise ConfigurationError(
            f"{argument}={spec!r} is not a known CT window; {did_you_mean(name, [*keywords, *CT_WINDOWS])}. Give any "
            "other window as [level, width] in HU."
        )
    if isinstance(spec, (list, tuple)) and len(spec) == 2 and all(_is_number(value) for value in spec):
        level, width = float(spec[0]), float(spec[1])
        if math.isfinite(level) and math.isfinite(width) and width > 0:
            return HUWindow(level, width)
        raise ConfigurationError(f"{argument}={spec!r}: level and width (HU) must be finite, and the width above 0.")
    raise ConfigurationError(
        f"{argument}={spec!r} is not a CT window: give a name ({', '.join(CT_WINDOWS)}) or [level, width] in HU."
    )


def parse_windows(windows: WindowSpec, argument: str = "windows", keywords: Iterable[str] = ()) -> tuple[HUWindow, ...]:
    """Read one or three windows from a configuration value.

    Two plain numbers are one (level, width) pair, never two windows.

    Args:
        windows: a name, a (level, width) pair in HU, or a list of one or three of those.
        argument: name of the argument, for messages.
        keywords: further names that the caller accepts, for messages.

    Returns:
        One or three windows.

    Raises:
        ConfigurationError: an unknown name, a pair that is not a window, or neither one nor three windows.

    Example:
        >>> [str(window) for window in parse_windows([40, 80])]
        ['40/80 HU']
        >>> [str(window) for window in parse_windows(["brain", [80, 200], "bone"])]
        ['brain 40/80 HU', '80/200 HU', 'bone 400/1800 HU']
    """
    several = isinstance(windows, (list, tuple)) and not (
        len(windows) == 2 and all(_is_number(value) for value in windows)
    )
    specs: Sequence[object] = windows if several else [windows]
    if len(specs) not in (1, 3) or (several and any(_is_number(spec) for spec in specs)):
        raise ConfigurationError(
            f"{argument}={windows!r}: one window, or three for red, green and blue, are accepted; each is a name or "
            "[level, width] in HU."
        )
    return tuple(_one_window(spec, argument, keywords) for spec in specs)


def check_window(window: WindowSpec) -> None:
    """Refuse a value that the option ``window`` does not accept.

    Args:
        window: ``"auto"``, ``"percentile"``, or as for :func:`parse_windows`.

    Raises:
        ConfigurationError: see :func:`parse_windows`.

    Example:
        >>> check_window("percentile"), check_window([40, 80])
        (None, None)
    """
    if not (isinstance(window, str) and window.strip().lower() in WINDOW_KEYWORDS):
        parse_windows(window, "window", WINDOW_KEYWORDS)
