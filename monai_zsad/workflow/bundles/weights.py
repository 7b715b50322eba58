"""Weights of a bundle: load them for a run, and convert them to the file ``models/model.pt`` of the bundle."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

import torch

from monai_zsad.backbones.architectures import Activation
from monai_zsad.backbones.weights import WeightsRecord, read_state_dict, refuse_pointer, sha256_of
from monai_zsad.errors import ConfigurationError, OutputError, WeightsError, did_you_mean
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.workflow.bundles.reading import build_network, read_bundle, released_weights
from monai_zsad.writers import atomic_path

__all__ = ["check_parts", "convert", "load_weights", "name_large_file", "read_records", "save_state"]

logger = logging.getLogger(__name__)


def load_weights(
    network: ZeroShotNetwork,
    weights: Mapping[str, str | None],
    released: Mapping[str, str | None],
    checkpoint: str | os.PathLike[str] | None = None,
    activation: str | None = None,
) -> dict[str, WeightsRecord]:
    """Load the weights of a network: those of the user, or a converted file, or the released weights.

    Args:
        network: network without weights.
        weights: source of each part (``clip``, ``prompts``, ...). ``None``: the user gave no source for it.
        released: source of each part for which the user gave no source. ``None``: no weights are published for it.
        checkpoint: file with the state dict of the complete network (see :func:`convert`). It is loaded if it exists
            and the user gave no source for any part.
        activation: activation of CLIP weights from a file that does not contain this information.

    Returns:
        Record of the loaded weights for each part. It is also logged.

    Raises:
        ConfigurationError: if ``weights`` names a part that the method does not have.
        WeightsError: if weights are unknown, missing or damaged, or if they do not fit.
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
                + _weights_options(lacking, "FILE")
            )
        network.load_weights(**sources, activation=activation)
    for part, record in network.records.items():
        logger.info("%s weights: %s", part, record.summary())
    return network.records


def _weights_options(parts: Iterable[str], source: str) -> str:
    """Options of both command lines."""
    names = list(parts)
    screen = " ".join(f"--weights {part}={source}" for part in names)
    return f"{screen}, or {' '.join(f'--weights#{part} {source}' for part in names)} of monai.bundle"


def check_parts(
    weights: Mapping[str, str | None], released: Mapping[str, str | None], activation: str | None = None
) -> None:
    """Check that the parts in ``weights`` are parts of the method, and that ``activation`` is known.

    Raises:
        ConfigurationError: if not. The message names the possible values.
    """
    if not isinstance(weights, Mapping):
        raise ConfigurationError(
            f"weights={weights!r} does not name a part of the method; give a source for each part: "
            f"{_weights_options([next(iter(released))], str(weights))}"
        )
    if unknown := sorted(weights.keys() - released.keys()):
        raise ConfigurationError(
            f"weights: this method does not have the part {unknown[0]}; {did_you_mean(unknown[0], released)}"
        )
    if activation not in (None, *get_args(Activation)):
        raise ConfigurationError(f"weights_activation={activation!r}: choose {' or '.join(get_args(Activation))}")


def _load_checkpoint(network: ZeroShotNetwork, path: Path) -> None:
    # Before torch reads the file: the hash finds a damaged file, and its error is clearer than the error of torch.
    refuse_pointer(path)
    records = read_records(path)
    state = read_state_dict(path)
    own = network.state_dict()
    if state.keys() != own.keys():
        missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        raise WeightsError(
            f"{path} has the weights of another network: missing {missing[:3] or 'nothing'}, unknown "
            f"{surplus[:3] or 'nothing'}; make it again with `python -m monai_zsad convert`"
        )
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not fit this network ({str(error).splitlines()[-1].strip()}): "
            "set the architecture of this file, or make the file again with `python -m monai_zsad convert`"
        ) from error
    if hasattr(network, "prompts"):
        # The file has text anchors of the prompts at its conversion. The prompts of this run can be others.
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
    """Write ``models/model.pt`` of a bundle: all weights of its network as one plain state dict.

    MONAI Label and other programs need it, because they build ``network_def`` and load one file. The file
    ``model.json`` in the same folder has the sources of the weights. Without it, random weights look like real ones.

    Args:
        bundle: folder of the bundle.
        weights: source of each part. All other parts get the released weights.
        output: file to write. The default is ``models/model.pt`` of the bundle.
        activation: activation of CLIP weights from a file that does not contain this information.
        overwrite: whether to replace an existing file.

    Returns:
        The file.

    Raises:
        ConfigurationError: if ``bundle`` is not a bundle, or if ``weights`` names a part that the method does not have.
        OutputError: if the file exists and ``overwrite`` is false, or if it cannot be written.
        WeightsError: if weights are unknown, missing or damaged, or if they do not fit.
    """
    target = Path(bundle) / "models" / "model.pt" if output is None else Path(output)
    description = target.with_suffix(".json")
    if description == target:
        raise OutputError(f"{target}: the sources of the weights need this name; give an --output that ends in .pt")
    if not overwrite and (existing := [file for file in (target, description) if file.exists()]):
        raise OutputError(f"{existing[0]} exists: add --overwrite to replace it, or give another --output")
    parser = read_bundle(bundle, {})
    released = released_weights(parser)
    # It takes long to build the network, so check first.
    check_parts(weights or {}, released)
    network = build_network(parser, bundle)
    load_weights(network, weights or {}, released, activation=activation)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target.parent}: the folder cannot be made ({error.strerror}); give another --output"
        ) from error
    # Both files are complete before the first gets its name. If only one gets its name, the hash shows it later.
    with atomic_path(description) as new_description, atomic_path(target) as new_target:
        save_state(network.portable_state_dict(), new_target, target)
        records = {part: vars(record) for part, record in network.records.items()}
        content = {"sha256": sha256_of(new_target), "weights": records}
        new_description.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return target


def name_large_file(bundle: str | os.PathLike[str], url: str) -> Path:
    """Let ``large_files.yml`` of a bundle name ``models/model.pt`` and nothing else.

    MONAI's ``download_large_files`` then gets that one file, which MONAI's Model Zoo asks for. The files of which it
    was made are not needed any more.

    Args:
        bundle: folder of the bundle, with ``models/model.pt`` of :func:`convert`.
        url: where that file can be downloaded.

    Returns:
        ``large_files.yml``.
    """
    file = Path(bundle) / "large_files.yml"
    sha256 = sha256_of(Path(bundle) / "models" / "model.pt")
    lines = ["path: models/model.pt", f"url: {json.dumps(url)}", f"hash_val: {sha256}", "hash_type: sha256"]
    file.write_text("large_files:\n  - " + "\n    ".join(lines) + "\n", encoding="utf-8")
    return file


def save_state(state: Mapping[str, torch.Tensor], temporary: Path, target: Path) -> None:
    """Write a state dict to ``temporary``, the temporary file of ``target``.

    Raises:
        OutputError: if the file cannot be written.
    """
    try:
        torch.save(state, temporary)
    except RuntimeError as error:
        # torch raises this if the disk is full.
        reason = str(error).splitlines()[0]
        raise OutputError(
            f"{target}: cannot be written ({reason}); free space there, or give another --output"
        ) from error


def read_records(checkpoint: str | os.PathLike[str]) -> dict[str, WeightsRecord]:
    """Read the sources of the weights in a file of :func:`convert`, from the ``.json`` file in the same folder.

    Args:
        checkpoint: the converted file, ``models/model.pt``.

    Returns:
        Record of each part. If there is no ``.json`` file, one record of the part ``network`` with an unknown licence;
        a warning is logged.

    Raises:
        WeightsError: if the ``.json`` file is damaged or describes another file.
    """
    checkpoint = Path(checkpoint)
    file = checkpoint.with_suffix(".json")
    found = sha256_of(checkpoint)
    if not file.is_file():
        logger.warning("%s: the sources of these weights are unknown, because there is no %s.", checkpoint, file.name)
        return {"network": WeightsRecord(checkpoint.name, found, "unknown", None)}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        expected = content["sha256"]
        records = {part: WeightsRecord(**record) for part, record in content["weights"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(f"{file} is damaged: make {checkpoint} again with `python -m monai_zsad convert`") from error
    if found != expected:
        raise WeightsError(
            f"{checkpoint} is damaged, or {file.name} describes another file: make both again with `python -m "
            f"monai_zsad convert`, or remove {file.name} if the weights are your own"
        )
    return records
