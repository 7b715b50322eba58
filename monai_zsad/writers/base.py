"""Common base of all transforms that write files of a case, and the paths of these files."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.data import FolderLayoutBase
from monai.transforms import MapTransform

from monai_zsad.result_files import case_folder
from monai_zsad.writers.facts import Meta, ResultWarning, described, with_warnings
from monai_zsad.writers.files import cannot_write

__all__ = ["CaseLayout", "CaseWriter", "RunSettings"]


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run that are written into the files of a case.

    Attributes:
        findings: settings that change the findings, by name. They are written into ``findings.json`` and into the
            report.
        files: settings that change any of the files. The manifest contains their hash: a resumed run must have the same
            settings.
        run: what a reader of the results is told about the run, by name, such as ``anatomy``. It decides nothing here:
            the description of the model does.

    Example:
        >>> RunSettings(findings={"threshold": 0.5}, files={"threshold": 0.5, "output_ext": ".nii.gz"}).findings
        {'threshold': 0.5}
    """

    findings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)


class CaseLayout(FolderLayoutBase):
    """``<output_dir>/<case>/<postfix><extension>``: the path of a file of a case.

    MONAI's ``FolderLayout`` derives the name from the source file. For a DICOM series, that is the name of its first
    slice. In a cohort, it is often the same in every folder, so that a later result silently replaces an earlier one.

    Args:
        output_dir: folder of the run.
        postfix: content of the file, such as ``"anomaly"``.
        extension: extension with its dot.
        makedirs: make the case's folder.

    Raises:
        OutputError: if the folder cannot be made.

    Example:
        >>> CaseLayout("out", "anomaly", ".nii.gz").filename(subject="anna").as_posix()
        'out/anna/anomaly.nii.gz'
    """

    def __init__(
        self, output_dir: str | os.PathLike[str], postfix: str, extension: str, makedirs: bool = False
    ) -> None:
        self.output_dir = Path(output_dir).expanduser()
        self.postfix = postfix
        self.extension = extension
        self.makedirs = makedirs

    def filename(self, subject: str = "", **kwargs: object) -> Path:  # noqa: ARG002
        """Path of the file of the case ``subject``."""
        folder = case_folder(self.output_dir, subject)
        if self.makedirs:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise cannot_write(folder, error) from error
        return folder / f"{self.postfix}{self.extension}"


class CaseWriter(MapTransform):
    """Base class of all transforms that write files of a case; the data pass through, with warnings about the results.

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
            A copy of the dictionary with the same values. Only what :meth:`write` warns of is added to its entries
            ``warnings`` (sentences) and ``warning_codes``.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            d = with_warnings(d, self.write(d, key) or ())
        return d

    @abstractmethod
    def write(self, data: Mapping[Hashable, Any], key: str) -> Sequence[ResultWarning] | None:
        """Write the files for one key.

        Args:
            data: data of one case.
            key: a key of ``data``.

        Returns:
            Warnings about the results, or nothing.

        Raises:
            OutputError: if something is missing in the data, or a file cannot be written.
        """
