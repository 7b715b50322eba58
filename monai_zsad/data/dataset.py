"""A data set in which a scan that cannot be read does not end the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from monai.data import Dataset

from monai_zsad.data.failures import explain, failure_code

__all__ = ["ScreeningDataset"]

_logger = logging.getLogger(__name__)


class ScreeningDataset(Dataset):
    """MONAI's ``Dataset``, in which an item that fails to load or transform becomes an item that says why.

    An exception in :class:`monai.data.Dataset` travels out of the DataLoader and ends the loop over it, so one
    unreadable scan of a cohort costs all that follow, and with worker processes the loop cannot be resumed. Here such
    an item is ``{"case": id, "error": one sentence}``, with ``"code"`` where the failure has one
    (:func:`failure_code`); the workflow counts it as failed and the run goes on.
    ``KeyboardInterrupt`` passes.

    MONAI's DataLoader collates both kinds of item with ``batch_size=1`` (one scan at a time: scans differ in shape,
    and the slices of one scan are batched by the inferer). Nothing is loaded in a thread beside the network: that saved
    no time (59.3 against 60.3 s for six volumes on a CPU), and ITK, where it loads its modules late, changes the
    working folder of the whole process meanwhile. Worker processes (``num_workers``) do load ahead.

    With a ``gate`` that does not let a case pass, nothing is loaded and the item is ``{"case": id, "error": "",
    "elsewhere": "true"}``: another process of the run has it.

    Args:
        data: records with a ``case``, as :func:`find_scans` gives them.
        transform: as for :class:`monai.data.Dataset`.

    Attributes:
        gate: asked for each case when its item is wanted, perhaps in a process of the DataLoader; None lets all pass.

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
