"""Start of a bundle's training: find its data, load its weights, and check its options."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_zsad.data.benchmarks.datalists import find_labelled, split_cases
from monai_zsad.errors import ConfigurationError, InputError, OutputError
from monai_zsad.flags import parse_flag
from monai_zsad.training.crane import TrainingNetwork
from monai_zsad.training.files import TrainingFiles
from monai_zsad.workflow.bundles import check_parts

__all__ = ["TrainingFiles", "check_training", "has_tensorboard", "labelled_cases", "start_training"]

_logger = logging.getLogger(__name__)


def has_tensorboard() -> bool:
    """Whether TensorBoard's writer is installed.

    >>> has_tensorboard() in (True, False)
    True
    """
    return importlib.util.find_spec("tensorboard") is not None


def labelled_cases(
    dataset_dir: str | os.PathLike[str],
    validation_dir: str | os.PathLike[str] | None = None,
    *,
    layout: str = "auto",
    parts: Sequence[str] | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> dict[str, list[dict[str, Any]]]:
    """Training and validation data of a bundle, from two folders or from one folder that is split.

    Args:
        dataset_dir: see :func:`~monai_zsad.data.find_labelled`.
        validation_dir: data from which the best model is chosen. Never use test data here. ``None`` splits
            ``dataset_dir``.
        layout: layout of both folders, see :func:`~monai_zsad.data.find_labelled`.
        parts: parts of both data sets, see :func:`~monai_zsad.data.find_labelled`.
        validation_fraction: fraction of each class for validation, without ``validation_dir``.
        seed: random seed of the split.

    Returns:
        Lists of records under ``training`` and ``validation``.

    Raises:
        InputError: a folder has no labelled data, or the training or validation data have no anomalous image.
    """
    records = find_labelled(dataset_dir, layout, parts)
    if validation_dir is None:
        training, validation = split_cases(records, validation_fraction, seed)
    else:
        training, validation = records, find_labelled(validation_dir, layout, parts)
    for name, part in (("training", training), ("validation", validation)):
        if not any(record["anomalous"] for record in part):
            raise InputError(
                f"the {name} data have no anomalous image: give more data, another --validation_fraction, or a "
                "--validation_dir"
            )
        _logger.info("%s: %d cases, %d known to be normal", name, len(part), sum(r["anomalous"] == 0 for r in part))
    return {"training": training, "validation": validation}


def check_training(
    output_dir: str | os.PathLike[str],
    network: TrainingNetwork,
    resume: bool | str = True,
    overwrite: bool | str = False,
    *,
    augmented: bool | str = False,
) -> None:
    """Make the output folder. Refuse to overwrite an earlier training, and refuse contradictory options.

    Args:
        output_dir: output folder of the training.
        network: training network.
        resume: continue an earlier training in the folder where it stopped.
        overwrite: without ``resume``, allow to replace the files of an earlier training.
        augmented: whether random augmentation changes the images.

    Raises:
        ConfigurationError: features of augmented images would be kept.
        OutputError: the folder cannot be made, or it holds an earlier training and neither ``resume`` nor
            ``overwrite`` is set.
    """
    if network.caches and parse_flag("augment", augmented):
        raise ConfigurationError(
            "kept features of augmented images would never be used again: give --augment false, or no --feature_cache"
        )
    folder = Path(output_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); give another --output_dir") from error
    state = folder / f"resume_{network.part}.pt"
    if state.is_file() and not parse_flag("resume", resume):
        if not parse_flag("overwrite", overwrite):
            raise OutputError(
                f"{folder} holds a training of {network.part}: add --resume true to go on with it, --overwrite true to "
                "start again, or give another --output_dir"
            )
        state.unlink(missing_ok=True)


def start_training(
    network: TrainingNetwork,
    weights: Mapping[str, str | None],
    released: Mapping[str, str | None],
    *,
    output_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    activation: str | None = None,
) -> None:
    """Load the frozen weights and initialise the trained part.

    The trained part starts from random values, or from the file that ``weights`` names for it. Stage 2 of AA-CLIP needs
    the text adapter of stage 1. If ``weights`` does not name one, it is read from ``output_dir``.

    Args:
        network: training network.
        weights: source of the weights by part; ``None`` if the user gave no source.
        released: released weights by part of the method. Only those of CLIP are used.
        output_dir: output folder of the training.
        seed: random seed of the initial values.
        activation: activation of CLIP weights from a file, if the file does not state it.

    Raises:
        ConfigurationError: ``weights`` names a part that the method does not have.
        WeightsError: weights are unknown, missing, damaged or do not fit.
    """
    check_parts(weights, released, activation)
    sources: dict[str, Any] = {part: source for part, source in weights.items() if source is not None}
    sources.setdefault("clip", released["clip"])
    stage_one = None if output_dir is None else Path(output_dir).expanduser() / "text_adapter.pth"
    if network.part == "image_adapter" and stage_one is not None and stage_one.is_file():
        sources.setdefault("text_adapter", str(stage_one))
    if network.part == "text_adapter" and sources.pop("image_adapter", None):
        raise ConfigurationError("stage 1 trains the text adapter alone: leave --weights#image_adapter out")
    network.load_weights(**sources, seed=seed, activation=activation)  # type: ignore[arg-type]  # checked above
    record = network.network.clip.record
    _logger.info("clip weights: %s; training %s, %d parameters", record.summary(), network.part, _count(network))


def _count(network: TrainingNetwork) -> int:
    return sum(parameter.numel() for parameter in network.learned.parameters())
