"""What a client of MONAI Label may choose for one request: its options panel, and the values that come back."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monai_zsad.errors import ConfigurationError
from monai_zsad.prompts import library, set_names

__all__ = ["LABEL_VALUES", "PLANES", "RequestOptions", "default_levels", "panel", "read_options"]

PLANES = ("axial", "coronal", "sagittal", "acquisition")
LABEL_VALUES = ("auto", "fixed", "compact")
"""How levels are numbered: see :attr:`RequestOptions.label_values`."""

_WORDS = ("prompt_set", "anatomy", "modality")
_NUMBERS = ("candidate_threshold", "min_volume_mm3", "border_mm", "max_candidates")
_LEVELS = {"level_moderate": 0.65, "level_high": 0.8}
_ANY = "any"
# MONAI's configuration runs a text that starts with $ as Python and resolves @ and %: no such text may come from afar.
_HARMLESS = re.compile(r"[\w .,\-\[\]]*", re.ASCII)


@dataclass(frozen=True)
class RequestOptions:
    """The values of one request, checked.

    Attributes:
        overrides: values by id of the bundle's ``inference.yaml``.
        level_moderate: a candidate whose peak score reaches it is of level 2.
        level_high: a candidate whose peak score reaches it is of level 3.
        label_values: ``"fixed"``: 1 low, 2 moderate, 3 high suspicion; ``"compact"``: the levels that occur, numbered
            without gaps, since 3D Slicer's plugin names segments by their order; ``"auto"``: compact where the client
            forces ``uint8``, as only that plugin does.
    """

    overrides: Mapping[str, Any]
    level_moderate: float
    level_high: float
    label_values: str


def panel(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a client shows for a bundle: a list is a choice whose first item is the default.

    Args:
        config: content of the bundle's ``inference.yaml``; options that it lacks are left out.

    Example:
        >>> panel({"plane": "axial", "candidate_threshold": 0.4})["plane"]
        ['axial', 'coronal', 'sagittal', 'acquisition']
    """
    shown: dict[str, Any] = {}
    choices = {
        "prompt_set": set_names,
        "anatomy": lambda: (_ANY, *(key for key in library.anatomies() if key != _ANY)),
        "modality": lambda: (_ANY, *(key for key in library.modalities() if key != _ANY)),
        "plane": lambda: PLANES,
    }
    for key, values in choices.items():
        if key in config:
            default = _ANY if config[key] is None else str(config[key])
            shown[key] = [default, *(value for value in values() if value != default)]
    if "states" in config:
        shown["states"] = ",".join(config["states"] or ())
    if "window" in config:
        shown["window"] = str(config["window"])
    shown |= {key: config[key] for key in _NUMBERS if key in config}
    return {**shown, **_LEVELS, "label_values": list(LABEL_VALUES)}


def default_levels() -> RequestOptions:
    """Where the levels begin if nobody chooses."""
    return RequestOptions({}, _LEVELS["level_moderate"], _LEVELS["level_high"], "fixed")


def read_options(request: Mapping[str, Any], shown: Mapping[str, Any]) -> RequestOptions:
    """The options in a client's request; what it leaves out has the panel's default, other keys are not looked at.

    Args:
        request: parameters as the client sent them: numbers may be texts, a choice may be the panel's whole list.
        shown: from :func:`panel`.

    Raises:
        ConfigurationError: if a value cannot be used.

    Example:
        >>> read_options({"candidate_threshold": "0.6"}, panel({"candidate_threshold": 0.5})).overrides
        {'candidate_threshold': 0.6}
    """
    values = {key: _first(request.get(key, default)) for key, default in shown.items()}
    overrides: dict[str, Any] = {}
    for key in (*_WORDS, "plane", "label_values"):
        if key in values:
            values[key] = _known_word(key, values[key])
            _check_choice(key, values[key], shown[key])
            overrides[key] = None if values[key] == _ANY and key != "prompt_set" else values[key]
    for key in (*_NUMBERS, *_LEVELS):
        if key in values:
            overrides[key] = _number(key, values[key])
    if "states" in values:
        states = [part.strip() for part in _text("states", values["states"]).split(",") if part.strip()]
        overrides["states"] = states or None
    if "window" in values:
        overrides["window"] = _window(_text("window", values["window"]))
    label_values = str(overrides.pop("label_values"))
    moderate, high = (overrides.pop(key) for key in _LEVELS)
    if moderate is None or high is None or moderate > high:
        raise ConfigurationError(f"level_moderate={moderate} and level_high={high}: give two scores, the lower first")
    return RequestOptions(overrides, moderate, high, label_values)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _known_word(key: str, value: Any) -> Any:
    """The panel's own name of an anatomy or modality that is written otherwise, such as FLAIR, or DICOM's MR."""
    # What is unknown is left to the check of the panel's choices, which names them.
    with contextlib.suppress(ConfigurationError):
        if key == "anatomy":
            return library.find(library.anatomies(), value, key, "").key
        if key == "modality":
            return library.find(library.modalities(), value, key, "").key
    return value


def _check_choice(key: str, value: Any, shown: Any) -> None:
    if value not in shown:
        raise ConfigurationError(f"{key}={value!r} is unknown: choose one of {', '.join(map(str, shown))}")


def _number(key: str, value: Any) -> float | int | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "none", "null")):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ConfigurationError(f"{key}={value!r} is no number")
    return int(number) if key == "max_candidates" and number.is_integer() else number


def _text(key: str, value: Any) -> str:
    text = "" if value is None else str(value).strip()
    if not _HARMLESS.fullmatch(text):
        raise ConfigurationError(f"{key}={text!r}: only letters, digits, spaces and . , - _ [ ] are accepted")
    return text


def _window(text: str) -> Any:
    if not text.startswith("["):
        return text or "auto"
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"window={text!r}: give a name, or level and width such as [40, 80]") from error
