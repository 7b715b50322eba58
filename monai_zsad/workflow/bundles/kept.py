"""Networks of a bundle that stay loaded between runs. All networks with the same weights share their parameters."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai_zsad.networks import ZeroShotNetwork

__all__ = ["KeptNetworks"]

# Items of a configuration that decide a network and its weights.
_DECIDING = ("network_def", "network", "weights", "released_weights", "checkpoint", "weights_activation")
_PROMPTS = "prompts"


class KeptNetworks:
    """Networks with their weights, kept by the values of the configuration that decide them.

    MONAI's ``ConfigParser`` keeps what it has built until a value changes; then everything is built and loaded again.
    Here, a change of a value that does not concern the network keeps it. For other prompts, a copy is made that shares
    the parameters and has its own text anchors. The class has no lock.

    Args:
        most: how many networks are kept; the one that was used longest ago goes first.
    """

    def __init__(self, most: int = 4) -> None:
        self.most = most
        self._networks: OrderedDict[tuple[str, str], tuple[ZeroShotNetwork, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._networks)

    def __iter__(self) -> Iterator[ZeroShotNetwork]:
        """The kept networks, the last used one last."""
        return (network for network, _ in self._networks.values())

    def key(self, parser: Any) -> tuple[str, str]:
        """What decides the network of a configuration: its weights and structure, and its prompts.

        Args:
            parser: of the bundle, before its items are built.
        """
        config = parser.get()
        own, prompts = _values(config, _DECIDING, without=_PROMPTS), _values(config, (_PROMPTS,))
        return json.dumps(own, sort_keys=True, default=str), json.dumps(prompts, sort_keys=True, default=str)

    def get(self, parser: Any) -> ZeroShotNetwork | None:
        """The network of a configuration, with its own prompts.

        Args:
            parser: of the bundle.

        Returns:
            The network; None if no network with its weights is kept.
        """
        key = self.key(parser)
        if key not in self._networks:
            kept = next((network for (own, _), (network, _) in self._networks.items() if own == key[0]), None)
            if kept is None:
                return None
            prompts = parser.get_parsed_content(_PROMPTS)
            self._add(key, _with_prompts(kept, prompts), prompts)
        self._networks.move_to_end(key)
        network, prompts = self._networks[key]
        # A run may have left the prompts for the modality of its last scan.
        if prompts is not None and network.prompts != prompts:
            _set_prompts(network, prompts)
        return network

    def keep(self, key: tuple[str, str], network: ZeroShotNetwork, prompts: Any = None) -> None:
        """Keep a network.

        Args:
            key: of :meth:`key`.
            network: with its weights.
            prompts: those of its configuration; None if the method has no prompts to choose.
        """
        self._add(key, network, prompts)

    def _add(self, key: tuple[str, str], network: ZeroShotNetwork, prompts: Any) -> None:
        self._networks[key] = network, prompts
        while len(self._networks) > self.most:
            self._networks.popitem(last=False)


def _values(config: Mapping[str, Any], names: tuple[str, ...], without: str = "") -> dict[str, Any]:
    """The values of these items and of all items to which they refer."""
    found: dict[str, Any] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found or name == without or name not in config:
            continue
        found[name] = config[name]
        waiting += _references(config[name])
    return found


def _references(value: Any) -> Iterator[str]:
    from monai.bundle import ReferenceResolver

    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _references(part)
    elif isinstance(value, str):
        for reference in ReferenceResolver.match_refs_pattern(value):
            yield ReferenceResolver.split_id(reference)[0]


def _with_prompts(network: ZeroShotNetwork, prompts: Any) -> ZeroShotNetwork:
    shared: dict[int, Any] = {id(parameter): parameter for parameter in network.parameters()}
    other = copy.deepcopy(network, shared)
    _set_prompts(other, prompts)
    return other


def _set_prompts(network: ZeroShotNetwork, prompts: Any) -> None:
    network.prompts = prompts
    network.update_text_anchors()
