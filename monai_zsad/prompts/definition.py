"""Definitions of prompt sets: the content of a YAML file, and its use for one anatomy and modality."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_zsad.errors import ConfigurationError, did_you_mean
from monai_zsad.prompts.learned import learned_prompt_texts
from monai_zsad.prompts.library import ANY, Anatomy, Modality, State, anatomies, find, modalities, set_files, states
from monai_zsad.prompts.reading import as_flag, as_text, as_texts, check_keys, check_places, read_yaml
from monai_zsad.prompts.wording import fill, places

__all__ = ["FINDINGS", "SIGNS", "Definition", "definition_of", "set_names"]

logger = logging.getLogger(__name__)

#: In ``states``, it stands for all findings that fit the anatomy and the modality.
FINDINGS = "findings"
#: In ``states``, it stands for the signs of disease of the modality, or for ``organ`` if the modality has none.
SIGNS = "signs"
_GROUPS = (FINDINGS, SIGNS)
_LEARNED = {
    "crane": "Crane as released: the two texts around which context vectors are learned",
    "anomalyclip": "AnomalyCLIP as released: the two texts around which context vectors are learned",
}
_KEYS = ("description", "like", "name", "states", "normal", "abnormal", "templates", "images", "adapt_articles")
_PLACEHOLDERS = ("anatomy", "examination")


def set_names() -> tuple[str, ...]:
    """Names of all prompt sets of the package."""
    return tuple(sorted({*_LEARNED, *set_files()}))


@dataclass(frozen=True)
class Definition:
    """A prompt set before an anatomy and a modality are chosen.

    Attributes:
        source: name of the set or of the file, for errors.
        description: one line about the set.
        name: replaces ``{}`` in a state; it may contain ``{anatomy}`` and ``{examination}``. ``None`` for states
            without ``{}``.
        states: keys of library states, ``"findings"`` or ``"signs"``.
        normal: normal phrases of the set, after those of ``states``.
        abnormal: abnormal phrases of the set, after those of ``states``.
        templates: texts around a state ``{}``, with a placeholder ``{image}`` for the name of the image.
        images: names of the image; empty for those of the modality.
        adapt_articles: whether "a" or "an" before a placeholder is adapted to the inserted word.
    """

    source: str
    description: str = ""
    name: str | None = None
    states: tuple[str, ...] = ()
    normal: tuple[str, ...] = ()
    abnormal: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("{}",)
    images: tuple[str, ...] = ()
    adapt_articles: bool = True

    @classmethod
    def named(cls, name: str) -> Definition:
        """The definition of one of :func:`set_names`.

        Raises:
            ConfigurationError: if there is no such set.
        """
        if name in _LEARNED:
            normal, abnormal = learned_prompt_texts()
            return cls(name, _LEARNED[name], normal=(normal,), abnormal=(abnormal,))
        if name not in set_files():
            hint = did_you_mean(name, set_names())
            raise ConfigurationError(
                f"the prompt set {name!r} is unknown; {hint}. Your own set is a file ending in .yaml"
            )
        return cls.parse(read_yaml(set_files()[name]), name)

    @classmethod
    def parse(cls, content: Mapping[str, Any], source: str) -> Definition:
        """Check the keys of a YAML file, and add those of the set that ``like`` names.

        A file with its own phrases (``normal`` or ``abnormal``) does not inherit ``states``.

        Raises:
            ConfigurationError: if a key or a value cannot be used; it names source and key.
        """
        check_keys(content, _KEYS, source)
        changes: dict[str, Any] = {"source": source}
        base = cls(source)
        if "like" in content:
            base = cls.named(as_text(content["like"], f"{source}: like"))
            if {"normal", "abnormal"} & content.keys():
                changes["states"] = ()
        if "description" in content:
            changes["description"] = as_text(content["description"], f"{source}: description")
        if "name" in content:
            value = content["name"]
            changes["name"] = None if value is None else as_text(value, f"{source}: name")
        for key in ("states", "normal", "abnormal", "templates", "images"):
            if key in content:
                changes[key] = as_texts(content[key], f"{source}: {key}", empty=key == "states")
        if "adapt_articles" in content:
            changes["adapt_articles"] = as_flag(content["adapt_articles"], f"{source}: adapt_articles")
        definition = dataclasses.replace(base, **changes)
        definition._check()
        return definition

    def _check(self) -> None:
        for key in self.states:
            if key not in _GROUPS:
                self._state(key)
        if self.name is not None:
            check_places([self.name], f"{self.source}: name", _PLACEHOLDERS, subject=0)
        for kind in ("normal", "abnormal"):
            if not (getattr(self, kind) or self.states):
                raise ConfigurationError(f"{self.source}: {kind} is missing: give a list of phrases, or states")
            check_places(getattr(self, kind), f"{self.source}: {kind}", _PLACEHOLDERS)
        check_places(self.templates, f"{self.source}: templates", (*_PLACEHOLDERS, "image"), subject=1)
        check_places(self.images, f"{self.source}: images", subject=0)

    def _state(self, key: str) -> State:
        return find(
            states(),
            key,
            f"{self.source}: state",
            f"{FINDINGS} stands for all findings that fit, {SIGNS} for the signs of the modality",
        )

    def _uses(self, word: str) -> bool:
        texts = (self.name or "", *self.normal, *self.abnormal, *self.templates)
        return any(word in places(text) for text in texts)

    def resolve(
        self,
        anatomy: str | None = None,
        modality: str | None = None,
        name: str | None = None,
        states: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """The arguments of :class:`~monai_zsad.prompts.PromptEnsemble` for one anatomy and modality.

        Args:
            anatomy: key or alias of an anatomy; ``None`` for general prompts.
            modality: key or alias of a modality; ``None`` for general prompts.
            name: replaces the set's own name in the states.
            states: keys of library states and ``"findings"``; they replace the set's own states and phrases.

        Raises:
            ConfigurationError: if an argument is unknown, or the set does not use it.
        """
        definition = self
        if states is not None:
            keys = as_texts(states, "states")
            definition = dataclasses.replace(definition, states=keys, normal=(), abnormal=())
        if name is not None:
            if self.name is None:
                raise ConfigurationError(f"name={name!r}: the sentences of {self.source} have no place for a name")
            definition = dataclasses.replace(definition, name=as_text(name, "name"))
        definition._check()
        definition._refuse_unused(anatomy, modality)
        part = find(anatomies(), ANY if anatomy is None else anatomy, "anatomy", "For any other, leave it out")
        made = find(modalities(), ANY if modality is None else modality, "modality", "For any other, leave it out")
        if not made.suits(part):
            logger.warning(
                "modality %r is meant for %s, not for %r: check the sentences before you use them",
                *(made.key, " and ".join(made.anatomies), part.key),
            )
        return definition._put(part, made)

    def _refuse_unused(self, anatomy: str | None, modality: str | None) -> None:
        free = FINDINGS in self.states or self._uses("examination")
        with_image = SIGNS in self.states or (self._uses("image") and not self.images)
        remedy = "" if self.name is None else "put the word into name, or "
        remedy += "take a set that follows anatomy and modality, such as medical or anoclip_medical"
        for argument, value, used in (
            ("anatomy", anatomy, free or self._uses("anatomy")),
            ("modality", modality, free or with_image),
        ):
            if value is not None and not used:
                own = argument == "modality" and self.images
                reason = "has its own images" if own else "has no place for it"
                raise ConfigurationError(f"{argument} {value!r}: {self.source} {reason}; {remedy}")

    def _put(self, anatomy: Anatomy, modality: Modality) -> dict[str, Any]:
        words = {"anatomy": anatomy.noun, "examination": modality.examination(anatomy)}

        def put(texts: Sequence[str]) -> list[str]:
            return [fill(text, words, adapt_articles=self.adapt_articles) for text in texts]

        chosen: list[State] = []
        for key in self.states:
            if key == FINDINGS:
                chosen += [state for state in _findings() if state.suits(anatomy, modality)]
            elif key == SIGNS:
                chosen += [self._state(sign) for sign in modality.signs or ("organ",)]
            else:
                chosen.append(self._state(key))
        # A finding that is named and also belongs to a group counts once.
        chosen = list(dict.fromkeys(chosen))
        if not chosen and not (self.normal and self.abnormal):
            raise ConfigurationError(
                f"{self.source}: no finding is known for anatomy {anatomy.key!r} and modality {modality.key!r}: add "
                "organ or examination to states"
            )
        result: dict[str, Any] = {
            "name": None if self.name is None else put([self.name])[0],
            "normal": [phrase for state in chosen for phrase in state.normal] + put(self.normal),
            "abnormal": [phrase for state in chosen for phrase in state.abnormal] + put(self.abnormal),
            "templates": put(self.templates),
            "images": list(self.images or (modality.images if self._uses("image") else ())) or None,
            "adapt_articles": self.adapt_articles,
            "description": self.description,
            "source": self.source,
        }
        return result


def definition_of(path: str | Path) -> Definition:
    """The definition in a YAML file of the user."""
    return Definition.parse(read_yaml(Path(path)), str(path))


def _findings() -> list[State]:
    return [state for key, state in states().items() if key not in ("organ", "examination")]
