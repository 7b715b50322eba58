"""Weights of a bundle: loading them for a run, and converting them into the bundle's ``models/model.pt``."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from monai_zsad.backbones.weights_io import WeightsRecord, read_state_dict
from monai_zsad.errors import ConfigurationError, OutputError, WeightsError
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.writers import atomic_path

__all__ = ["bundle_network", "convert", "load_weights"]

logger = logging.getLogger(__name__)


def load_weights(
    network: ZeroShotNetwork,
    weights: Mapping[str, str | None],
    released: Mapping[str, str],
    checkpoint: str | os.PathLike[str] | None = None,
    activation: str | None = None,
) -> dict[str, WeightsRecord]:
    """Load a bundle's network: what the user names, else its converted file, else the released weights.

    Args:
        network: built, weights not loaded.
        weights: a source for each part (``clip``, ``prompts``, ...), ``None`` where the user gave none.
        released: the source of each part that stands in for ``None``.
        checkpoint: plain state dict of the whole network (see :func:`convert`). Used if it exists and the user named
            no weights at all.
        activation: what CLIP weights from a file were trained with, where the file does not tell.

    Returns:
        What was loaded, by part; also logged.

    Raises:
        ConfigurationError: if ``weights`` names a part that the method does not have.
        WeightsError: if weights are unknown, missing, damaged or do not fit.
    """
    if unknown := sorted(weights.keys() - released.keys()):
        raise ConfigurationError(
            f"weights name {', '.join(unknown)}, which this method does not have: it has {', '.join(released)}"
        )
    given = {part: str(source) for part, source in weights.items() if source is not None}
    if not given and checkpoint is not None and Path(checkpoint).is_file():
        _load_checkpoint(network, Path(checkpoint))
    else:
        network.load_weights(**(dict(released) | given), activation=activation)
    for part, record in network.records.items():
        logger.info("%s weights: %s", part, record.summary())
    return network.records


def _load_checkpoint(network: ZeroShotNetwork, path: Path) -> None:
    state = read_state_dict(path)
    own = network.state_dict()
    if state.keys() != own.keys():
        missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        raise WeightsError(
            f"{path} holds another network: missing {missing[:3] or 'nothing'}, unknown {surplus[:3] or 'nothing'}; "
            "make it anew with `python -m monai_zsad convert`"
        )
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not fit this network ({str(error).splitlines()[-1].strip()}): "
            "set the architecture it was made for, or make it anew with `python -m monai_zsad convert`"
        ) from error
    network.restore_records(_read_records(path))


def bundle_network(bundle: str | os.PathLike[str], **overrides: Any) -> tuple[ZeroShotNetwork, dict[str, str]]:
    """The network of a bundle as its ``inference.yaml`` builds it, and the names of its released weights.

    Args:
        bundle: the bundle's folder.
        **overrides: configuration values by id, for example ``image_size=336``.

    Raises:
        ConfigurationError: if the folder holds no bundle of this project.
    """
    from monai.bundle import ConfigParser

    config = Path(bundle) / "configs" / "inference.yaml"
    if not config.is_file():
        raise ConfigurationError(f"{bundle} is no bundle: it has no configs/inference.yaml")
    parser = ConfigParser()
    parser.read_config(str(config))
    for key, value in overrides.items():
        parser[key] = value
    network = parser.get_parsed_content("network_def")
    if not isinstance(network, ZeroShotNetwork):
        raise ConfigurationError(f"{config}: network_def is a {type(network).__name__}, not a network of monai_zsad")
    return network, dict(parser["released_weights"])


def convert(
    bundle: str | os.PathLike[str],
    weights: Mapping[str, str | None] | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    activation: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a bundle's ``models/model.pt``: all weights of its network as one plain state dict.

    MONAI Label and other programs that build ``network_def`` and load one file need it. Beside it,
    ``model.json`` says what it was made of.

    Args:
        bundle: the bundle's folder.
        weights: a source for each part; the released one where none is given.
        output: file to write; default ``models/model.pt`` of the bundle.
        activation: what CLIP weights from a file were trained with, where the file does not tell.
        overwrite: replace an existing file.

    Returns:
        The file.

    Raises:
        OutputError: if the file exists and ``overwrite`` is false.
        WeightsError: if weights are unknown, missing, damaged or do not fit.
    """
    target = Path(bundle) / "models" / "model.pt" if output is None else Path(output)
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists: add --overwrite to replace it, or give another --output")
    network, released = bundle_network(bundle)
    load_weights(network, weights or {}, released, activation=activation)
    target.parent.mkdir(parents=True, exist_ok=True)
    records = {part: vars(record) for part, record in network.records.items()}
    with atomic_path(target.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"weights": records}, indent=2) + "\n", encoding="utf-8")
    with atomic_path(target) as temporary:
        torch.save(network.portable_state_dict(), temporary)
    return target


def _read_records(checkpoint: Path) -> dict[str, WeightsRecord]:
    file = checkpoint.with_suffix(".json")
    if not file.is_file():
        logger.warning("%s has no %s beside it: what it was made of is not known.", checkpoint, file.name)
        return {}
    try:
        records = json.loads(file.read_text(encoding="utf-8"))["weights"]
        return {part: WeightsRecord(**record) for part, record in records.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{file} is not what `python -m monai_zsad convert` writes: make {checkpoint} anew"
        ) from error
