"""Options of one request: the panel that a client of MONAI Label shows, and the values that it sends back."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monai_zsad.errors import ConfigurationError
from monai_zsad.prompts import library, set_names
from monai_zsad.workflow.options.table import OPTIONS

__all__ = ["LABEL_VALUES", "PLANES", "RequestOptions", "default_levels", "panel", "read_options"]

PLANES = next(option.choices for option in OPTIONS if option.name == "plane")
LABEL_VALUES = ("auto", "fixed", "compact")
"""Ways to number the levels: see :attr:`RequestOptions.label_values`."""

_PROMPTS = ("prompt_set", "anatomy", "modality")
_NUMBERS = ("candidate_threshold", "min_volume_mm3", "border_mm", "max_candidates")
_LEVELS = {"level_moderate": 0.65, "level_high": 0.8}
_ANY = "any"
# MONAI runs a text that starts with $ as Python, and resolves @ and %. A client must not be able to send such a text.
_HARMLESS = re.compile(r"[\w .,\-\[\]]*", re.ASCII)


@dataclass(frozen=True)
class RequestOptions:
    """The checked values of one request.

    Attributes:
        overrides: values by their id in the bundle's ``inference.yaml``.
        level_moderate: a candidate with this peak score or a higher one has level 2.
        level_high: a candidate with this peak score or a higher one has level 3.
        label_values: how levels are numbered. ``"fixed"``: 1 low, 2 moderate, 3 high suspicion. ``"compact"``: the
            levels that occur, without gaps; 3D Slicer's plugin needs this, because it names segments by their order.
            ``"auto"``: compact if the client asks for ``uint8``, as only that plugin does, else fixed.
    """

    overrides: Mapping[str, Any]
    level_moderate: float
    level_high: float
    label_values: str


def panel(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a client shows for a bundle. A list is a choice; its first item is the default.

    Args:
        config: content of the bundle's ``inference.yaml``. Options that it does not have are left out.

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
    """Return the scores at which the levels begin by default."""
    return RequestOptions({}, _LEVELS["level_moderate"], _LEVELS["level_high"], "fixed")


def read_options(request: Mapping[str, Any], shown: Mapping[str, Any]) -> RequestOptions:
    """Read the options from a client's request. A missing option has the panel's default; other keys are ignored.

    Args:
        request: parameters as the client sent them. A number may be a text, and a choice may be the panel's list.
        shown: options of the panel, from :func:`panel`.

    Raises:
        ConfigurationError: if a value cannot be used.

    Example:
        >>> read_options({"candidate_threshold": "0.6"}, panel({"candidate_threshold": 0.5})).overrides
        {'candidate_threshold': 0.6}
    """
    values = {key: _first(request.get(key, default)) for key, default in shown.items()}
    overrides: dict[str, Any] = {}
    for key in (*_PROMPTS, "plane", "label_values"):
        if key in values:
            values[key] = _known_key(key, values[key])
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
        raise ConfigurationError(f"level_moderate={moderate}, level_high={high}: give the lower score first")
    return RequestOptions(overrides, moderate, high, label_values)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _known_key(key: str, value: Any) -> Any:
    """Return the panel's name of an anatomy or modality that has other names, such as FLAIR or DICOM's MR."""
    # The check of the panel's choices reports unknown names, with the known ones.
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
        raise ConfigurationError(f"{key}={value!r} is not a number: give a number, such as 0.5")
    return int(number) if key == "max_candidates" and number.is_integer() else number


def _text(key: str, value: Any) -> str:
    text = "" if value is None else str(value).strip()
    if not _HARMLESS.fullmatch(text):
        raise ConfigurationError(f"{key}={text!r}: use only letters, digits, spaces and . , - _ [ ]")
    return text


def _window(text: str) -> Any:
    if not text.startswith("["):
        return text or "auto"
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"window={text!r}: give a name, or level and width such as [40, 80]") from error
