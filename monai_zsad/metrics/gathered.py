"""Base class of the metrics. Every process collects rows of values, which are gathered for the final value."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from monai.metrics import CumulativeIterationMetric
from monai.utils import evenly_divisible_all_gather

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics.values import as_array, not_finite, why_undefined

__all__ = ["GatheredMetric", "items_of"]


class GatheredMetric(CumulativeIterationMetric):
    """Base class of the metrics. It keeps rows of float64 in main memory, or only their sum.

    MONAI's ``Cumulative`` keeps one tensor per sample, and all must have the same shape. Its memory grows with the
    data. A process without data does not take part in the exchange, and the other processes then wait for ever. A list
    of predictions is cut to the length of the list of truths. Here:

    - a subclass makes rows (n, k) from a batch, and with ``summed`` only their sum is kept;
    - scores that are not finite are counted by sample, and make the metric undefined, see :meth:`undefined`;
    - every process takes part in the exchange, even if it has no data.

    Args:
        columns: length k of a row.
        summed: whether to keep the sum of all rows instead of the rows.
    """

    _buffers: list[list[torch.Tensor]] | None

    def __init__(self, columns: int, *, summed: bool) -> None:
        super().__init__()
        self.columns = columns
        self.summed = summed

    def reset(self) -> None:
        """Remove all data."""
        super().reset()
        self._given = 0
        self._broken: list[tuple[int, int]] = []
        self._synced_broken = _no_broken()

    @abstractmethod
    def rows_of(self, scores: np.ndarray, truth: np.ndarray, **others: np.ndarray) -> np.ndarray:
        """Make the rows of one sample.

        Args:
            scores: scores of the sample, (C, ...).
            truth: truth of the sample. Its shape may differ from that of the scores.
            **others: other values of the sample, by name.

        Returns:
            Rows (n, k).
        """

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **others: Any) -> torch.Tensor:
        return self._rows(y_pred, y, others)

    def _compute_list(self, y_pred: Any, y: Any = None, **others: Any) -> torch.Tensor:
        return self._rows(y_pred, y, others)

    def _rows(self, y_pred: Any, y: Any, others: dict[str, Any]) -> torch.Tensor:
        """Rows (n, k) of a batch or of a list of samples."""
        beside = {name: value for name, value in others.items() if value is not None}
        for name, value in {"truth": y, **beside}.items():
            if value is None or len(value) != len(y_pred):
                count = "none" if value is None else len(value)
                raise ConfigurationError(f"{len(y_pred)} predictions, but of {name} {count}: give one for each")
        rows, broken = [], []
        for n, one in enumerate(y_pred):
            scores = as_array(one)
            rows.append(
                self.rows_of(scores, as_array(y[n]), **{name: as_array(value[n]) for name, value in beside.items()})
            )
            if bad := not_finite(scores):
                broken.append((self._given + n, bad))
        self._given += len(y_pred)
        self._broken += broken
        found = np.concatenate(rows) if rows else np.zeros((0, self.columns))
        return torch.from_numpy(found.astype(np.float64, copy=False))

    def extend(self, *data: Any) -> None:
        """Add rows (n, k)."""
        (rows,) = data
        kept = self._buffers[0] if self._buffers else []
        if self.summed:
            kept = [torch.cat([*kept, rows]).sum(0, keepdim=True)] if len(rows) else kept
        else:
            kept = [*kept, rows]
        self._buffers = [kept]
        self._synced = False

    def append(self, *data: Any) -> None:
        """Add one row (k,)."""
        self.extend(*(torch.as_tensor(row, dtype=torch.float64)[None] for row in data))

    def _sync(self) -> None:
        if self._synced:
            return
        kept = self._buffers[0] if self._buffers else []
        rows = torch.cat(kept) if kept else torch.zeros(0, self.columns, dtype=torch.float64)
        self._synced_tensors = [evenly_divisible_all_gather(rows, concat=True)]
        rank = idist.get_rank()
        mine = torch.cat([_no_broken(), *(torch.tensor([[rank, *one]]) for one in self._broken)])
        self._synced_broken = torch.as_tensor(evenly_divisible_all_gather(mine, concat=True))
        self._synced = True

    def undefined(self) -> str:
        """Reason why the metric is undefined: scores that are not finite, by sample. Empty if all scores are finite.

        The scores of all processes are checked. Each process counts its samples from 0.
        """
        self._sync()
        several = idist.get_world_size() > 1
        return why_undefined(
            {
                f"index {index} of process {rank}" if several else f"index {index}": bad
                for rank, index, bad in self._synced_broken.tolist()
            }
        )

    def gathered(self) -> np.ndarray:
        """Rows (n, k) of all processes, or their sum (k,).

        Raises:
            ConfigurationError: no process has data.
        """
        rows = self.get_buffer()
        if not len(rows):
            raise ConfigurationError("there is nothing to aggregate: no sample was given")
        return rows.sum(0).numpy() if self.summed else rows.numpy()


def _no_broken() -> torch.Tensor:
    """An empty table: rank of the process, index of the sample, and number of its scores that are not finite."""
    return torch.zeros(0, 3, dtype=torch.int64)


def items_of(scores: np.ndarray, truth: np.ndarray, dimensions: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A map (1, ...) and its mask, both without the channel axis.

    Raises:
        ConfigurationError: shapes differ, there is more than one channel, or the number of other axes is not in
            ``dimensions``.
    """
    if scores.shape != truth.shape or scores.ndim - 1 not in dimensions or scores.shape[0] != 1:
        wanted = {2: "(1, H, W)", 3: "(1, X, Y, Z)"}
        raise ConfigurationError(
            f"a map of shape {scores.shape} with a mask of shape {truth.shape}: give both in the same shape, "
            f"{' or '.join(wanted[count] for count in dimensions)}"
        )
    return scores[0], truth[0]
