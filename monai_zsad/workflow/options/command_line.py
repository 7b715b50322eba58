"""Options of ``python -m monai.bundle run``: a misspelt one must not be taken for a new configuration value."""

from __future__ import annotations

import ast
import difflib
import inspect
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_zsad.errors import ConfigurationError

__all__ = ["check_options", "check_settings", "read_settings", "weights_setting"]


def check_options(arguments: Sequence[str] | None = None) -> None:
    """Compare the options of MONAI's command line with the ids of the configuration files that it names.

    MONAI adds an unknown id to the configuration, where nothing reads it, so ``--windw brain`` would run with the
    default window. Early in a bundle's ``initialize`` list; does nothing in other programs.

    Args:
        arguments: the command line, program first; ``None`` for this process'.

    Raises:
        ConfigurationError: if an option is no id of the configuration, with the nearest ones.
    """
    from monai.bundle import ConfigParser

    words = list(sys.argv if arguments is None else arguments)
    if "monai" not in words[0] or len(words) < 2 or words[1] not in ("run", "run_workflow"):
        return
    options = _options(words[2:])
    if "config_file" not in options:
        return
    _refuse_unknown(options, ConfigParser.load_config_files(_as_list(options["config_file"])), _own_options())


def check_settings(names: Iterable[str], config_files: Sequence[Path]) -> None:
    """Compare ids with those of a bundle's configuration files; MONAI would add unknown ones, where nothing reads them.

    Args:
        names: ids, such as ``window`` or ``weights#clip``.
        config_files: that stand over one another.

    Raises:
        ConfigurationError: for the first unknown id, with the nearest ones.
    """
    from monai.bundle import ConfigParser

    _refuse_unknown(names, ConfigParser.load_config_files([str(file) for file in config_files]), ())


def _own_options() -> set[str]:
    from monai.bundle.scripts import run

    return set(inspect.signature(run).parameters)


def _refuse_unknown(names: Iterable[str], config: Any, own: Collection[str]) -> None:
    for name in names:
        if name in own or _has(config, name.split("#")):
            continue
        near = difflib.get_close_matches(name, [*config, *own], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join('--' + word for word in near)}?" if near else "see configs/inference.yaml"
        raise ConfigurationError(f"--{name} is no option of this bundle: {hint}")


def _options(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            found[name] = value if equals else following
    return found


def _as_list(value: str) -> list[str]:
    if value.startswith(("[", "(")):
        return [str(item) for item in ast.literal_eval(value)]
    return value.split(",")


def _has(config: Any, path: Sequence[str]) -> bool:
    for part in path:
        if isinstance(config, Mapping) and part in config:
            config = config[part]
        elif isinstance(config, list) and part.isdigit() and int(part) < len(config):
            config = config[int(part)]
        else:
            # What a reference such as "@datalist" or an expression holds is not known here.
            return isinstance(config, str) and config.startswith(("@", "$"))
    return True


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
