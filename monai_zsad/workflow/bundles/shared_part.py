"""The part of ``inference.yaml`` that all bundles share: written from the table of options and one file.

MONAI Label reads ``inference.yaml`` alone, and a bundle is the whole truth of its run. So each bundle holds the shared
part, but the part has one source. :func:`with_shared_part` writes it again and keeps the bundle's own part. A change
is made once, and a test compares all bundles with it.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.options.table import OPTIONS
from monai_zsad.workflow.options.views import yaml_lines
from monai_zsad.writers.files import atomic_path

__all__ = ["OPTIONS_MARK", "STEPS_MARK", "update_bundle", "with_shared_part"]

OPTIONS_MARK = "# ---- options that all bundles have"
"""Begins the first line of the shared part; above it, the bundle's own part."""

STEPS_MARK = "# ---- from scan to results, the same in all bundles"

_WRITTEN = "; written by `python -m monai_zsad bundle update`"
_WIDTH = 120


def with_shared_part(text: str) -> str:
    """An ``inference.yaml`` with the shared part of this release.

    Args:
        text: of the file. Its own part, above the line that begins with :data:`OPTIONS_MARK`, stays as it is. An option
            that stands there keeps its value and is left out of the shared part; so does a step, such as ``inferer``.

    Returns:
        The new text.

    Raises:
        ConfigurationError: if the text has no such line.
    """
    head, mark, _ = text.partition(f"\n{OPTIONS_MARK}")
    if not mark:
        raise ConfigurationError(
            f"inference.yaml has no line {OPTIONS_MARK!r}: start from a copy of a bundle of this release"
        )
    own = yaml.safe_load(head) or {}
    options = "\n".join(yaml_lines(own))
    return f"{head}\n{OPTIONS_MARK}{_WRITTEN}\n{options}\n\n{STEPS_MARK}{_WRITTEN}\n{_steps(own)}"


def _steps(own: dict[str, Any]) -> str:
    text = files("monai_zsad.workflow.bundles").joinpath("shared.yaml").read_text(encoding="utf-8")
    lacking = [option.name for option in OPTIONS if not option.everywhere and option.name not in own]
    # Each step begins at the margin.
    steps = re.split(r"(?m)^(?=\w+:)", text)
    lines = "".join(step for step in steps if step.partition(":")[0] not in own).splitlines()
    lines = [line for line in lines if not any(re.search(rf"'@{name}'", line) for name in lacking)]
    known = [option.name for option in OPTIONS if option.name not in lacking]
    return "\n".join(lines).replace("{settings}", _settings(known)) + "\n"


def _settings(names: list[str]) -> str:
    """The line of the settings, a flow mapping over as many lines as it needs."""
    entries = ["_target_: monai_zsad.workflow.Settings", *(f"{name}: '@{name}'" for name in names)]
    lines = ["settings: {" + entries[0]]
    for entry in entries[1:]:
        if len(lines[-1]) + len(entry) + 3 > _WIDTH:
            lines[-1] += ","
            lines.append(f"  {entry}")
        else:
            lines[-1] += f", {entry}"
    return "\n".join(lines) + "}"


def update_bundle(bundle: Path, write: bool = True) -> bool:
    """Write the shared part of a bundle's ``inference.yaml`` again.

    Args:
        bundle: its folder.
        write: False only compares.

    Returns:
        Whether the file has changed, or would change.

    Raises:
        ConfigurationError: see :func:`with_shared_part`; or if the folder is not a bundle.
    """
    config = bundle / "configs" / "inference.yaml"
    if not config.is_file():
        raise ConfigurationError(f"{bundle} is not a bundle: it has no configs/inference.yaml")
    before = config.read_text(encoding="utf-8")
    after = with_shared_part(before)
    if write and before != after:
        with atomic_path(config) as temporary:
            temporary.write_text(after, encoding="utf-8")
    return before != after
