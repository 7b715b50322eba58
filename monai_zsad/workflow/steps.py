"""The steps of a bundle's ``postprocessing``, with and without those that write files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from monai.transforms import Compose

from monai_zsad.writers import CaseWriter

__all__ = ["without_writers"]


def without_writers(steps: Compose | Iterable[Any]) -> list[Any]:
    """Return the same transforms in the same order, without those that write files of a case.

    A program that hands the result to its own client, such as MONAI Label, writes no such files. Building a writer
    changes nothing on the disk. So a program can build a bundle's ``postprocessing`` first and filter it then.

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
