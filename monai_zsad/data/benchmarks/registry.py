"""The known benchmark sets: where to get them, their licences, classes and numbers of images.

These facts stand in ``benchmarks.yaml``; unknown facts are ``null`` there. MONAI's ``DecathlonDataset`` and
``MedNISTDataset`` are for other sets, and do not state licences or numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

from monai_zsad.errors import ConfigurationError, did_you_mean

__all__ = ["Benchmark", "get_benchmark", "known_benchmarks"]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark set and its facts; ``None`` means that a fact is not known.

    Attributes:
        name: for commands and options.
        title: as in papers.
        domain: ``"industrial"`` or ``"medical"``.
        layouts: in which it is distributed, keys of :data:`KNOWN_LAYOUTS`; a ``meta.json`` of the methods' releases is
            read, too, and has priority.
        classes: as the set names them; one for a set without classes, none for ``volumes`` of :func:`read_benchmark`.
        has_masks: whether anomalies have masks; without masks, only image scores can be evaluated.
        homepage: where to get it.
        licence: SPDX-like name, or a few words.
        citation: the paper to cite.
        normal: normal images of the test part.
        abnormal: anomalous images of the test part.
        images: all images of the test part; for some sets known without ``normal`` and ``abnormal``.
        prompt_names: name of a class in a prompt, if it is not the class with spaces instead of underscores.
        repackaged: whether the releases of the methods hold other images than the original, with other numbers.
        notes: more facts for users.
        sources: sources of the facts, beside the homepage.
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
        """Layouts that are tried, in this order; a user's own scans have no ``meta.json`` of a release."""
        return ("meta", *self.layouts) if self.classes else self.layouts

    def prompt_name(self, class_name: str) -> str:
        """Name of a class in a prompt.

        Args:
            class_name: as in the folders of the set.

        Returns:
            The name that the set defines, otherwise the name of the folder with spaces.

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
    """A set by its name; upper and lower case, ``_``, ``-`` and spaces are equal.

    Args:
        name: of the set.

    Returns:
        Its entry.

    Raises:
        ConfigurationError: if the name is unknown; it lists the known sets, and suggests the most similar name.

    Example:
        >>> get_benchmark("CVC_ColonDB").title
        'CVC-ColonDB'
    """
    known = known_benchmarks()
    wanted = _plain(name)
    for key, entry in known.items():
        if wanted in (_plain(key), _plain(entry.title)):
            return entry
    raise ConfigurationError(f"{name!r} is not a known data set; {did_you_mean(wanted, known)}")


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
