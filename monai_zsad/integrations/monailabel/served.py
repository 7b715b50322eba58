"""A bundle that serves requests: its networks, kept by words and device, and its steps, built for each request."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from torch import nn

from monai_zsad.backbones.seeds import parse_seed
from monai_zsad.backbones.weights_fetch import cached_path
from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.integrations.monailabel.options import RequestOptions, panel
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.workflow.bundles import build_network, find_bundle, load_weights, read_bundle, released_weights

__all__ = ["ServedBundle", "Steps", "served_bundles", "usable_bundles", "without_writers"]

_logger = logging.getLogger(__name__)
_WRITERS = "monai_zsad.writers."
_WORDS = ("prompt_set", "anatomy", "modality", "states")
_VARIANTS = 4


@dataclass(frozen=True)
class Steps:
    """What one request runs, none of it shared with another but the network.

    Attributes:
        preprocessing: MONAI's ``Compose`` of the bundle.
        inferer: of the bundle.
        network: on its device, weights loaded.
        postprocessing: the bundle's ``Compose`` without what writes files.
        settings: what decides the findings, beside scan and model.
        describe: says what the model is.
    """

    preprocessing: Compose
    inferer: Any
    network: nn.Module
    postprocessing: Compose
    settings: Mapping[str, Any]
    describe: Any


class ServedBundle:
    """A bundle of this project, for many requests at once.

    MONAI Label's ``BundleInferTask`` was not enough: it has one parser, which a second request changes under the first,
    never loads the text anchors of other words, loads weights with a warning where they do not fit, and keeps the
    transforms that write files. Here a network is built once for each device and each choice of words, those of
    other words share the weights, and each request gets transforms of its own.

    Args:
        folder: of the bundle.

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
        self._networks: OrderedDict[tuple[str, str], ZeroShotNetwork] = OrderedDict()
        self._loaded: dict[str, ZeroShotNetwork] = {}
        self._lock = threading.Lock()

    @property
    def default_device(self) -> str:
        """The bundle's own choice."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    def has_weights(self) -> bool:
        """Whether a request can be answered without a download."""
        if (self.folder / "models" / "model.pt").is_file():
            return True
        parser = ConfigParser(copy.deepcopy(self.config))
        given = parser.get_parsed_content("weights")
        sources = [given.get(part) or source for part, source in released_weights(parser).items()]
        return all(source is not None and _is_here(str(source)) for source in sources)

    def fingerprint(self) -> str:
        """Changes when the configuration or a file of weights does."""
        files = sorted((self.folder / "models").glob("*.*"))
        facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        content = json.dumps([self.config, facts], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def steps(self, options: RequestOptions, device: str) -> Steps:
        """The steps of one request.

        Raises:
            ConfigurationError: if an option cannot be used.
            WeightsError: if the weights are missing or do not fit.
        """
        parser = ConfigParser(copy.deepcopy(self.config))
        for key, value in {**options.overrides, "device": device}.items():
            parser[key] = value
        # Wrong options are said before weights are loaded, which takes long.
        preprocessing = parser.get_parsed_content("preprocessing")
        inferer = parser.get_parsed_content("inferer")
        network = self._network(parser, device)
        own = ConfigParser(parser.config)
        own["postprocessing#transforms"] = without_writers(parser.config)
        own["preprocessing"] = preprocessing
        own["network_def"] = network
        return Steps(
            preprocessing=preprocessing,
            inferer=inferer,
            network=own.get_parsed_content("network"),
            postprocessing=own.get_parsed_content("postprocessing"),
            settings=own.get_parsed_content("finding_settings"),
            describe=network.describe,
        )

    def _network(self, parser: ConfigParser, device: str) -> ZeroShotNetwork:
        words = json.dumps([parser.get(key) for key in _WORDS])
        with self._lock:
            key = (device, words)
            if key not in self._networks:
                if device not in self._loaded:
                    self._loaded[device] = self._load(device)
                network = self._loaded[device]
                if words != json.dumps([self.config.get(name) for name in _WORDS]):
                    network = _with_words(network, parser.get_parsed_content("prompts"))
                self._networks[key] = network
                while len(self._networks) > _VARIANTS:
                    self._networks.popitem(last=False)
            self._networks.move_to_end(key)
            return self._networks[key]

    def _load(self, device: str) -> ZeroShotNetwork:
        parser = ConfigParser(copy.deepcopy(self.config))
        network = build_network(parser, self.folder)
        content = {key: parser.get_parsed_content(key) for key in ("weights", "released_weights", "checkpoint")}
        activation = parser.get_parsed_content("weights_activation") if "weights_activation" in parser else None
        load_weights(network, content["weights"], content["released_weights"], content["checkpoint"], activation)
        return network.to(device).eval()


def without_writers(config: Mapping[str, Any]) -> list[Any]:
    """The steps of a bundle's postprocessing that write no files."""
    steps = config["postprocessing"]["transforms"]
    return [step for step in steps if not str(step["_target_"]).startswith(_WRITERS)]


def _is_here(source: str) -> bool:
    if parse_seed(source) is not None or Path(source).is_file():
        return True
    try:
        return cached_path(source) is not None
    except WeightsError:
        return False


def _with_words(network: ZeroShotNetwork, prompts: Any) -> ZeroShotNetwork:
    """The same network for other words; the parameters are shared, the text anchors are its own."""
    shared: dict[int, Any] = {id(parameter): parameter for parameter in network.parameters()}
    other = copy.deepcopy(network, shared)
    other.prompts = prompts
    other.update_text_anchors()
    return other


def usable_bundles(given: str, scorer: str | None = None) -> tuple[dict[str, ServedBundle], str]:
    """The bundles that can answer without a download, and the one whose scores order the studies.

    Args:
        given: a bundle's folder, a folder of bundles, or the name of a bundle of this project.
        scorer: name of the bundle that scores; ``None`` for the first.

    Raises:
        ConfigurationError: if there is none, none has its weights here, or ``scorer`` is none of them.
    """
    folder = Path(given) if Path(given).is_dir() else find_bundle(given)
    usable = {}
    for name, bundle in served_bundles(folder).items():
        if bundle.has_weights():
            usable[name] = bundle
        else:
            _logger.warning("%s is not served: its weights are not on this machine", name)
    if not usable:
        raise ConfigurationError(
            f"no bundle in {folder} has its weights on this machine: fetch them with `python -m monai_zsad weights "
            "fetch`, or make models/model.pt with `python -m monai_zsad convert`"
        )
    chosen = scorer or next(iter(usable))
    if chosen not in usable:
        raise ConfigurationError(f"score_model={chosen!r} is not served: choose one of {', '.join(usable)}")
    return usable, chosen


def served_bundles(folder: Path) -> dict[str, ServedBundle]:
    """The bundle in a folder, or every bundle in its subfolders, by name.

    Raises:
        ConfigurationError: if there is none.
    """
    config = Path("configs") / "inference.yaml"
    folders = (
        [folder] if (folder / config).is_file() else sorted(file.parents[1] for file in folder.glob(f"*/{config}"))
    )
    if not folders:
        raise ConfigurationError(f"{folder} holds no bundle: neither it nor a subfolder has configs/inference.yaml")
    return {bundle.name: bundle for bundle in map(ServedBundle, folders)}
