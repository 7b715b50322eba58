"""Named protocols: the checkpoint, sizes, prompts and scaling of a method on a set.

They are stated in ``protocols.yaml`` only.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any, Literal

from monai_zsad.data.benchmarks import get_benchmark
from monai_zsad.errors import ConfigurationError
from monai_zsad.prompts import PromptEnsemble

__all__ = ["Protocol", "choose_protocol", "class_prompts", "known_protocols"]

VOLUMES = "volumes"


@dataclass(frozen=True)
class Protocol:
    """How a method is evaluated on a set.

    Attributes:
        name: what a user types.
        method: that it is for, the name of the bundle.
        benchmarks: sets that it is for; those of ``domains`` if there are none.
        domains: ``"industrial"``, ``"medical"``, or ``"volumes"`` for scans with masks.
        image_size: side S of the network's input, and of maps and masks of images, in pixels.
        average: over layers, of Crane.
        sigma: smoothing of the map in pixels of S x S, of Crane and AnomalyCLIP.
        views: number of views of an image over which AnoCLIP averages a score.
        blur: of the level maps, AA-CLIP's ``domain``.
        released: part of the network to its checkpoint, where it differs from the bundle's own.
        raw_map: intermediate result of the network that is scored in place of its map.
        scaling: ``"class"`` scales maps and scores over all images of a class by their extremes, unless the largest is
            1 already. This needs all images of a class, so no network does it.
        image_score: ``"network"``, ``"map"`` for the maximum of the (scaled) map, or ``"mean"`` of both.
        mask_resize: ``"area"``: a pixel is anomalous where half of it is; ``"nearest"``.
        channels: ``"rgb"`` or ``"grey"``.
        prompt_set: set whose prompts are made for each class; ``None`` if prompts are learned or the bundle's.
        prompt_key: what the class is called in the prompts: ``"name"`` or ``"anatomy"``.
        words: name that stands for every class in the prompts.
        texture_set: set for the classes of ``textures``.
        textures: see ``texture_set``.
        source: paper or release that it follows; empty for this package's own.
        notes: a remark for readers of the results.
    """

    name: str
    method: str
    benchmarks: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    image_size: int = 518
    average: Literal["probabilities", "logits"] | None = None
    sigma: float | None = None
    views: int | None = None
    blur: Literal["medical", "industrial"] | None = None
    released: Mapping[str, str] = field(default_factory=dict)
    raw_map: str | None = None
    scaling: Literal["none", "class"] = "none"
    image_score: Literal["network", "map", "mean"] = "network"
    mask_resize: Literal["area", "nearest"] = "area"
    channels: Literal["rgb", "grey"] = "rgb"
    prompt_set: str | None = None
    prompt_key: Literal["name", "anatomy"] | None = None
    words: str | None = None
    texture_set: str | None = None
    textures: tuple[str, ...] = ()
    source: str = ""
    notes: str = ""

    def weights_of(self, bundle: Mapping[str, str | None]) -> dict[str, str | None]:
        """Sources of the network's parts: the bundle's, and this protocol's in place of them.

        >>> known_protocols()["crane-mvtec"].weights_of({"clip": "a", "prompts": "b"})
        {'clip': 'a', 'prompts': 'crane:visa_epoch5'}
        """
        return {part: self.released.get(part, source) for part, source in bundle.items()}

    def as_dict(self) -> dict[str, Any]:
        """All of it in plain values."""
        return asdict(self)


@functools.cache
def known_protocols() -> Mapping[str, Protocol]:
    """Every protocol by name.

    >>> known_protocols()["crane_plus-industrial"].average
    'logits'
    """
    import yaml

    text = files("monai_zsad.evaluation").joinpath("data").joinpath("protocols.yaml").read_text(encoding="utf-8")
    found = {}
    for stated in yaml.safe_load(text)["entries"]:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()
        }
        found[stated["name"]] = Protocol(**values)
    return found


def choose_protocol(name: str, method: str, benchmark: str) -> Protocol:
    """A protocol by name, or for ``"auto"`` the one of a method for a set.

    Args:
        name: of the protocol, or ``"auto"``.
        method: name of the bundle.
        benchmark: the set, as of :func:`~monai_zsad.data.benchmarks.get_benchmark`.

    Raises:
        ConfigurationError: there is no such protocol or set, it is another method's, or it is for scans and the set has
            images, or the other way round.

    Example:
        >>> choose_protocol("auto", "crane_plus", "DAGM 2007").name
        'crane_plus-dagm'
    """
    entry = get_benchmark(benchmark)
    domain = VOLUMES if entry.name == VOLUMES else entry.domain
    own = [one for one in known_protocols().values() if one.method == method]
    fitting = [one for one in own if (VOLUMES in one.domains) == (domain == VOLUMES)]
    if name != "auto":
        for one in fitting:
            if one.name == name:
                return one
        near = difflib.get_close_matches(name, [one.name for one in fitting], n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ConfigurationError(
            f"protocol={name!r} is none of {method} for {entry.title}{hint} Choose auto or "
            f"{', '.join(one.name for one in fitting)}"
        )
    for one in fitting:
        if entry.name in one.benchmarks or domain in one.domains:
            return one
    raise ConfigurationError(
        f"method={method!r} has no protocol: there are those of {', '.join(dict.fromkeys(_methods()))}"
    )


def _methods() -> list[str]:
    return [one.method for one in known_protocols().values()]


def class_prompts(
    protocol: Protocol, records: Sequence[Mapping[str, Any]], words: Mapping[str, str] | None = None
) -> dict[str, PromptEnsemble]:
    """Prompts for each class of a set; empty if the network's prompts are learned or the bundle's own.

    Args:
        protocol: names the prompt sets.
        records: of the images, with ``class_name`` and ``prompt_name``.
        words: class to its name in the prompts, in place of the protocol's and the set's.

    Raises:
        ConfigurationError: ``words`` names a class that no image has, or a set has no place for what is given.

    Example:
        >>> record = {"class_name": "metal_nut", "prompt_name": "metal nut"}
        >>> class_prompts(known_protocols()["aaclip-industrial"], [record])["metal_nut"].normal[0]
        'metal nut.'
    """
    names = {str(record["class_name"]): str(record["prompt_name"]) for record in records}
    given = dict(words or {})
    if unknown := sorted(given.keys() - names.keys()):
        raise ConfigurationError(f"class_words name {', '.join(unknown)}, but the classes are {', '.join(names)}")
    if protocol.prompt_set is None:
        if given:
            raise ConfigurationError(
                f"class_words is given, but the prompts of {protocol.method} are learned: leave it out"
            )
        return {}
    return {
        name: _prompts(protocol, name, given.get(name, protocol.words or plain), strict=name in given)
        for name, plain in names.items()
    }


def _prompts(protocol: Protocol, class_name: str, words: str, *, strict: bool) -> PromptEnsemble:
    chosen = protocol.texture_set if class_name in protocol.textures else protocol.prompt_set
    if chosen is None:
        raise ConfigurationError(f"protocol {protocol.name} has textures, but no texture_set")
    if protocol.prompt_key == "name":
        return PromptEnsemble.named(chosen, name=words)
    try:
        return PromptEnsemble.named(chosen, anatomy=words)
    except ConfigurationError:
        if strict:
            raise
        # Industrial classes and tissue are not an anatomy, so they get the general prompts.
        return PromptEnsemble.named(chosen)
