"""Files of a training, and how a training resumes after an interruption."""

from __future__ import annotations

import logging
import math
import os
import random
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from monai_zsad.data import find_user_error
from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.training.crane import TrainingNetwork
from monai_zsad.workflow.bundles import save_state
from monai_zsad.writers import atomic_path

__all__ = ["TrainingFiles", "read_training_state"]

_logger = logging.getLogger(__name__)
_VERSION = 1


class TrainingFiles:
    """Handler that writes the files of a training and resumes an interrupted training.

    MONAI's ``CheckpointSaver`` names files by iteration or metric and can leave incomplete files. It stores neither the
    random generators nor the position within an epoch. Here a file is complete or absent. A training that was killed
    resumes from its last state with the remaining data, and ends with the same weights as without interruption.

    Put it first in the trainer's handlers. When the run starts, it moves behind the other handlers of an iteration and
    of an epoch. It stays before the handlers of an exception, so that a user's error is not logged as a traceback.

    Files in ``output_dir``:

    - after each epoch, the files of the release, which the bundle's inference can load: ``epoch_N.pth`` (Crane),
      ``text_adapter.pth`` (AA-CLIP, stage 1), ``image_adapter.pth`` and ``image_adapter_N.pth`` (stage 2);
    - ``best_PART.pth``, in the same form: the epoch with the best key metric on the validation data;
    - ``resume_PART.pt``: the state from which the training resumes.

    Args:
        output_dir: output folder; it must exist.
        network: training network (not its ``DistributedDataParallel`` wrapper).
        optimizer: optimizer of the trainer.
        sampler: a :class:`~monai_zsad.training.ResumableSampler`.
        batch_size: number of items in a batch of this process.
        lr_scheduler: scheduler of the learning rate. Its state is stored too.
        validator: evaluator of the trainer's ``ValidationHandler``. Its key metric chooses the best epoch.
        every_iterations: number of iterations between two states within an epoch; 0 for the ends of epochs only.
        settings: settings that must stay the same when a training resumes.
        write: whether this process writes files. Only rank 0 does.

    Raises:
        ConfigurationError: the settings differ from those of the training to resume, or the loss is not finite.
        WeightsError: the state cannot be read.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        network: TrainingNetwork,
        optimizer: torch.optim.Optimizer,
        sampler: Any,
        batch_size: int,
        *,
        lr_scheduler: Any = None,
        validator: Any = None,
        every_iterations: int = 100,
        settings: Mapping[str, Any] | None = None,
        write: bool = True,
    ) -> None:
        self.folder = Path(output_dir).expanduser()
        self.network = network
        self.optimizer = optimizer
        self.sampler = sampler
        self.batch_size = batch_size
        self.lr_scheduler = lr_scheduler
        self.validator = validator
        self.every_iterations = every_iterations
        self.settings = {name: str(value) for name, value in (settings or {}).items()}
        self.write = write

    @property
    def state_file(self) -> Path:
        """File of the state from which a training resumes."""
        return self.folder / f"resume_{self.network.part}.pt"

    @property
    def best_file(self) -> Path:
        """File of the weights of the best epoch."""
        return self.folder / f"best_{self.network.part}.pth"

    def attach(self, engine: Engine) -> None:
        """Register the handler with a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._pass_user_errors)

    def _start(self, engine: Any) -> None:
        for event, handler in (
            (Events.ITERATION_COMPLETED, self._after_iteration),
            (Events.EPOCH_COMPLETED, self._after_epoch),
        ):
            if not engine.has_event_handler(handler, event):
                engine.add_event_handler(event, handler)
        if self.state_file.is_file():
            self._resume(engine)

    def _pass_user_errors(self, engine: Any, error: BaseException) -> None:
        del engine
        if find_user_error(error) is not None:
            raise error

    def _after_iteration(self, engine: Any) -> None:
        outputs = engine.state.output if isinstance(engine.state.output, list) else [engine.state.output]
        loss = float(outputs[0]["loss"].detach())
        iteration, length = engine.state.iteration, engine.state.epoch_length
        if not math.isfinite(loss):
            raise ConfigurationError(
                f"the loss is {loss} at iteration {iteration}: lower --learning_rate, or turn amp and half precision "
                f"off; {self.folder} keeps the last state before"
            )
        within = iteration % length
        # A state holds no accumulated gradients, so it is written only after a step of the optimizer. The end of an
        # epoch has its own state.
        steps = within % getattr(engine, "accumulation_steps", 1) == 0
        if within and steps and self.every_iterations and within % self.every_iterations == 0:
            self._write_state(engine)

    def _after_epoch(self, engine: Any) -> None:
        epoch = engine.state.epoch
        for name in self.network.files:
            self._write(self._checkpoint(epoch), self.folder / name.format(epoch=epoch))
        if self.validator is not None and self.validator.state.best_metric_epoch == epoch:
            self._write(self._checkpoint(epoch), self.best_file)
        self._write_state(engine)

    def _checkpoint(self, epoch: int) -> dict[str, Any]:
        content: dict[str, Any] = {self.network.part: _plain(self.network.learned.state_dict())}
        if self.network.optimizer_key is not None:
            content |= {"epoch": epoch, self.network.optimizer_key: self.optimizer.state_dict()}
        return content

    def _write_state(self, engine: Any) -> None:
        best = {} if self.validator is None else vars(self.validator.state)
        scaler = getattr(engine, "scaler", None)
        self._write(
            {
                "version": _VERSION,
                "settings": self.settings,
                "iteration": engine.state.iteration,
                "epoch_length": engine.state.epoch_length,
                "learned": _plain(self.network.learned.state_dict()),
                "optimizer": self.optimizer.state_dict(),
                "lr_scheduler": None if self.lr_scheduler is None else self.lr_scheduler.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "best": {name: best[name] for name in ("best_metric", "best_metric_epoch") if name in best},
                "random": _random_state(),
            },
            self.state_file,
        )

    def _write(self, content: Mapping[str, Any], path: Path) -> None:
        if self.write:
            with atomic_path(path) as temporary:
                save_state(content, temporary, path)

    def _resume(self, engine: Any) -> None:
        state = read_training_state(self.state_file)
        settings, iteration, length = state["settings"], state["iteration"], state["epoch_length"]
        new = {**self.settings, "iterations in an epoch": str(engine.state.epoch_length)}
        old = {**settings, "iterations in an epoch": str(length)}
        if changed := [f"{name} was {old.get(name)}, is {new[name]}" for name in new if new[name] != old.get(name)]:
            raise ConfigurationError(
                f"{self.folder} holds a training with other settings ({'; '.join(changed)}): set them as they were, "
                "give another --output_dir, or start again with --resume false --overwrite true"
            )
        self.network.learned.load_state_dict(state["learned"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.lr_scheduler is not None and state["lr_scheduler"] is not None:
            self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        if getattr(engine, "scaler", None) is not None and state["scaler"] is not None:
            engine.scaler.load_state_dict(state["scaler"])
        if self.validator is not None:
            for name, value in state["best"].items():
                setattr(self.validator.state, name, value)
        _set_random_state(state["random"])
        engine.state.iteration = iteration
        engine.state.epoch = iteration // length
        self.sampler.skip = iteration % length * self.batch_size
        _logger.info("going on at epoch %d, iteration %d of %d", engine.state.epoch + 1, iteration % length + 1, length)


def read_training_state(path: Path) -> dict[str, Any]:
    """Read the state of a training. It may hold only plain values and tensors, so that loading runs no code.

    Raises:
        WeightsError: the file is damaged, holds other objects, or is not the state of a training.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if lacking := {"settings", "iteration", "epoch_length"} - state.keys():
            raise LookupError(f"no {min(lacking)}")
    except (OSError, RuntimeError, LookupError, ValueError, EOFError, AttributeError, UnpicklingError) as error:
        raise WeightsError(
            f"{path} is damaged or not the state of a training: remove it to start again, or start from a file of the "
            "last epoch (--weights#...)"
        ) from error
    return dict(state)


def _plain(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def _random_state() -> dict[str, Any]:
    # MONAI's set_determinism seeds the global generators.
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_state(state: Mapping[str, Any]) -> None:
    name, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        for device, generator in enumerate(state["cuda"]):
            torch.cuda.set_rng_state(generator, device)
