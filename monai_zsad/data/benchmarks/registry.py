"""Which benchmark sets are known: where to get them, under which licence, and what they hold.

``benchmarks.yaml`` is the one home of these facts; what is not known is ``null`` there. MONAI's ``DecathlonDataset``
and ``MedNISTDataset`` know other sets than these, and neither licences nor counts.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

from monai_zsad.errors import ConfigurationError

__all__ = ["Benchmark", "get_benchmark", "known_benchmarks"]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark set and the facts that go with it; ``None`` says that a fact is not known.

    Attributes:
        name: what a user types.
        title: as papers print it.
        domain: ``"industrial"`` or ``"medical"``.
        layouts: in which it is distributed, keys of :data:`KNOWN_LAYOUTS`; the ``meta.json`` of the methods' releases
            is read besides, and first.
        classes: in the set's own words; one for a set without classes, none for :func:`read_benchmark`'s ``volumes``.
        has_masks: whether anomalies are outlined; without, only images can be scored.
        homepage: where it is to be had.
        licence: SPDX-like name, or a few words.
        citation: the paper to cite.
        normal: normal images of the test part.
        abnormal: anomalous images of the test part.
        images: all images of the test part; known for some sets whose ``normal`` and ``abnormal`` are not.
        prompt_names: class to its words in a prompt, where these are not the class with spaces for underscores.
        repackaged: whether the methods' releases hold other images than the original, so that its counts do not hold.
        notes: what else a user should know.
        sources: where the facts were read, beside the homepage.
    """

    name: str
    title: str
    domain: Literal["industrial", "medical"]
    layouts: tuple[str, ...]
    classes: tuple[str, ...]
    has_masks: bool
    homepage: str | None
    licence: str | None
    citation: str | None
    normal: int | None
    abnormal: int | None
    images: int | None
    prompt_names: Mapping[str, str] = field(default_factory=dict)
    repackaged: bool = False
    notes: str = ""
    sources: tuple[str, ...] = ()

    @property
    def readable(self) -> tuple[str, ...]:
        """Layouts that are tried, in this order; scans of a user's own have no release with a ``meta.json``."""
        return ("meta", *self.layouts) if self.classes else self.layouts

    def prompt_name(self, class_name: str) -> str:
        """Words for a class in a prompt.

        Args:
            class_name: as in the set's folders.

        Returns:
            The set's own words, else the folder's name with blanks.

        >>> get_benchmark("mvtec-ad").prompt_name("metal_nut"), get_benchmark("ksdd").prompt_name("SDD")
        ('metal nut', 'electrical commutators')
        """
        return self.prompt_names.get(class_name, class_name.replace("_", " "))


@functools.cache
def known_benchmarks() -> Mapping[str, Benchmark]:
    """Every known set by name, industrial ones first.

    >>> known_benchmarks()["headct"].abnormal
    100
    """
    import yaml

    text = files("monai_zsad.data.benchmarks").joinpath("benchmarks.yaml").read_text(encoding="utf-8")
    return {entry["name"]: _from_yaml(entry) for entry in yaml.safe_load(text)["entries"]}


def get_benchmark(name: str) -> Benchmark:
    """A set by its name; upper and lower case, ``_``, ``-`` and blanks are alike.

    Args:
        name: of the set.

    Returns:
        Its entry.

    Raises:
        ConfigurationError: naming the sets that there are, and the nearest.

    Example:
        >>> get_benchmark("CVC_ColonDB").title
        'CVC-ColonDB'
    """
    known = known_benchmarks()
    wanted = _plain(name)
    for key, entry in known.items():
        if wanted in (_plain(key), _plain(entry.title)):
            return entry
    near = difflib.get_close_matches(wanted, list(known), n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    raise ConfigurationError(f"{name!r} is no known data set{hint} There are {', '.join(known)}")


def _plain(name: str) -> str:
    return "-".join(name.lower().replace("_", " ").replace("-", " ").split())


def _from_yaml(stated: Mapping[str, Any]) -> Benchmark:
    facts = dict(stated)
    for key in ("layouts", "classes", "sources"):
        facts[key] = tuple(facts.get(key, ()))
    normal, abnormal = facts["normal"], facts["abnormal"]
    if normal is not None and abnormal is not None:
        facts["images"] = normal + abnormal
    facts.setdefault("images", None)
    return Benchmark(**facts)
