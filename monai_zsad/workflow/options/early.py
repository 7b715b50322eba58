"""Checks before anything heavy is imported, so that a wrong value, path, device or name is reported at once."""

from __future__ import annotations

import copy
import itertools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from monai_zsad.errors import ConfigurationError
from monai_zsad.flags import parse_flag
from monai_zsad.workflow.options.table import OPTIONS, check_together

__all__ = ["check_start", "check_values", "read_yaml", "with_overrides"]

_FIND_CASES = "$monai_zsad.workflow.find_cases(@dataset_dir, @output_dir"
# libyaml is ten times as fast, where it is installed.
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_EXAMINED = 500
_NAMED_PROMPTS = "monai_zsad.prompts.PromptEnsemble.named"


def read_yaml(file: Path) -> dict[str, Any]:
    """The content of a configuration file, without MONAI's parser.

    Args:
        file: of YAML or JSON.

    Raises:
        ConfigurationError: if it is not YAML.
    """
    try:
        return dict(yaml.load(file.read_text(encoding="utf-8"), Loader=_SafeLoader) or {})  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not a YAML file; correct it: {' '.join(str(error).split())}") from error


def with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with values by id in place of its own.

    Args:
        config: content of ``inference.yaml``.
        overrides: by id; ``weights#clip`` is the entry ``clip`` of ``weights``.

    Example:
        >>> with_overrides({"window": "auto", "weights": {"clip": None}}, {"weights#clip": "seed:0"})
        {'window': 'auto', 'weights': {'clip': 'seed:0'}}
    """
    values: Any = copy.deepcopy(dict(config))
    for name, value in overrides.items():
        *folders, last = name.split("#")
        place = values
        for folder in folders:
            place = place.get(folder) if isinstance(place, dict) else None
        # What an expression or a list holds, only MONAI's parser knows.
        if isinstance(place, dict):
            place[last] = value
    return dict(values)


def check_values(values: Mapping[str, Any]) -> None:
    """Compare the values of options with the table. Expressions of MONAI's configuration are left to the run.

    Args:
        values: of :func:`with_overrides`.

    Raises:
        ConfigurationError: for the first value that cannot be used.
    """
    known = {
        option.name: option.parse(values[option.name])
        for option in OPTIONS
        if option.name in values and _is_known(values[option.name])
    }
    check_together(known)


def check_start(values: Mapping[str, Any]) -> None:
    """Check what a run needs on this machine: scans, device and runtime, prompts, weights, calibration, and its folder.

    Each is checked by the function that the run itself calls, or by the part of it that needs no torch.

    Args:
        values: of :func:`with_overrides`.

    Raises:
        ConfigurationError: for a device, runtime or prompts that cannot be used.
        InputError: if the scans or the reference do not exist, or the calibration cannot be read.
        OutputError: if the output folder cannot be used, or holds results of the same cases.
        WeightsError: if a weights file does not exist, or a name is unknown.
    """
    _check_scans(values)
    _check_runtime(values)
    _check_prompts(values)
    _check_weights(values)
    if (reference := values.get("reference")) and _is_known(reference):
        from monai_zsad.data.discovery import require_path

        require_path(reference)
    if (file := values.get("calibration")) and _is_known(file):
        from monai_zsad.workflow.calibration import load_calibration

        load_calibration(file)
    _check_output(values)


def _is_known(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_known, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_known, value))
    return not (isinstance(value, str) and value.startswith(("$", "@", "%")))


def _check_runtime(values: Mapping[str, Any]) -> None:
    from monai_zsad.networks.runtimes.options import check_runtime

    runtime, precision, device, amp, file = (
        values.get(name) for name in ("runtime", "precision", "device", "amp", "runtime_file")
    )
    if not _is_known(device):
        # The run chooses one that it has.
        device = "cpu"
    if None not in (runtime, precision, device) and _is_known([runtime, precision, amp, file]):
        check_runtime(str(runtime), str(precision), str(device), amp or False, file)


def _check_prompts(values: Mapping[str, Any]) -> None:
    prompts = values.get("prompts")
    if not isinstance(prompts, Mapping) or prompts.get("_target_") != _NAMED_PROMPTS:
        return
    given = {name: value for name, value in prompts.items() if name != "_target_"}
    for name, value in given.items():
        if isinstance(value, str) and value.startswith("@"):
            given[name] = values.get(value[1:], value)
    if _is_known(given):
        from monai_zsad.prompts import PromptEnsemble

        PromptEnsemble.named(**given)


def _check_weights(values: Mapping[str, Any]) -> None:
    weights = values.get("weights")
    sources = [source for source in weights.values() if source] if isinstance(weights, Mapping) else []
    if sources and _is_known(sources):
        from monai_zsad.backbones.weights import check_source

        for source in sources:
            check_source(source)


def _check_scans(values: Mapping[str, Any]) -> None:
    scans = values.get("dataset_dir")
    if not (isinstance(scans, str) and _is_known(scans)):
        return
    from monai_zsad.data.discovery import find_scans, is_query, require_path

    if is_query(scans):
        return
    root = Path(scans).expanduser()
    if not root.exists():
        require_path(scans)
    elif root.is_dir() and not _may_hold_scans(root):
        # It says what lies there instead.
        find_scans(scans)


def _may_hold_scans(folder: Path) -> bool:
    """Whether one of the first files may be a scan, or there are too many to be looked at here."""
    files = (Path(base, name) for base, _, names in os.walk(folder) for name in names)
    return any(map(_may_be_scan, itertools.islice(files, _MOST_EXAMINED))) or next(files, None) is not None


def _may_be_scan(file: Path) -> bool:
    from pydicom.misc import is_dicom

    from monai_zsad.data.dicom.files import may_be_bare
    from monai_zsad.data.formats import IMAGE_SUFFIXES, SLICE_SUFFIXES

    if file.name.lower().endswith((*IMAGE_SUFFIXES, *SLICE_SUFFIXES, ".zip")):
        return True
    try:
        return file.is_file() and (is_dicom(file) or may_be_bare(file))
    except OSError:
        return True


def _check_output(values: Mapping[str, Any]) -> None:
    """Cases are found here only if the folder holds results; the run finds them again."""
    from monai_zsad.data.discovery import is_query
    from monai_zsad.workflow.cases.output_folder import check_output, holds_results

    folder, scans = values.get("output_dir"), values.get("dataset_dir")
    if not (isinstance(folder, str) and _is_known(folder)):
        return
    flags = [values.get(name, False) for name in ("overwrite", "resume", "retry_failed")]
    overwrite, *resumed = (not _is_known(flag) or parse_flag("overwrite or resume", flag) for flag in flags)
    cases: list[dict[str, Any]] = []
    if not (overwrite or any(resumed)) and str(values.get("datalist", "")).startswith(_FIND_CASES):
        options = {name: values.get(name) for name in ("case_names", "series", "order")}
        if holds_results(folder) and _is_known([scans, options]) and not is_query(str(scans)):
            cases = _find_cases(str(scans), folder, options)
    check_output(folder, cases, overwrite, any(resumed))


def _find_cases(scans: str, folder: str, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    from monai_zsad.workflow.cases.names import find_cases

    logger = logging.getLogger("monai_zsad")
    level = logger.level
    # The run says it again.
    logger.setLevel(logging.ERROR)
    try:
        return find_cases(scans, folder, options["case_names"], series=options["series"], order=options["order"])
    finally:
        logger.setLevel(level)
