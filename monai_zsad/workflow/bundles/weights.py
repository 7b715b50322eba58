"""Weights of a bundle: loading them for a run, and converting them into the bundle's ``models/model.pt``."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import torch

from monai_zsad.backbones.architectures import Activation
from monai_zsad.backbones.weights import WeightsRecord, read_state_dict, refuse_pointer, sha256_of
from monai_zsad.errors import ConfigurationError, OutputError, WeightsError
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.workflow.bundles.reading import build_network, read_bundle, released_weights
from monai_zsad.writers import atomic_path

__all__ = ["check_parts", "convert", "load_weights", "read_records", "save_state"]

logger = logging.getLogger(__name__)


def load_weights(
    network: ZeroShotNetwork,
    weights: Mapping[str, str | None],
    released: Mapping[str, str | None],
    checkpoint: str | os.PathLike[str] | None = None,
    activation: str | None = None,
) -> dict[str, WeightsRecord]:
    """Load a bundle's network: what the user names, else its converted file, else the released weights.

    Args:
        network: built, weights not loaded.
        weights: a source for each part (``clip``, ``prompts``, ...), ``None`` where the user gave none.
        released: the source of each part that stands in for ``None``; itself ``None`` where nothing is published.
        checkpoint: plain state dict of the whole network (see :func:`convert`). Used if it exists and the user named
            no weights at all.
        activation: what CLIP weights from a file were trained with, where the file does not tell.

    Returns:
        What was loaded, by part; also logged.

    Raises:
        ConfigurationError: if ``weights`` names a part that the method does not have.
        WeightsError: if weights are unknown, missing, damaged or do not fit.
    """
    check_parts(weights, released, activation)
    given = {part: str(source) for part, source in weights.items() if source is not None}
    if not given and checkpoint is not None and Path(checkpoint).is_file():
        _load_checkpoint(network, Path(checkpoint))
    else:
        sources = dict(released) | given
        if lacking := [part for part, source in sources.items() if source is None]:
            raise WeightsError(
                f"no weights are published for {' and '.join(lacking)} of this method: give your own by "
                + " ".join(f"--weights#{part} FILE" for part in lacking)
            )
        network.load_weights(**sources, activation=activation)
    for part, record in network.records.items():
        logger.info("%s weights: %s", part, record.summary())
    return network.records


def check_parts(
    weights: Mapping[str, str | None], released: Mapping[str, str | None], activation: str | None = None
) -> None:
    """Refuse ``weights`` that name no part, or one that is not among the ``released``, and an unknown ``activation``.

    Raises:
        ConfigurationError: naming the parts that there are.
    """
    if not isinstance(weights, Mapping):
        raise ConfigurationError(
            f"weights={weights!r} names no part: give each its own, such as --weights#{next(iter(released))} {weights}"
        )
    if unknown := sorted(weights.keys() - released.keys()):
        raise ConfigurationError(
            f"weights name {', '.join(unknown)}, which this method does not have: it has {', '.join(released)}"
        )
    if activation not in (None, *get_args(Activation)):
        raise ConfigurationError(f"weights_activation={activation!r}: choose {' or '.join(get_args(Activation))}")


def _load_checkpoint(network: ZeroShotNetwork, path: Path) -> None:
    # First, since a damaged file is better told by its hash than by what torch makes of it.
    refuse_pointer(path)
    records = read_records(path)
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
    if hasattr(network, "prompts"):
        # The file's anchors are those of the sentences that it was made with.
        network.update_text_anchors()
    network.restore_records(records)


def convert(
    bundle: str | os.PathLike[str],
    weights: Mapping[str, str | None] | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    activation: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a bundle's ``models/model.pt``: all weights of its network as one plain state dict.

    MONAI Label and other programs that build ``network_def`` and load one file need it. Beside it, ``model.json``
    says what it was made of; without that file nobody can tell random weights from real ones.

    Args:
        bundle: the bundle's folder.
        weights: a source for each part; the released one where none is given.
        output: file to write; default ``models/model.pt`` of the bundle.
        activation: what CLIP weights from a file were trained with, where the file does not tell.
        overwrite: replace an existing file.

    Returns:
        The file.

    Raises:
        ConfigurationError: if ``bundle`` is none, or ``weights`` names a part that its method does not have.
        OutputError: if the file exists and ``overwrite`` is false, or it cannot be written.
        WeightsError: if weights are unknown, missing, damaged or do not fit.
    """
    target = Path(bundle) / "models" / "model.pt" if output is None else Path(output)
    description = target.with_suffix(".json")
    if description == target:
        raise OutputError(f"{target}: its name is needed for what describes the weights; end it in .pt")
    if not overwrite and (existing := [file for file in (target, description) if file.exists()]):
        raise OutputError(f"{existing[0]} exists: add --overwrite to replace it, or give another --output")
    parser = read_bundle(bundle, {})
    released = released_weights(parser)
    # Before the network is built, which takes long.
    check_parts(weights or {}, released)
    network = build_network(parser, bundle)
    load_weights(network, weights or {}, released, activation=activation)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target.parent}: the folder cannot be made ({error.strerror}); give another --output"
        ) from error
    # Both are complete before the first takes its name; the hash inside tells if only one of them did.
    with atomic_path(description) as new_description, atomic_path(target) as new_target:
        save_state(network.portable_state_dict(), new_target, target)
        records = {part: vars(record) for part, record in network.records.items()}
        content = {"sha256": sha256_of(new_target), "weights": records}
        new_description.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return target


def save_state(state: Mapping[str, torch.Tensor], temporary: Path, target: Path) -> None:
    """Write a state dict to the ``temporary`` file of ``target``.

    Raises:
        OutputError: if it cannot be written.
    """
    try:
        torch.save(state, temporary)
    except RuntimeError as error:
        # What torch makes of a full disk.
        reason = str(error).splitlines()[0]
        raise OutputError(
            f"{target}: cannot be written ({reason}); free space there, or give another --output"
        ) from error


def read_records(checkpoint: str | os.PathLike[str]) -> dict[str, WeightsRecord]:
    """What a file that :func:`convert` wrote was made of, by part, from the ``.json`` beside it.

    Args:
        checkpoint: the converted file, ``models/model.pt``.

    Returns:
        The records; one for the part ``network``, of unknown licence and with a warning, if there is no such ``.json``.

    Raises:
        WeightsError: if the ``.json`` is damaged or describes another file.
    """
    checkpoint = Path(checkpoint)
    file = checkpoint.with_suffix(".json")
    found = sha256_of(checkpoint)
    if not file.is_file():
        logger.warning("%s has no %s beside it: what it was made of is not known.", checkpoint, file.name)
        return {"network": WeightsRecord(checkpoint.name, found, "unknown", None)}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        expected = content["sha256"]
        records = {part: WeightsRecord(**record) for part, record in content["weights"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{file} is not what `python -m monai_zsad convert` writes: make {checkpoint} anew with it"
        ) from error
    if found != expected:
        raise WeightsError(
            f"{checkpoint} is damaged, or {file.name} describes another file: make it anew with `python -m monai_zsad "
            f"convert`, or remove {file.name} if the weights are your own"
        )
    return records
