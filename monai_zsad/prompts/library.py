"""The words that come with the package: anatomies, modalities, states, and the definitions of named sets."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from monai_zsad.errors import ConfigurationError
from monai_zsad.prompts.reading import as_text, as_texts, check_keys, check_places, did_you_mean, read_yaml
from monai_zsad.prompts.wording import fill

__all__ = ["ANY", "Anatomy", "Modality", "State", "anatomies", "find", "modalities", "set_files", "states"]

#: The entry that is taken when no anatomy or no modality is asked for.
ANY = "any"
_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Anatomy:
    """A body part.

    Attributes:
        key: name in arguments.
        noun: singular and countable, for after "a" and "the".
        adjective: for before an examination; may be empty.
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
        images: what a picture is called, the plainest first.
        examination_text: what a report calls the scan, with a place for the anatomy's adjective.
        anatomies: keys of the anatomies that the modality is made for; empty for all.
        aliases: further names in arguments.
        signs: keys of the states by which disease shows in it first; empty where there is no such sign.
    """

    key: str
    images: tuple[str, ...]
    examination_text: str
    anatomies: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()

    def examination(self, anatomy: Anatomy) -> str:
        """The scan of ``anatomy`` as a report calls it.

        Args:
            anatomy: what is scanned.

        Returns:
            Words for a sentence.

        >>> modalities()["flair"].examination(anatomies()["brain"])
        'FLAIR brain MRI scan'
        """
        return " ".join(fill(self.examination_text, {"anatomy": anatomy.adjective}).split())

    def suits(self, anatomy: Anatomy) -> bool:
        """Whether the modality is made for ``anatomy``; always so for the entry ``any``.

        Args:
            anatomy: what is scanned.

        Returns:
            True where both go together.
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
        """Whether the finding belongs to this anatomy and modality; unknown ones (``any``) fit no restriction.

        Args:
            anatomy: what is scanned.
            modality: how it is scanned.

        Returns:
            True where all go together.
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
    """Files of the named sets that are data, by name."""
    return MappingProxyType({path.stem: path for path in sorted((_DATA / "sets").glob("*.yaml"))})


_Word = TypeVar("_Word", Anatomy, Modality, State)


def find(words: Mapping[str, _Word], name: str, argument: str, remedy: str) -> _Word:
    """The entry of ``words`` that ``name`` means, by key or alias; case, spaces and hyphens do not matter.

    Args:
        words: what :func:`anatomies`, :func:`modalities` or :func:`states` returned.
        name: what the user wrote.
        argument: name of the argument, for the error.
        remedy: what to do for an entry that is not there, for the error.

    Raises:
        ConfigurationError: if no entry has that name.

    Example:
        >>> find(modalities(), "X-ray", "modality", "").key
        'xray'
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"{argument}={name!r}: give a text, one of {', '.join(words)}")
    known = {_plain(key): word for key, word in words.items()}
    for word in words.values():
        known |= {_plain(alias): word for alias in getattr(word, "aliases", ())}
    if (plain := _plain(name)) in known:
        return known[plain]
    raise ConfigurationError(f"{argument}={name!r} is unknown; {did_you_mean(name, tuple(words))}. {remedy}")


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


def _known(entry: Mapping[str, Any], key: str, where: str, words: Mapping[str, Any]) -> tuple[str, ...]:
    found = _list(entry, key, where)
    for name in found:
        if name not in words:
            raise ConfigurationError(f"{where}.{key}: {name!r} is unknown; {did_you_mean(name, tuple(words))}")
    return found
