"""Concepts: kinds of synthetic lesions that a prompt can name, and training sentences that name them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from monai_zsad.prompts.library import anatomies, modalities, states
from monai_zsad.prompts.reading import read_yaml
from monai_zsad.prompts.wording import fill

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Concept", "concepts"]

_FILE = Path(__file__).parent / "data" / "concepts.yaml"
_TEMPLATES = ("a {image} of a {}", "a {image} of the {}", "a {image} showing a {}", "a {}")


@dataclass(frozen=True)
class Concept:
    """A kind of synthetic lesions that a prompt can name.

    Attributes:
        key: name of the concept.
        attributes: attributes of the lesions that belong to it.
        phrases: phrases that name it after "with" and "without".
        generic: whether prompts without a finding mean this concept too.
    """

    key: str
    attributes: tuple[str, ...]
    phrases: tuple[str, ...]
    generic: bool = False

    def sentences(self, count: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
        """Sentences for normal and for abnormal with random wording, anatomy and modality.

        Args:
            count: number of sentences of each kind.
            rng: source of randomness.

        Returns:
            The normal and the abnormal sentences.

        >>> import numpy
        >>> normal, abnormal = concepts()["ring"].sentences(3, numpy.random.default_rng(1))
        >>> all(" with " in sentence for sentence in abnormal), any(" with " in sentence for sentence in normal)
        (True, False)
        """
        return [self._sentence("normal", rng) for _ in range(count)], [
            self._sentence("abnormal", rng) for _ in range(count)
        ]

    def _sentence(self, kind: str, rng: np.random.Generator) -> str:
        organ = states()["organ"]
        plain = organ.normal if kind == "normal" else organ.abnormal
        # A normal scan has no finding, so the generic phrases are always true for it.
        if rng.uniform() < (0.5 if self.generic else 0.4 if kind == "normal" else 0.0):
            state = str(rng.choice(plain))
        else:
            state = f"{{}} {'without' if kind == 'normal' else 'with'} {rng.choice(self.phrases)}"
        noun = anatomies()[str(rng.choice(list(anatomies())))].noun
        images = modalities()[str(rng.choice(list(modalities())))].images
        named = fill(state, {"": noun})
        return fill(str(rng.choice(_TEMPLATES)), {"": named, "image": str(rng.choice(images))})


@functools.cache
def concepts() -> Mapping[str, Concept]:
    """All concepts by name.

    >>> concepts()["large_hypointense"].attributes
    ('hypointense', 'large')
    """
    found = {
        key: Concept(key, tuple(entry["attributes"]), tuple(entry["phrases"]), bool(entry.get("generic", False)))
        for key, entry in read_yaml(_FILE).items()
    }
    return MappingProxyType(found)
