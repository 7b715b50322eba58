"""Bundles that are compared: each has its own network, and all share one preprocessing and one inferer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_zsad.data import find_scans, find_user_error
from monai_zsad.errors import ConfigurationError, InputError, WeightsError, did_you_mean
from monai_zsad.evaluation.comparison.methods import Comparison, compare_methods
from monai_zsad.networks import ZeroShotNetwork, check_runtime
from monai_zsad.networks.shared import same_vision
from monai_zsad.workflow.bundles import build_network, load_weights, read_bundle, released_weights

__all__ = ["ComparedBundles", "one_scan"]

# A comparison uses these parts of a bundle, and all parts that they refer to.
_ROOTS = ("network", "network_def", "preprocessing", "inferer", "volume_score")
_WEIGHTS = ("weights", "released_weights", "weights_activation", "checkpoint")
# Bundles may differ in these: they decide where and how fast a scan runs, but not its preparation.
_FREE = ("bundle_root", "batch_size", "device", "progress")


class ComparedBundles:
    """Bundles whose methods are compared on one scan. Each method is configured by its ``inference.yaml``.

    With MONAI's bundle workflows, each bundle reads the scan and computes all features again. Here the scan is prepared
    once, with the ``preprocessing`` of the first bundle. All methods run with the ``inferer`` of the first bundle.
    Bundles that prepare the scan in another way are refused, because their maps would have another grid.

    Args:
        bundles: folders of the bundles, by the method's name in figures.
        settings: configuration values by id. Each applies to every bundle that has the id.
        own_settings: configuration values of single bundles, by name. They override ``settings``.

    Raises:
        ConfigurationError: a folder does not hold a bundle of this project, an id is unknown or not used here, or the
            bundles prepare the scan in different ways.

    Example (weights are random here, for trying the pipeline):
        >>> settings = {"weights#clip": "seed:0", "weights#prompts": "seed:0", "architecture": "ViT-B-16"}
        >>> bundles = ComparedBundles({"crane": "bundles/crane"}, settings)  # doctest: +SKIP
        >>> bundles.load()  # doctest: +SKIP
        >>> bundles.run("scan.nii.gz").figure(20)  # doctest: +SKIP
    """

    def __init__(
        self,
        bundles: Mapping[str, str | os.PathLike[str]],
        settings: Mapping[str, Any] | None = None,
        own_settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if not bundles:
            raise ConfigurationError("no bundle is named: give at least one folder, such as bundles/crane")
        self.folders = {name: Path(folder) for name, folder in bundles.items()}
        self._parsers = {name: read_bundle(folder, {}) for name, folder in self.folders.items()}
        self.networks: dict[str, ZeroShotNetwork] = {}
        for name, parser in self._parsers.items():
            if lacking := [root for root in ("network", "preprocessing", "inferer") if root not in parser]:
                raise ConfigurationError(f"{self.folders[name]} has no {' and no '.join(lacking)} to compare with")
            if "bundle_root" in parser:
                parser["bundle_root"] = str(self.folders[name])
        for key, value in (settings or {}).items():
            self._set(key, value, list(self._parsers))
        for name, own in (own_settings or {}).items():
            if name not in self._parsers:
                raise ConfigurationError(f"{name!r} is none of the compared bundles: {', '.join(self._parsers)}")
            for key, value in own.items():
                self._set(key, value, [name])
        self._check_alike()
        for name in self._parsers:
            runtime = self._parsed_or(name, "runtime", "torch")
            if runtime == "auto":
                runtime = self._parsers[name]["runtime"] = "torch"
            check_runtime(
                runtime, self._parsed_or(name, "precision", "float32"), self._parsed_or(name, "device", "cpu")
            )
            if runtime != "torch":
                raise ConfigurationError(
                    f"runtime={runtime!r} of {name}: features are shared in PyTorch only; set torch"
                )
        first = next(iter(self._parsers))
        self.preprocessing = self._parsed(first, "preprocessing")
        self.inferer = self._parsed(first, "inferer")
        self.volume_score = self._parsed_or(first, "volume_score", "top_k_mean")

    def load(self) -> dict[str, ZeroShotNetwork]:
        """Build the networks and load their weights as their bundles do. Equal vision towers share their memory.

        Raises:
            WeightsError: weights are unknown, missing, damaged or do not fit.
            ConfigurationError: a value of the configuration cannot be used.
        """
        for name in self._parsers:
            self._check_weights(name)
        for name, parser in self._parsers.items():
            network = build_network(parser, self.folders[name])
            weights, checkpoint, activation = (
                self._parsed_or(name, key) for key in ("weights", "checkpoint", "weights_activation")
            )
            load_weights(network, weights or {}, released_weights(parser), checkpoint, activation)
            # The bundle's `network` must be its `network_def`, moved to the device and precision.
            if self._parsed(name, "network") is not network:
                raise ConfigurationError(f"network of {name} is not its network_def: features cannot be shared with it")
            for other in self.networks.values():
                if same_vision(network.clip, other.clip):
                    network.clip.visual = other.clip.visual
                    break
            self.networks[name] = network.eval()
        return self.networks

    def run(self, scan: str | os.PathLike[str] | Mapping[str, Any], slices: Sequence[int] | None = None) -> Comparison:
        """Compare the methods on one scan.

        Args:
            scan: a volume file, a folder with one DICOM series, or a record of :func:`~monai_zsad.data.find_scans`.
            slices: see :func:`compare_methods`.

        Raises:
            ConfigurationError: :meth:`load` was not called, or the scan does not have one of the slices.
            InputError: the scan cannot be read or used, or the path holds several scans.
        """
        if not self.networks:
            raise ConfigurationError("weights are not loaded: call load() first")
        record = dict(scan) if isinstance(scan, Mapping) else one_scan(scan)
        with _as_user_errors():
            image = self.preprocessing(record)["image"]
        return compare_methods(
            self.networks,
            image,
            slices=slices,
            inferer=self.inferer,
            volume_score=self.volume_score,
            case=str(record["case"]),
        )

    def _parsed(self, name: str, key: str) -> Any:
        with _as_user_errors(f"{key} of {name}: "):
            return self._parsers[name].get_parsed_content(key)

    def _parsed_or(self, name: str, key: str, default: Any = None) -> Any:
        return self._parsed(name, key) if key in self._parsers[name] else default

    def _set(self, key: str, value: Any, names: Sequence[str]) -> None:
        used = {name: {*_used_ids(self._parsers[name], _ROOTS), *_WEIGHTS} for name in names}
        having = [name for name in names if key.split("#")[0] in used[name] and key in self._parsers[name]]
        if not having:
            known = sorted(set().union(*used.values(), *(self._parts(name) for name in names)))
            hint = did_you_mean(key, known, listed=False) or "see configs/inference.yaml"
            raise ConfigurationError(f"{key} is no option of {', '.join(names)} that a comparison uses: {hint}")
        for name in having:
            self._parsers[name][key] = value

    def _check_weights(self, name: str) -> None:
        """Report missing weights before the first network is built, with the option of this command."""
        weights, checkpoint = self._parsed_or(name, "weights") or {}, self._parsed_or(name, "checkpoint")
        given = {part for part, source in weights.items() if source is not None}
        if not given and checkpoint is not None and Path(checkpoint).is_file():
            return
        released = released_weights(self._parsers[name])
        if lacking := [part for part, source in released.items() if source is None and part not in given]:
            raise WeightsError(
                f"no weights are published for {' and '.join(lacking)} of {name}: give your own by "
                + " ".join(f"--weights {name}:{part}=FILE" for part in lacking)
            )

    def _parts(self, name: str) -> list[str]:
        parser = self._parsers[name]
        return [f"weights#{part}" for part in parser["weights"]] if "weights" in parser else []

    def _check_alike(self) -> None:
        values = {
            name: {key: parser[key] for key in _used_ids(parser, ("preprocessing", "inferer")) if key not in _FREE}
            for name, parser in self._parsers.items()
        }
        first, expected = next(iter(values.items()))
        for name, found in values.items():
            unlike = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
            if unlike:
                raise ConfigurationError(
                    f"{first} and {name} would run the scan differently ({', '.join(unlike)}), so their maps could not "
                    f"be compared: give one value for all, such as --set {unlike[0]}=VALUE"
                )


def one_scan(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The record of the only scan at a path, see :func:`~monai_zsad.data.find_scans`.

    Raises:
        InputError: the path holds no scan, or several.
    """
    records = find_scans(path)
    if len(records) > 1:
        names = ", ".join(str(record["case"]) for record in records[:3])
        raise InputError(f"{path} holds {len(records)} scans ({names} ...): name one of them, by its file or folder")
    return records[0]


def _used_ids(parser: Any, roots: Sequence[str]) -> set[str]:
    """Top-level configuration ids: the roots, and all ids that they refer to."""
    from monai.bundle.reference_resolver import ReferenceResolver

    found: set[str] = set()
    waiting = [root for root in roots if root in parser]
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            refs = ReferenceResolver.find_refs_in_config(parser[key], key)
            waiting += [top for ref in refs if (top := ref.replace("::", "#").split("#")[0]) in parser]
    return found


@contextlib.contextmanager
def _as_user_errors(before: str = "") -> Iterator[None]:
    """MONAI wraps errors in a ``RuntimeError``. If the cause is an error for users, raise the cause instead."""
    try:
        yield
    except RuntimeError as error:
        cause = find_user_error(error)
        if cause is None or cause is error:
            raise
        raise type(cause)(f"{before}{cause}") from error
