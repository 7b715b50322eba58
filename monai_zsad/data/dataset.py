"""A data set in which a scan that cannot be read does not end the run."""

from __future__ import annotations

import logging
from typing import Any

from monai.data import Dataset

from monai_zsad.data.failures import explain

__all__ = ["ScreeningDataset"]

_logger = logging.getLogger(__name__)


class ScreeningDataset(Dataset):
    """MONAI's ``Dataset``, in which an item that fails to load or transform becomes an item that says why.

    An exception in :class:`monai.data.Dataset` travels out of the DataLoader and ends the loop over it, so one
    unreadable scan of a cohort costs all that follow, and with worker processes the loop cannot be resumed. Here such
    an item is ``{"case": id, "error": one sentence}``; :func:`monai_zsad.apps.screening.isolate_failures` counts it as
    failed and the run goes on. ``KeyboardInterrupt`` passes.

    MONAI's DataLoader collates both kinds of item with ``batch_size=1`` (one scan at a time: scans differ in shape,
    and the slices of one scan are batched by the inferer).

    Args:
        data: records with a ``case``, as :func:`find_scans` gives them.
        transform: as for :class:`monai.data.Dataset`.

    Example:
        >>> def load(record):
        ...     raise FileNotFoundError("scan.nii is gone")
        >>> ScreeningDataset([{"case": "anna"}], load)[0]
        {'case': 'anna', 'error': 'FileNotFoundError: scan.nii is gone'}
    """

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:
            case = str(self.data[index].get("case", index))
            _logger.debug("%s: failed while loading", case, exc_info=True)
            return {"case": case, "error": explain(error)}
