"""A bundle that answers requests. Networks are kept by prompts and device; the steps are built for each request."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from torch import nn

from monai_zsad.backbones.seeds import parse_seed
from monai_zsad.backbones.weights import cached_path
from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.integrations.monailabel.options import RequestOptions, panel
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.workflow.bundles import build_network, find_bundle, load_weights, read_bundle, released_weights
from monai_zsad.workflow.bundles.kept import KeptNetworks
from monai_zsad.workflow.steps import without_writers

__all__ = ["ServedBundle", "Steps", "served_bundles", "usable_bundles"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Steps:
    """What one request runs. Only the network is shared with other requests.

    Attributes:
        preprocessing: MONAI's ``Compose`` of the bundle.
        inferer: inferer of the bundle.
        network: network on its device, with its weights.
        postprocessing: the bundle's ``Compose`` without the transforms that write files.
        settings: the settings that decide the findings, beside scan and model.
        describe: function that returns the description of the model.
    """

    preprocessing: Compose
    inferer: Any
    network: nn.Module
    postprocessing: Compose
    settings: Mapping[str, Any]
    describe: Any


class ServedBundle:
    """A bundle of this project, for many requests at once.

    MONAI Label's ``BundleInferTask`` was not enough. It has one parser, which a second request changes while the first
    one uses it. It never computes the text anchors of other prompts. It loads weights that do not fit, with a warning
    only. And it runs the transforms that write files. Here a network is built once for each device and each choice of
    prompts; all networks on one device share their weights. Each request gets its own transforms.

    Args:
        folder: folder of the bundle.

    Raises:
        ConfigurationError: if the folder holds no bundle of this project.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.name = self.folder.name
        parser = read_bundle(self.folder, {"bundle_root": str(self.folder), "progress": False})
        self.config: dict[str, Any] = dict(parser.get())
        self.panel = panel(self.config)
        metadata = self.folder / "configs" / "metadata.json"
        self.metadata = json.loads(metadata.read_text(encoding="utf-8")) if metadata.is_file() else {}
        self._networks = KeptNetworks()
        self._lock = threading.Lock()

    @property
    def default_device(self) -> str:
        """``"cuda"`` if this machine has it, else ``"cpu"``, as the bundle chooses."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    def has_weights(self) -> bool:
        """Whether the bundle can answer a request without a download."""
        if (self.folder / "models" / "model.pt").is_file():
            return True
        parser = ConfigParser(copy.deepcopy(self.config))
        given = parser.get_parsed_content("weights")
        sources = [given.get(part) or source for part, source in released_weights(parser).items()]
        return all(source is not None and _is_here(str(source)) for source in sources)

    def fingerprint(self) -> str:
        """Return a text that changes when the configuration or a weights file changes."""
        files = sorted((self.folder / "models").glob("*.*"))
        facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        content = json.dumps([self.config, facts], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def steps(self, options: RequestOptions, device: str) -> Steps:
        """Build the steps of one request.

        Args:
            options: options of the request.
            device: device of the network, such as ``"cpu"``.

        Raises:
            ConfigurationError: if an option cannot be used.
            WeightsError: if the weights are missing or do not fit.
        """
        parser = ConfigParser(copy.deepcopy(self.config))
        for key, value in {**options.overrides, "device": device}.items():
            parser[key] = value
        # Loading weights takes long; a wrong option must be reported before.
        preprocessing = parser.get_parsed_content("preprocessing")
        inferer = parser.get_parsed_content("inferer")
        network = self._network(parser, device)
        own = ConfigParser(parser.config)
        own["preprocessing"] = preprocessing
        own["network_def"] = network
        return Steps(
            preprocessing=preprocessing,
            inferer=inferer,
            network=own.get_parsed_content("network"),
            postprocessing=Compose(without_writers(own.get_parsed_content("postprocessing"))),
            settings=_finding_settings(own),
            describe=network.describe,
        )

    def _network(self, parser: ConfigParser, device: str) -> ZeroShotNetwork:
        with self._lock:
            network = self._networks.get(parser)
            if network is None:
                key = self._networks.key(parser)
                network = self._load(parser, device)
                self._networks.keep(key, network, getattr(network, "prompts", None))
            return network

    def _load(self, parser: ConfigParser, device: str) -> ZeroShotNetwork:
        network = build_network(parser, self.folder)
        content = {key: parser.get_parsed_content(key) for key in ("weights", "released_weights", "checkpoint")}
        activation = parser.get_parsed_content("weights_activation") if "weights_activation" in parser else None
        load_weights(network, content["weights"], content["released_weights"], content["checkpoint"], activation)
        return network.to(device).eval()


def _is_here(source: str) -> bool:
    if parse_seed(source) is not None or Path(source).is_file():
        return True
    try:
        return cached_path(source) is not None
    except WeightsError:
        return False


def usable_bundles(given: str, scorer: str | None = None) -> tuple[dict[str, ServedBundle], str]:
    """Find the bundles that can answer without a download.

    Args:
        given: a bundle's folder, a folder of bundles, or the name of a bundle of this project.
        scorer: name of the bundle whose scores order the studies; ``None`` for the first one.

    Returns:
        The bundles by name, and the name of the bundle whose scores order the studies.

    Raises:
        ConfigurationError: if there is no bundle, no bundle has its weights on this machine, or ``scorer`` is not one
            of those that have.
    """
    folder = Path(given) if Path(given).is_dir() else find_bundle(given)
    usable = {}
    for name, bundle in served_bundles(folder).items():
        if bundle.has_weights():
            usable[name] = bundle
        else:
            _logger.warning("the server leaves out %s: its weights are not on this machine", name)
    if not usable:
        raise ConfigurationError(
            f"{folder}: no bundle has its weights on this machine. Download them with `python -m monai_zsad weights "
            "fetch`, or write models/model.pt with `python -m monai_zsad convert`"
        )
    chosen = scorer or next(iter(usable))
    if chosen not in usable:
        raise ConfigurationError(f"score_model={chosen!r}: this server has no such bundle; choose {', '.join(usable)}")
    return usable, chosen


def served_bundles(folder: Path) -> dict[str, ServedBundle]:
    """Find the bundle in a folder, or every bundle in its subfolders.

    Returns:
        The bundles by name.

    Raises:
        ConfigurationError: if there is no bundle.
    """
    config = Path("configs") / "inference.yaml"
    folders = (
        [folder] if (folder / config).is_file() else sorted(file.parents[1] for file in folder.glob(f"*/{config}"))
    )
    if not folders:
        raise ConfigurationError(f"{folder} is not a bundle or a folder of bundles: no configs/inference.yaml in it")
    return {bundle.name: bundle for bundle in map(ServedBundle, folders)}


def _finding_settings(parser: ConfigParser) -> Mapping[str, Any]:
    """The settings that decide the findings; bundles of the first release list them under an id of their own."""
    if "finding_settings" in parser:
        return dict(parser.get_parsed_content("finding_settings"))
    return dict(parser.get_parsed_content("settings").findings)
