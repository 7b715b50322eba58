"""The steps of a bundle's ``postprocessing`` without the steps that write files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from monai.transforms import Compose

from monai_zsad.writers import CaseWriter

__all__ = ["without_writers"]


def without_writers(steps: Compose | Iterable[Any]) -> list[Any]:
    """Return the same transforms in the same order, without the transforms that write files of a case.

    Some programs, for example MONAI Label, send the result to their own client and need no files. A writer changes
    nothing on the disk when it is built. So a program can first build a bundle's ``postprocessing`` and then filter it.

    Args:
        steps: a ``Compose``, or its transforms.

    Example:
        >>> from monai.transforms import Identityd
        >>> from monai_zsad.writers import SaveCased
        >>> steps = without_writers(Compose([Identityd("pred"), SaveCased("pred", "out")]))
        >>> [type(step).__name__ for step in steps]
        ['Identityd']
    """
    transforms = steps.transforms if isinstance(steps, Compose) else steps
    return [step for step in transforms if not isinstance(step, CaseWriter)]
