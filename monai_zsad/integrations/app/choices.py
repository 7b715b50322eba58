"""What the page offers: bundles with the options that each takes, and the words of the prompt library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from monai_zsad import bundles
from monai_zsad.backbones.weights import cached_path
from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.prompts import anatomies, modalities, set_names, states
from monai_zsad.workflow.bundles.reading import about_bundle, find_bundle

__all__ = ["PROMPT_OPTIONS", "BundleChoice", "bundle_choices", "checked_options", "modality_keys", "state_keys"]

PROMPT_OPTIONS = ("prompt_set", "anatomy", "modality", "states")
"""Options that only some bundles take, by their ids in ``inference.yaml``."""

_THRESHOLD = "candidate_threshold"
_GENERIC_STATES = ("organ", "examination")


@dataclass(frozen=True)
class BundleChoice:
    """A bundle as the page offers it.

    Attributes:
        name: what ``screen`` takes: the name, or the folder.
        measured: one sentence about what was measured with this model; may be empty.
        defaults: the bundle's own values of the prompt options that it takes, and of the threshold.
        missing: names of released weights that are not on this machine.
        unpublished: parts of the model whose weights nobody has published.
    """

    name: str
    measured: str
    defaults: Mapping[str, Any]
    missing: tuple[str, ...] = ()
    unpublished: tuple[str, ...] = ()

    @classmethod
    def read(cls, bundle: str) -> BundleChoice:
        """Read a bundle's files.

        Args:
            bundle: its name or folder.

        Returns:
            The choice. Weights are looked for now.

        Raises:
            ConfigurationError: if there is no such bundle.

        Example:
            >>> BundleChoice.read("tiny_screening").takes("anatomy"), BundleChoice.read("crane").takes("anatomy")
            (True, False)
        """
        folder = find_bundle(bundle)
        config = yaml.safe_load((folder / "configs" / "inference.yaml").read_text(encoding="utf-8"))
        own = {key: config[key] for key in (*PROMPT_OPTIONS, _THRESHOLD) if key in config}
        missing, unpublished = _lacking(folder, config)
        return cls(bundle, about_bundle(folder)["measured"], own, missing, unpublished)

    def takes(self, option: str) -> bool:
        """Whether the bundle has an option.

        Args:
            option: one of :data:`PROMPT_OPTIONS`.
        """
        return option in self.defaults

    @property
    def threshold(self) -> float:
        """The bundle's own threshold of the candidates, in [0, 1]."""
        return float(self.defaults.get(_THRESHOLD, 0.5))

    @property
    def remedy(self) -> str:
        """What to do before the bundle can run; empty if its weights are here."""
        if self.unpublished:
            parts = " and ".join(self.unpublished)
            return (
                f"No weights are published for the {parts} of this model. Convert your own with "
                f"`monai-zsad convert`, and start the app with `--bundle FOLDER`."
            )
        if self.missing:
            return f"Weights are missing. Fetch them with `monai-zsad weights fetch {' '.join(self.missing)}`."
        return ""

    def check_weights(self) -> None:
        """Refuse a bundle that cannot run.

        Raises:
            WeightsError: if weights are missing. The message has the command that fetches them.
        """
        if self.remedy:
            raise WeightsError(f"{Path(self.name).name}: {self.remedy[0].lower()}{self.remedy[1:]}")


def _lacking(folder: Path, config: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Released weights that are not on this machine, and parts without released weights."""
    if (folder / "models" / "model.pt").is_file():
        return (), ()
    given = {part for part, source in (config.get("weights") or {}).items() if source is not None}
    wanted = {part: source for part, source in config.get("released_weights", {}).items() if part not in given}
    missing = tuple(str(source) for source in wanted.values() if source and cached_path(str(source)) is None)
    return missing, tuple(part for part, source in wanted.items() if source is None)


def bundle_choices(names: Sequence[str] = ()) -> dict[str, BundleChoice]:
    """The bundles that the page offers, by name. Those that can run come first.

    Args:
        names: names or folders; empty for all bundles of the package.

    Returns:
        The choices.

    Raises:
        ConfigurationError: if there is no such bundle.

    Example:
        >>> list(bundle_choices())[0]
        'tiny_screening'
    """
    found = [BundleChoice.read(name) for name in names or bundles.names()]
    if not names:
        found.sort(key=lambda choice: (bool(choice.unpublished), bool(choice.missing), choice.name))
    return {choice.name: choice for choice in found}


def modality_keys(anatomy: str | None) -> list[str]:
    """Modalities that are meant for an anatomy.

    Args:
        anatomy: key of an anatomy; None for all modalities.

    Example:
        >>> "head_ct" in modality_keys("brain"), "head_ct" in modality_keys("liver")
        (True, False)
    """
    part = anatomies().get(anatomy or "any")
    return [key for key, word in modalities().items() if part is None or word.suits(part)]


def state_keys(anatomy: str | None, modality: str | None) -> list[str]:
    """Findings that occur in an anatomy and that a modality shows.

    Args:
        anatomy: key of an anatomy; None for any.
        modality: key of a modality; None for any.

    Example:
        >>> "hemorrhage" in state_keys("brain", None), "hemorrhage" in state_keys("liver", None)
        (True, False)
    """

    def fits(keys: Sequence[str], chosen: str | None) -> bool:
        return not keys or chosen in (None, "any") or chosen in keys

    return [
        key
        for key, word in states().items()
        if key not in _GENERIC_STATES and fits(word.anatomies, anatomy) and fits(word.modalities, modality)
    ]


def checked_options(choice: BundleChoice, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a run, as ``screen`` takes them.

    The page sends only what it offers, but other programs can send anything. A prompt set, for example, could also be
    a file on this machine.

    Args:
        choice: the bundle.
        values: by id; None or empty keeps the bundle's own value. What the bundle does not take is left out.

    Returns:
        The options that differ from the bundle's own.

    Raises:
        ConfigurationError: if a value is not among those that the page offers.

    Example:
        >>> checked_options(BundleChoice.read("crane"), {"anatomy": "brain", "candidate_threshold": 0.4})
        {'candidate_threshold': 0.4}
    """
    known: dict[str, Any] = {
        "prompt_set": set_names(),
        "anatomy": tuple(anatomies()),
        "modality": tuple(modalities()),
        "states": tuple(states()),
    }
    options: dict[str, Any] = {}
    for key, value in values.items():
        if value in (None, "", [], ()) or not choice.takes(key) or value == choice.defaults[key]:
            continue
        if key in known and (unknown := [one for one in _entries(value) if one not in known[key]]):
            raise ConfigurationError(f"{key}={unknown[0]!r} is unknown: choose one of those on the page")
        if key == _THRESHOLD and not (isinstance(value, int | float) and 0 <= value <= 1):
            raise ConfigurationError(f"threshold={value!r} cannot be used: give a number between 0 and 1")
        options[key] = list(value) if key == "states" else value
    return options


def _entries(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
