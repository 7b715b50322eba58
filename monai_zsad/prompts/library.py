"""The prompt library of the package: anatomies, modalities, states, and the files of named sets."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from monai_zsad.errors import ConfigurationError, did_you_mean
from monai_zsad.prompts.reading import as_text, as_texts, check_keys, check_places, read_yaml
from monai_zsad.prompts.wording import fill

__all__ = ["ANY", "Anatomy", "Modality", "State", "anatomies", "find", "modalities", "set_files", "states"]

#: The entry that is used if no anatomy or no modality is given.
ANY = "any"
_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Anatomy:
    """A body part.

    Attributes:
        key: name in arguments.
        noun: singular and countable; it stands after "a" and "the".
        adjective: it stands before an examination; may be empty.
        aliases: further names in arguments.
    """

    key: str
    noun: str
    adjective: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Modality:
    """A modality or MR sequence.

    Attributes:
        key: name in arguments.
        images: names of an image of this modality, the simplest first.
        examination_text: name of the scan in a report, with a placeholder for the anatomy's adjective.
        anatomies: keys of the anatomies that the modality is meant for; empty for all.
        aliases: further names in arguments.
        signs: keys of the states in which disease shows first in this modality; empty if there are none.
    """

    key: str
    images: tuple[str, ...]
    examination_text: str
    anatomies: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()

    def examination(self, anatomy: Anatomy) -> str:
        """Name of a scan of ``anatomy`` in a report.

        Args:
            anatomy: the scanned anatomy.

        Returns:
            A phrase for a sentence.

        >>> modalities()["flair"].examination(anatomies()["brain"])
        'FLAIR brain MRI scan'
        """
        return " ".join(fill(self.examination_text, {"anatomy": anatomy.adjective}).split())

    def suits(self, anatomy: Anatomy) -> bool:
        """Whether the modality is meant for ``anatomy``. For the entry ``any``, it always is.

        Args:
            anatomy: the scanned anatomy.

        Returns:
            True if both fit.
        """
        return anatomy.key == ANY or not self.anatomies or anatomy.key in self.anatomies


@dataclass(frozen=True)
class State:
    """Phrases for one state: a generic pair, or a finding and its absence.

    Attributes:
        key: name in arguments and sets.
        normal: phrases around ``{}``.
        abnormal: phrases around ``{}``.
        anatomies: keys of the anatomies where the finding occurs; empty for all.
        modalities: keys of the modalities that show it under this name; empty for all.
    """

    key: str
    normal: tuple[str, ...]
    abnormal: tuple[str, ...]
    anatomies: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()

    def suits(self, anatomy: Anatomy, modality: Modality) -> bool:
        """Whether the finding occurs in this anatomy and modality. ``any`` fits only a finding without restriction.

        Args:
            anatomy: the scanned anatomy.
            modality: the modality of the scan.

        Returns:
            True if all fit.
        """
        return (not self.anatomies or anatomy.key in self.anatomies) and (
            not self.modalities or modality.key in self.modalities
        )


@functools.cache
def anatomies() -> Mapping[str, Anatomy]:
    """Anatomies by key, ``"any"`` first."""
    found = {}
    for key, entry, where in _entries("anatomy.yaml", {"noun", "adjective", "aliases"}):
        noun = as_text(entry.get("noun"), f"{where}.noun")
        adjective = as_text(entry["adjective"], f"{where}.adjective") if entry.get("adjective") else ""
        adjective = noun if "adjective" not in entry else adjective
        found[key] = Anatomy(key, noun, adjective, _list(entry, "aliases", where))
    return MappingProxyType(found)


@functools.cache
def modalities() -> Mapping[str, Modality]:
    """Modalities by key, ``"any"`` first."""
    found = {}
    for key, entry, where in _entries("modality.yaml", {"images", "examination", "anatomies", "aliases", "signs"}):
        examination = as_text(entry.get("examination"), f"{where}.examination")
        check_places([examination], f"{where}.examination", ("anatomy",), subject=0)
        found[key] = Modality(
            key,
            as_texts(entry.get("images"), f"{where}.images"),
            examination,
            _known(entry, "anatomies", where, anatomies()),
            _list(entry, "aliases", where),
            _list(entry, "signs", where),
        )
    return MappingProxyType(found)


@functools.cache
def states() -> Mapping[str, State]:
    """States by key: the generic pairs ``"organ"`` and ``"examination"``, then the findings."""
    found = {}
    for key, entry, where in _entries("states.yaml", {"normal", "abnormal", "anatomies", "modalities"}):
        normal, abnormal = (as_texts(entry.get(kind), f"{where}.{kind}") for kind in ("normal", "abnormal"))
        check_places((*normal, *abnormal), where, subject=1)
        found[key] = State(
            key,
            normal,
            abnormal,
            _known(entry, "anatomies", where, anatomies()),
            _known(entry, "modalities", where, modalities()),
        )
    return MappingProxyType(found)


@functools.cache
def set_files() -> Mapping[str, Path]:
    """Files of the named sets by the name of the set."""
    return MappingProxyType({path.stem: path for path in sorted((_DATA / "sets").glob("*.yaml"))})


_Entry = TypeVar("_Entry", Anatomy, Modality, State)


def find(entries: Mapping[str, _Entry], name: str, argument: str, remedy: str) -> _Entry:
    """Find an entry by key or alias. Case, spaces and hyphens do not matter.

    Args:
        entries: result of :func:`anatomies`, :func:`modalities` or :func:`states`.
        name: name that the user wrote.
        argument: name of the argument, for the error.
        remedy: advice for an unknown entry, for the error.

    Raises:
        ConfigurationError: if no entry has this name.

    Example:
        >>> find(modalities(), "X-ray", "modality", "").key
        'xray'
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"{argument} {name!r}: give a text, one of {', '.join(entries)}")
    if (found := _found(entries, name)) is not None:
        return found
    others: list[tuple[Mapping[str, Any], str, str]]
    others = [(anatomies(), "an", "anatomy"), (modalities(), "a", "modality"), (states(), "a", "state")]
    for other, article, kind in others:
        if other is not entries and _found(other, name) is not None:
            raise ConfigurationError(f"{argument} {name!r}: this is {article} {kind}; give it as {kind}")
    hint = did_you_mean(name, entries, also=[alias for entry in entries.values() for alias in _aliases(entry)])
    raise ConfigurationError(f"{argument} {name!r} is unknown; {hint}. {remedy}")


def _found(entries: Mapping[str, _Entry], name: str) -> _Entry | None:
    named = {_plain(key): entry for key, entry in entries.items()}
    for entry in entries.values():
        named |= {_plain(alias): entry for alias in _aliases(entry)}
    return named.get(_plain(name))


def _aliases(entry: Anatomy | Modality | State) -> tuple[str, ...]:
    return getattr(entry, "aliases", ())


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _entries(file: str, keys: set[str]) -> list[tuple[str, dict[str, Any], str]]:
    entries = []
    for key, entry in read_yaml(_DATA / file).items():
        where = f"{file}: {key}"
        check_keys(entry, sorted(keys), where)
        entries.append((key, entry, where))
    return entries


def _list(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    return as_texts(entry[key], f"{where}.{key}") if key in entry else ()


def _known(entry: Mapping[str, Any], key: str, where: str, library: Mapping[str, Any]) -> tuple[str, ...]:
    found = _list(entry, key, where)
    for name in found:
        if name not in library:
            raise ConfigurationError(f"{where}.{key}: {name!r} is unknown; {did_you_mean(name, library)}")
    return found
