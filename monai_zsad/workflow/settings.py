"""Values of a bundle's configuration, as they are given on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai_zsad.errors import ConfigurationError

__all__ = ["read_settings", "weights_setting"]


def weights_setting(pair: str) -> str:
    """``[NAME:]PART=SOURCE`` as a setting of the bundle's ``weights``.

    Raises:
        ConfigurationError: if a part or its source is missing.

    >>> weights_setting("clip=seed:0")
    'weights#clip=seed:0'
    """
    left, equals, source = pair.partition("=")
    name, colon, part = left.rpartition(":")
    if not (part and equals and source):
        raise ConfigurationError(f"--weights {pair}: give a part and a source, such as --weights clip=seed:0")
    return f"{name}{colon}weights#{part}={source}"


def read_settings(pairs: Sequence[str], names: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Values for all bundles and for single ones, of ``[NAME:]KEY=VALUE``; values are read as YAML.

    Args:
        pairs: as given on the command line.
        names: of the bundles.

    Raises:
        ConfigurationError: if a pair is none, names no bundle, or its value is no YAML.

    >>> read_settings(["image_size=224", "crane:window=[40, 80]"], ["crane"])
    ({'image_size': 224}, {'crane': {'window': [40, 80]}})
    >>> read_settings(["slice_spacing_mm=None"])  # as well as YAML's null
    ({'slice_spacing_mm': None}, {})
    """
    import yaml

    general: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        left, equals, text = pair.partition("=")
        name, colon, key = left.rpartition(":")
        if not (key and equals):
            raise ConfigurationError(f"--set {pair}: give a key and a value, such as --set image_size=224")
        if colon and name not in names:
            raise ConfigurationError(f"{pair}: {name!r} is none of the bundles {', '.join(names)}")
        try:
            value = None if text == "None" else yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigurationError(f"--set {pair}: the value is no YAML; put it in quotes") from error
        (own.setdefault(name, {}) if colon else general)[key] = value
    return general, own
