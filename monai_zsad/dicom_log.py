"""Lines of pydicom's log that say the same for every text of every slice, left out for all readers and writers."""

from __future__ import annotations

import logging
import re
import warnings

__all__ = ["drop_character_set_lines"]

_LINES = (
    r"(Unknown encoding|Incorrect value for Specific Character Set|Failed to (de|en)code (byte string|value) with|"
    r"Found unknown escape sequence|Value '.*' (for Specific Character Set does not|cannot be used as code extension))"
)


class _CharacterSetLines(logging.Filter):
    """Drops lines about character sets."""

    def filter(self, record: logging.LogRecord) -> bool:
        return re.match(_LINES, record.getMessage()) is None


_FILTER = _CharacterSetLines()


def drop_character_set_lines() -> None:
    """Leave pydicom's lines about unknown or wrong character sets out of the log, from now on.

    pydicom writes two lines for each text of each file, as log and as warning. They decide nothing about a scan's
    values. The writers of DICOM results check the texts, and warn once. A second call changes nothing.

    Example:
        >>> drop_character_set_lines()
        >>> logging.getLogger("pydicom").warning("Unknown encoding 'X' - using default encoding instead")
    """
    logger = logging.getLogger("pydicom")
    if _FILTER in logger.filters:
        return  # a new filter for warnings would let all other warnings appear once more
    logger.addFilter(_FILTER)
    warnings.filterwarnings("ignore", message=_LINES, category=UserWarning)
