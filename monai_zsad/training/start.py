"""Start of a bundle's training: its data, its weights, and checks of its options."""

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
    """Training and validation data of a bundle: two folders, or one that is split.

    Args:
        dataset_dir: see :func:`~monai_zsad.data.find_labelled`.
        validation_dir: data to choose the best model by; never those that it is tested on. ``None`` splits
            ``dataset_dir``.
        layout: of both folders.
        parts: of both data sets.
        validation_fraction: share of each class for validation, without ``validation_dir``.
        seed: of the split.

    Returns:
        Records under ``training`` and ``validation``.

    Raises:
        InputError: if a folder has no labelled data, or validation no anomalous image.
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
    """Make the output folder; refuse to overwrite an earlier training, and options that contradict each other.

    Args:
        output_dir: of the training.
        network: its training network.
        resume: go on where an earlier run in the folder stopped.
        overwrite: without ``resume``, let its files be replaced.
        augmented: whether the images are changed at random.

    Raises:
        ConfigurationError: if features of augmented images were to be kept.
        OutputError: if the folder cannot be made, or holds a training that is neither resumed nor to be replaced.
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
    """Load the frozen weights and start the trained part.

    The trained part starts from random values, or from the file that ``weights`` names for it. Stage 2 of AA-CLIP
    takes its text adapter from ``output_dir``, where stage 1 has left it, if none is named.

    Args:
        network: the training network.
        weights: a source for each part, ``None`` where the user gave none.
        released: the parts that the method has; only CLIP is taken from it.
        output_dir: of the training.
        seed: of the start.
        activation: what CLIP weights from a file were trained with, where the file does not tell.

    Raises:
        ConfigurationError: if ``weights`` names a part that the method does not have.
        WeightsError: if weights are unknown, missing, damaged or do not fit.
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
