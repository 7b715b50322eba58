"""Strict reading of prompt data from YAML files and configurations. Errors name file and key."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from monai_zsad.errors import ConfigurationError, did_you_mean
from monai_zsad.prompts.wording import fill, places

__all__ = ["as_flag", "as_text", "as_texts", "check_keys", "check_places", "read_yaml"]


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but it refuses a key that occurs twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} occurs twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigurationError: if the file is missing, is not valid YAML, has a key twice, or does not hold a mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 (a safe loader)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror or error}): give a YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 text: save it as UTF-8") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"{path}: is not valid YAML ({reason}): a text that begins with {{ or holds a colon needs quotes"
        ) from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: holds {_kind(content)}: give keys such as normal: and abnormal:")
    return content


def check_keys(content: Mapping[Any, Any], known: Collection[str], where: str) -> None:
    """Refuse keys that are not in ``known``."""
    for key in content:
        if key not in known:
            raise ConfigurationError(f"{where}: unknown key {key!r}; {did_you_mean(key, known)}")


def as_text(value: object, where: str) -> str:
    """Check that ``value`` is a text and not empty. White space at its ends is removed."""
    if not isinstance(value, str):
        hint = ": put it in quotes" if value is not None else ": give a text"
        raise ConfigurationError(f"{where} is {_kind(value)}, not a text{hint}")
    if not value.strip():
        raise ConfigurationError(f"{where} is empty: give a text")
    return value.strip()


def as_texts(value: object, where: str, *, empty: bool = False) -> tuple[str, ...]:
    """Check that ``value`` is a list of texts, none of them empty. With ``empty``, the list itself may be empty."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise ConfigurationError(f"{where} is {_kind(value)}: give a list of texts")
    if not value and not empty:
        raise ConfigurationError(f"{where} is an empty list: give at least one text")
    return tuple(as_text(item, f"{where}[{number}]") for number, item in enumerate(value))


def as_flag(value: object, where: str) -> bool:
    """Check that ``value`` is true or false."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{where} is {_kind(value)}: give true or false")
    return value


def check_places(
    texts: Iterable[str], where: str, known: Collection[str] = (), *, subject: int | None = None, remedy: str = ""
) -> None:
    """Refuse unknown placeholders and single braces.

    Args:
        texts: texts to check.
        where: file and key, for the error.
        known: names that a placeholder ``{name}`` may have.
        subject: how often the placeholder ``{}`` must occur; ``None`` for at most once.
        remedy: end of the error about a wrong number of ``{}``.
    """
    for text in texts:
        found = places(text)
        rest = fill(text, dict.fromkeys(found, ""))
        if "{" in rest or "}" in rest:
            raise ConfigurationError(
                f"{where}: {text!r} has a brace without its partner: a placeholder is written {{}}"
            )
        for name in found:
            if name and name not in known:
                allowed = ", ".join("{" + word + "}" for word in ("", *known))
                raise ConfigurationError(
                    f"{where}: {text!r} has an unknown placeholder {{{name}}}: known here are {allowed}"
                )
        count = found.count("")
        if count > 1 or (subject is not None and count != subject):
            needed = "at most one" if subject is None else "exactly one" if subject else "none"
            written = f"{count or 'no'} placeholder{'s' * (count > 1)} {{}}"
            raise ConfigurationError(f"{where}: {text!r} has {written}, but needs {needed}{remedy}")


def _kind(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        # The usual mistake: `- {} with a lesion` or `- finding: mass` without quotes.
        return f"a mapping ({re.sub(r'[{}]', '', str(dict(value)))[:40] or 'empty braces'})"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return f"{value!r} ({type(value).__name__})"
