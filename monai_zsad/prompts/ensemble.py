"""Normal and abnormal sentences, composed of states and templates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from monai_zsad.errors import ConfigurationError
from monai_zsad.prompts.definition import Definition, definition_of
from monai_zsad.prompts.reading import as_flag, as_text, as_texts, check_places
from monai_zsad.prompts.wording import fill, places

__all__ = ["PromptEnsemble"]

_SHOWN = 3


class PromptEnsemble:
    """The sentences for normal and abnormal that a method compares with an image.

    A state is a phrase; it may contain ``{}`` for a name ("{} with a mass"). A template is a text with ``{}`` for the
    state ("an MRI scan of a {}"); ``{image}`` in it is replaced by each of ``images``. The order is: all states for the
    first template, then for the second, and so on for each image. AnoCLIP's test-time adaptation depends on the order,
    which is that of its release. MONAI has no class for prompts.

    In a bundle, write ``_target_: monai_zsad.prompts.PromptEnsemble`` with the lists,
    ``_target_: monai_zsad.prompts.PromptEnsemble.named`` with ``set_name``, ``anatomy`` and ``modality``, or
    ``_target_: monai_zsad.prompts.PromptEnsemble.from_yaml`` with ``path``.

    Args:
        normal: normal states, or complete sentences if there are no templates.
        abnormal: abnormal states or sentences.
        templates: texts with exactly one ``{}``; ``None`` for the states alone.
        name: replaces ``{}`` in a state; then every state needs exactly one. ``None`` for states without ``{}``.
        images: replace ``{image}`` in a template.
        adapt_articles: whether "a" or "an" directly before a placeholder is adapted to the inserted word ("a {}"
            becomes "an abnormal brain"). Other text does not change.
        description: one line about the set.
        source: source of the lists, for errors.

    Raises:
        ConfigurationError: if a list is empty or holds something other than texts, a text has a wrong number of
            placeholders, or two sentences are equal for CLIP (which ignores case and white space).

    Example:
        >>> ensemble = PromptEnsemble(["normal {}"], ["{} with a mass", "abnormal {}"], ["a CT scan of a {}"], "liver")
        >>> ensemble.normal
        ('a CT scan of a normal liver',)
        >>> ensemble.abnormal
        ('a CT scan of a liver with a mass', 'a CT scan of an abnormal liver')
        >>> PromptEnsemble.named("medical", anatomy="brain", modality="FLAIR").abnormal[0]
        'a FLAIR image of an abnormal brain'
    """

    def __init__(
        self,
        normal: Sequence[str],
        abnormal: Sequence[str],
        templates: Sequence[str] | None = None,
        name: str | None = None,
        *,
        images: Sequence[str] | None = None,
        adapt_articles: bool = True,
        description: str = "",
        source: str = "prompts",
    ) -> None:
        self.source = source
        self.description = description
        self.name = None if name is None else as_text(name, f"{source}: name")
        self.normal_states = as_texts(normal, f"{source}: normal")
        self.abnormal_states = as_texts(abnormal, f"{source}: abnormal")
        self.templates = ("{}",) if templates is None else as_texts(templates, f"{source}: templates")
        self.images = () if images is None else as_texts(images, f"{source}: images")
        self.adapt_articles = as_flag(adapt_articles, f"{source}: adapt_articles")
        self._check_texts()
        self._sentences = {kind: self._compose(kind) for kind in ("normal", "abnormal")}
        self._check_duplicates()

    @classmethod
    def named(
        cls,
        set_name: str,
        *,
        anatomy: str | None = None,
        modality: str | None = None,
        name: str | None = None,
        states: Sequence[str] | None = None,
    ) -> PromptEnsemble:
        """A prompt set of the package (:func:`~monai_zsad.prompts.set_names`), or your own.

        Args:
            set_name: name of the set, or a file that ends in ``.yaml`` or ``.yml``, see :meth:`from_yaml`.
            anatomy: key or alias (``"brain"``); ``None`` for general prompts.
            modality: key or alias (``"flair"``, DICOM's ``"CT"``); ``None`` for general prompts.
            name: replaces the set's own name in the states.
            states: library states that replace those of the set, for example ``["organ", "hemorrhage"]``.
                ``"findings"`` stands for all that fit anatomy and modality.

        Returns:
            The set.

        Raises:
            ConfigurationError: if a name is unknown, or the set does not use an argument.

        Example:
            >>> PromptEnsemble.named("aaclip_examination", anatomy="chest", modality="xray").normal[:2]
            ('a normal chest X-ray.', 'an unremarkable chest X-ray.')
        """
        own = str(set_name).lower().endswith((".yaml", ".yml"))
        definition = definition_of(set_name) if own else Definition.named(set_name)
        return cls(**definition.resolve(anatomy, modality, name, states))

    @classmethod
    def from_yaml(
        cls,
        path: str | Path,
        *,
        anatomy: str | None = None,
        modality: str | None = None,
        name: str | None = None,
        states: Sequence[str] | None = None,
    ) -> PromptEnsemble:
        """A set from a YAML file; the arguments are those of :meth:`named`.

        Keys of the file: ``normal``, ``abnormal``, ``templates``, ``name``, ``images``, ``adapt_articles``,
        ``description`` as for this class; ``states`` for library states; ``like`` for a named set, whose keys apply
        where the file has none. ``python -m monai_zsad prompts show SET --yaml`` writes a file to start with.

        Args:
            path: the file.
            anatomy: see :meth:`named`.
            modality: see :meth:`named`.
            name: see :meth:`named`.
            states: see :meth:`named`.

        Returns:
            The set.

        Raises:
            ConfigurationError: if a key or a value cannot be used; it names file and key.
        """
        return cls(**definition_of(path).resolve(anatomy, modality, name, states))

    @property
    def normal(self) -> tuple[str, ...]:
        """The sentences for normal."""
        return self._sentences["normal"]

    @property
    def abnormal(self) -> tuple[str, ...]:
        """The sentences for abnormal."""
        return self._sentences["abnormal"]

    @property
    def sentences(self) -> tuple[str, ...]:
        """All sentences, the normal ones first."""
        return self.normal + self.abnormal

    def check_lengths(self, count_tokens: Callable[[str], int], limit: int = 77) -> None:
        """Refuse sentences that do not fit the text tower.

        Args:
            count_tokens: number of tokens of a sentence, start and end of text included, such as
                ``monai_zsad.backbones.tokenizer.count_tokens``.
            limit: the text tower's context length.

        Raises:
            ConfigurationError: if sentences are too long; it names them. Sentences are never cut.

        Example:
            >>> PromptEnsemble(["normal"], ["not normal"]).check_lengths(lambda text: len(text.split()) + 2)
        """
        counts = {sentence: count_tokens(sentence) for sentence in self.sentences}
        if long := [sentence for sentence, count in counts.items() if count > limit]:
            shown = "; ".join(f"{sentence!r} ({counts[sentence]} tokens)" for sentence in long[:_SHOWN])
            more = f" and {len(long) - _SHOWN} more" if len(long) > _SHOWN else ""
            raise ConfigurationError(
                f"{self.source}: {len(long)} of {len(counts)} sentences are longer than {limit} tokens: {shown}{more}. "
                "Shorten the state, the template or the name"
            )

    def fingerprint(self) -> dict[str, Any]:
        """Number of sentences of each kind, and the SHA-256 of all sentences in their order.

        >>> PromptEnsemble(["fine"], ["ill"]).fingerprint()["sha256"][:8]
        '609d22f4'
        """
        text = json.dumps([self.normal, self.abnormal])
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        return {"normal": len(self.normal), "abnormal": len(self.abnormal), "sha256": sha256}

    def describe(self) -> str:
        """Description of the set and its number of sentences, in a few lines.

        >>> print(PromptEnsemble.named("aaclip").describe())
        aaclip: AA-CLIP as released; `name` is the release's word for a data set ("scan", "colon endoscopy image")
        name: scan
        normal: 3 states x 2 templates = 6 sentences
        abnormal: 5 states x 2 templates = 10 sentences
        """
        lines = [f"{self.source}: {self.description}" if self.description else self.source]
        lines += [f"name: {self.name}"] if self.name is not None else []
        lines += [f"images: {', '.join(self.images)}"] if self.images else []
        count = len(self._full_templates())
        for kind, states in (("normal", self.normal_states), ("abnormal", self.abnormal_states)):
            lines.append(
                f"{kind}: {_number(states, 'state')} x {count} template{'s' * (count != 1)} = "
                f"{_number(self._sentences[kind], 'sentence')}"
            )
        return "\n".join(lines)

    def to_yaml(self) -> str:
        """Content of a file for :meth:`from_yaml` that gives the same sentences, to start your own set.

        >>> print(PromptEnsemble(["normal {}"], ["{} with a mass"], name="liver").to_yaml(), end="")
        name: liver
        normal:
        - normal {}
        abnormal:
        - '{} with a mass'
        """
        content: dict[str, Any] = {"description": self.description} if self.description else {}
        content |= {"name": self.name} if self.name is not None else {}
        content |= {"normal": list(self.normal_states), "abnormal": list(self.abnormal_states)}
        content |= {"templates": list(self.templates)} if self.templates != ("{}",) else {}
        content |= {"images": list(self.images)} if self.images else {}
        content |= {} if self.adapt_articles else {"adapt_articles": False}
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PromptEnsemble) and self._sentences == other._sentences

    def __hash__(self) -> int:
        return hash((self.normal, self.abnormal))

    def __repr__(self) -> str:
        return f"PromptEnsemble({self.source!r}, {len(self.normal)} normal, {len(self.abnormal)} abnormal)"

    def _check_texts(self) -> None:
        if self.name is None:
            wanted, remedy = 0, " without a name: give name, or write the name into the states"
        else:
            wanted, remedy = 1, f" for the name {self.name!r}"
        for kind, states in (("normal", self.normal_states), ("abnormal", self.abnormal_states)):
            check_places(states, f"{self.source}: {kind}", subject=wanted, remedy=remedy)
        check_places(self.templates, f"{self.source}: templates", ("image",), subject=1, remedy=" for the state")
        for key, texts in (("images", self.images), ("name", () if self.name is None else (self.name,))):
            check_places(texts, f"{self.source}: {key}", subject=0)
        with_image = [template for template in self.templates if "image" in places(template)]
        if with_image and not self.images:
            raise ConfigurationError(
                f"{self.source}: images is missing: the template {with_image[0]!r} has a placeholder {{image}}"
            )
        if self.images and not with_image:
            raise ConfigurationError(f"{self.source}: images is given, but no template has a placeholder {{image}}")

    def _full_templates(self) -> list[str]:
        """Templates with their images. A template without ``{image}`` occurs once."""
        found: list[str] = []
        for number, image in enumerate(self.images or ("",)):
            for template in self.templates:
                if "image" in places(template):
                    # The article of the image is always adapted, also in the releases ("an industrial photo").
                    found.append(fill(template, {"image": image}))
                elif number == 0:
                    found.append(template)
        return found

    def _compose(self, kind: str) -> tuple[str, ...]:
        states = self.normal_states if kind == "normal" else self.abnormal_states
        if self.name is not None:
            states = tuple(fill(state, {"": self.name}, adapt_articles=self.adapt_articles) for state in states)
        return tuple(
            fill(template, {"": state}, adapt_articles=self.adapt_articles)
            for template in self._full_templates()
            for state in states
        )

    def _check_duplicates(self) -> None:
        seen: dict[str, str] = {}
        for kind, sentences in self._sentences.items():
            for sentence in sentences:
                plain = " ".join(sentence.lower().split())
                if plain in seen:
                    lists = kind if seen[plain] == kind else f"{seen[plain]} and {kind}"
                    raise ConfigurationError(
                        f"{self.source}: {lists}: the sentence {sentence!r} occurs twice (case and white space do not "
                        "count): remove one of the states, templates or images that give it"
                    )
                seen[plain] = kind


def _number(items: Sequence[str], word: str) -> str:
    return f"{len(items)} {word}{'s' * (len(items) != 1)}"
