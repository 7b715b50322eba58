"""A data set in which an unreadable scan does not end the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from monai.data import Dataset

from monai_zsad.data.failures import explain, failure_code

__all__ = ["ScreeningDataset"]

_logger = logging.getLogger(__name__)


class ScreeningDataset(Dataset):
    """MONAI's ``Dataset``, in which an item that fails to load or transform becomes an item with the reason.

    :class:`monai.data.Dataset` was not enough: its exception ends the loop over the DataLoader, so one unreadable scan
    would lose all later scans, and with worker processes the loop cannot be resumed. Here the item of a failed scan is
    ``{"case": id, "error": one sentence}``, with ``"code"`` if the failure has one (:func:`failure_code`). The workflow
    counts the case as failed, and the run goes on. ``KeyboardInterrupt`` is not caught.

    MONAI's DataLoader collates both kinds of item with ``batch_size=1``: scans differ in shape, and the inferer makes
    batches of the slices of one scan. Scans are not loaded in a second thread: it did not save time, and ITK changes
    the working folder of the process while it loads its modules. Worker processes (``num_workers``) load ahead.

    If the ``gate`` rejects a case, nothing is loaded, and the item is ``{"case": id, "error": "", "elsewhere":
    "true"}``: another process of the run screens this case.

    Args:
        data: records with a ``case``, as :func:`find_scans` gives them.
        transform: as for :class:`monai.data.Dataset`.

    Attributes:
        gate: called with the case id before an item is loaded, perhaps in a worker process; None accepts all cases.

    Example:
        >>> def load(record):
        ...     raise FileNotFoundError("scan.nii is gone")
        >>> ScreeningDataset([{"case": "anna"}], load)[0]
        {'case': 'anna', 'error': 'FileNotFoundError: scan.nii is gone'}
    """

    def __init__(self, data: Sequence[Any], transform: Sequence[Callable] | Callable | None = None) -> None:
        super().__init__(data, transform)
        self.gate: Callable[[str], bool] | None = None

    def select(self, data: Sequence[Any], gate: Callable[[str], bool] | None = None) -> None:
        """Load these records from now on.

        Args:
            data: records, as for the constructor.
            gate: see :attr:`gate`.
        """
        self.data = list(data)
        self.gate = gate

    def _transform(self, index: int) -> Any:
        case = str(self.data[index].get("case", index))
        if self.gate is not None and not self.gate(case):
            return {"case": case, "error": "", "elsewhere": "true"}
        try:
            return super()._transform(index)
        except Exception as error:
            _logger.debug("%s: failed while loading", case, exc_info=True)
            code = failure_code(error)
            return {"case": case, "error": explain(error), **({"code": code} if code else {})}
