"""Checks of the options of ``python -m monai.bundle run`` and of ``--set`` and ``--weights``: no unknown names."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_zsad import bundles
from monai_zsad.errors import ConfigurationError, did_you_mean
from monai_zsad.workflow.options.early import read_yaml
from monai_zsad.workflow.options.option import Option
from monai_zsad.workflow.options.table import OPTIONS

__all__ = ["check_options", "check_settings", "read_settings", "weights_setting"]


def check_options(arguments: Sequence[str] | None = None) -> None:
    """Check that each option of MONAI's command line is an id of the configuration files.

    MONAI adds an unknown id to the configuration, and nothing reads it. So ``--windw brain`` would run with the default
    window. A bundle calls this function early in its ``initialize`` list. In other programs it does nothing.

    Args:
        arguments: the command line with the program first. ``None``: the command line of this process.

    Raises:
        ConfigurationError: if an option is not an id of the configuration. The message names similar ids.
    """
    from monai.bundle import ConfigParser

    given = list(sys.argv if arguments is None else arguments)
    if "monai" not in given[0] or len(given) < 2 or given[1] not in ("run", "run_workflow"):
        return
    options = _options(given[2:])
    if "config_file" not in options:
        return
    files = _as_list(options["config_file"])
    own = _own_options()
    config = ConfigParser.load_config_files(files)
    for name in options:
        if name not in own and not _has(config, name.split("#")):
            raise ConfigurationError(_unknown(name, config, _bundle_of(Path(files[0])), own, prefix="--"))


def check_settings(names: Iterable[str], config: Mapping[str, Any], bundle: str = "this bundle") -> None:
    """Check that each name is an id of a configuration. MONAI adds an unknown id, and nothing reads it.

    Args:
        names: ids, for example ``window`` or ``weights#clip``.
        config: content of a bundle's ``inference.yaml``.
        bundle: its name, for the message.

    Raises:
        ConfigurationError: for the first unknown id. The message names similar ids, or the bundles that have it.
    """
    for name in names:
        if not _has(config, name.split("#")):
            raise ConfigurationError(_unknown(name, config, bundle, ()))


def _own_options() -> set[str]:
    from monai.bundle.scripts import run

    return set(inspect.signature(run).parameters)


def _bundle_of(config_file: Path) -> str:
    return config_file.absolute().parent.parent.name if config_file.parent.name == "configs" else "this bundle"


def _unknown(name: str, config: Any, bundle: str, own: Collection[str], prefix: str = "") -> str:
    """The message about a name that a configuration does not have."""
    first, _, part = name.partition("#")
    if first == "weights" and part and isinstance(config.get("weights"), Mapping):
        return f"weights of {bundle}: there is no part {part}; {did_you_mean(part, config['weights'])}"
    by_flag = {option.flag.name.removeprefix("--"): option for option in OPTIONS if option.flag}
    by_id = {option.name: option for option in OPTIONS}
    if (option := by_id.get(first) or by_flag.get(name.replace("_", "-"))) is None:
        # Parts of the run, such as `evaluator`, are seldom meant.
        known = [*(one for one in by_id if one in config), *own]
        hint = did_you_mean(name, known, listed=False, prefix=prefix)
        hint = hint or did_you_mean(name, config, listed=False, prefix=prefix)
        return f"{prefix}{name} is not an option of {bundle}; {hint or 'see its configs/inference.yaml'}"
    shown = f"--{option.name}" if prefix or option.flag is None else option.flag.name
    if option.name in config:
        screens = f", or {option.flag.name} of `screen`" if option.flag else ""
        return f"{prefix}{name} is not an option of {bundle}; give {prefix}{option.name}{screens}"
    having = ", ".join(_bundles_with(option))
    others = f"bundles that take it: {having}" if having else "no bundle has it"
    if option.group == "Prompts" and "prompts" not in config:
        return f"{shown}: {bundle} takes none, because its prompts are learned; {others}"
    return f"{shown} is not an option of {bundle}; {others}"


def _bundles_with(option: Option) -> list[str]:
    return [name for name in bundles.names() if option.name in read_yaml(bundles.path(name) / "configs/inference.yaml")]


def _options(arguments: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument[2:].partition("=")
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
            # The value of a reference (for example "@datalist") or of an expression is unknown here.
            return isinstance(config, str) and config.startswith(("@", "$"))
    return True


def weights_setting(pair: str) -> str:
    """Change ``[NAME:]PART=SOURCE`` of ``--weights`` into a setting of the bundle.

    Raises:
        ConfigurationError: if the part or its source is missing.

    >>> weights_setting("clip=seed:0")
    'weights#clip=seed:0'
    """
    left, equals, source = pair.partition("=")
    name, colon, part = left.rpartition(":")
    if not (part and equals and source):
        raise ConfigurationError(f"--weights {pair}: give a part and a source, for example --weights clip=seed:0")
    return f"{name}{colon}weights#{part}={source}"


def read_settings(pairs: Sequence[str], names: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Read the values of ``--set [NAME:]KEY=VALUE``. Values are YAML.

    Args:
        pairs: the values of ``--set`` on the command line.
        names: names of the bundles.

    Returns:
        Values by key for all bundles, and for single bundles by their names.

    Raises:
        ConfigurationError: if a pair is not ``KEY=VALUE``, if its bundle is unknown, or if its value is not YAML.

    >>> read_settings(["image_size=224", "crane:window=[40, 80]"], ["crane"])
    ({'image_size': 224}, {'crane': {'window': [40, 80]}})
    >>> read_settings(["slice_spacing_mm=None"])  # the same as null in YAML
    ({'slice_spacing_mm': None}, {})
    """
    import yaml

    general: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        left, equals, text = pair.partition("=")
        name, colon, key = left.rpartition(":")
        if not (key and equals):
            raise ConfigurationError(f"--set {pair}: give a key and a value, for example --set image_size=224")
        if colon and name not in names:
            raise ConfigurationError(_unknown_bundle(pair, name, names))
        try:
            value = None if text == "None" else yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigurationError(f"--set {pair}: the value is not YAML; put it in quotes") from error
        (own.setdefault(name, {}) if colon else general)[key] = value
    return general, own


def _unknown_bundle(pair: str, name: str, names: Sequence[str]) -> str:
    if not names:
        return f"{pair}: there is one bundle here, so give the option without {name}: before it"
    return f"{pair}: {name!r} is not one of the bundles; {did_you_mean(name, names)}"
