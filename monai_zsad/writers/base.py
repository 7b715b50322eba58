"""Common base of all transforms that write files of a case."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_zsad.writers.facts import Meta, described

__all__ = ["CaseWriter", "RunSettings"]


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run that are written into the files of a case.

    Attributes:
        findings: settings that change the findings, by name. They are written into ``findings.json`` and into the
            report.
        files: settings that change any of the files. The manifest contains their hash: a resumed run must have the same
            settings.

    Example:
        >>> RunSettings(findings={"threshold": 0.5}, files={"threshold": 0.5, "output_ext": ".nii.gz"}).findings
        {'threshold': 0.5}
    """

    findings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)


class CaseWriter(MapTransform):
    """Base class of every transform that writes files of a case; the data pass through unchanged.

    MONAI has no common class of transforms that write. With this class, a program finds the writers of a bundle by
    ``isinstance(step, CaseWriter)``, for instance to leave them out or to measure their time.

    A subclass implements :meth:`write`.

    Args:
        keys: keys of the anomaly map, or of other data that the writer saves.
        meta: the bundle's description of its model. A function is called when a case is written. At that time, the
            weights are loaded, even if the transform was made earlier.
        allow_missing_keys: skip keys that are not in the data.

    Example:
        >>> class PrintCase(CaseWriter):
        ...     def write(self, data, key):
        ...         print(data["case"], key)
        >>> data = PrintCase("pred")({"case": "anna", "pred": 1})
        anna pred
    """

    def __init__(self, keys: KeysCollection, meta: Meta = None, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.meta = meta

    @property
    def model(self) -> dict[str, Any]:
        """The description of the model, as it is now."""
        return described(self.meta)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the files for every key.

        Args:
            data: data of one case.

        Returns:
            A copy of the dictionary with the same values.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            self.write(d, key)
        return d

    @abstractmethod
    def write(self, data: Mapping[Hashable, Any], key: str) -> None:
        """Write the files for one key.

        Args:
            data: data of one case.
            key: a key of ``data``.

        Raises:
            OutputError: if something is missing in the data, or a file cannot be written.
        """
