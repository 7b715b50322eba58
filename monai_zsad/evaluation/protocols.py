"""Named protocols: the checkpoint, sizes, prompts and scaling of a method on a set.

They are stated in ``protocols.yaml`` only.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any, Literal

from monai_zsad.data.benchmarks import get_benchmark
from monai_zsad.errors import ConfigurationError, did_you_mean
from monai_zsad.prompts import PromptEnsemble

__all__ = ["Protocol", "choose_protocol", "class_prompts", "known_protocols"]

VOLUMES = "volumes"


@dataclass(frozen=True)
class Protocol:
    """How a method is evaluated on a set.

    Attributes:
        name: name in the option ``protocol``.
        method: name of the method's bundle.
        benchmarks: sets that it applies to. If there are none, it applies to all sets of ``domains``.
        domains: ``"industrial"``, ``"medical"``, or ``"volumes"`` for scans with masks.
        image_size: side S of the network's input, and of maps and masks of images, in pixels.
        average: what Crane averages over the layers.
        sigma: smoothing of the map by Crane and AnomalyCLIP, in pixels of S x S.
        views: number of views of an image over which AnoCLIP averages a score.
        blur: blur of AA-CLIP's level maps, its option ``domain``.
        released: checkpoint by part of the network, if it differs from the bundle's checkpoint.
        raw_map: intermediate result of the network that is scored in place of its map.
        scaling: ``"class"`` scales the maps of a class by their least and largest value over all its images, and its
            scores likewise, unless the largest value is 1 already. The network cannot do this image by image.
        image_score: ``"network"``, ``"map"`` for the maximum of the (scaled) map, or ``"mean"`` of both.
        mask_resize: ``"area"`` (a pixel is anomalous if half of its area is anomalous) or ``"nearest"``.
        channels: ``"rgb"`` or ``"grey"``.
        prompt_set: prompt set from which each class gets its prompts; ``None`` if the prompts are learned or those of
            the bundle.
        prompt_key: placeholder of the prompt set that the class name fills: ``"name"`` or ``"anatomy"``.
        words: name that replaces every class name in the prompts.
        texture_set: prompt set for the classes in ``textures``.
        textures: classes that get the prompts of ``texture_set``.
        source: paper or release that it follows; empty for a protocol of this package.
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
        """Weights of the network's parts. The weights of this protocol replace those of the bundle.

        >>> known_protocols()["crane-mvtec"].weights_of({"clip": "a", "prompts": "b"})
        {'clip': 'a', 'prompts': 'crane:visa_epoch5'}
        """
        return {part: self.released.get(part, source) for part, source in bundle.items()}

    def as_dict(self) -> dict[str, Any]:
        """All attributes in plain values."""
        return asdict(self)


@functools.cache
def known_protocols() -> Mapping[str, Protocol]:
    """All protocols by name.

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
    """Choose a protocol by name. ``"auto"`` chooses the first protocol that fits the method and the set.

    Args:
        name: name of the protocol, or ``"auto"``.
        method: name of the bundle.
        benchmark: name of the set, see :func:`~monai_zsad.data.benchmarks.get_benchmark`.

    Raises:
        ConfigurationError: the protocol or the set is unknown, the protocol belongs to another method, or one is for
            scans and the other for images.

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
        hint = did_you_mean(name, ["auto", *(one.name for one in fitting)])
        raise ConfigurationError(f"protocol={name!r} is none of {method} for {entry.title}; {hint}")
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
    """Prompts for each class of a set; empty if the network's prompts are learned or those of the bundle.

    Args:
        protocol: names the prompt sets.
        records: records of the images, with ``class_name`` and ``prompt_name``.
        words: names in the prompts by class. They replace the names of the protocol and of the set.

    Raises:
        ConfigurationError: ``words`` names a class that no image has, or the prompt set has no placeholder for a name.

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
        # Industrial classes and tissue types are not known as anatomies, so they get the general prompts.
        return PromptEnsemble.named(chosen)
