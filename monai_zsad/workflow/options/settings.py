"""What the options of a run are set to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.options.option import Option
from monai_zsad.workflow.options.table import OPTIONS, check_together
from monai_zsad.writers.base import RunSettings

__all__ = ["Settings"]

_TOLD = ("prompt_set", "anatomy", "modality", "states")


class Settings:
    """The values of a bundle's options, checked, as attributes.

    MONAI's configuration passes values on as they are given. Here each value is compared with its entry in the table of
    options, and the record of settings is made of the table, so that no option can be forgotten in it.

    Args:
        table: the options; for tests.
        **values: of options by name, as the configuration has them.

    Raises:
        ConfigurationError: if a name is not in the table; or when a value that cannot be used is read.

    Example:
        >>> settings = Settings(plane="axial", refine="true", device="cpu")
        >>> settings.refine, settings.findings
        (True, {'plane': 'axial', 'refine': True})
        >>> settings.files
        {'findings': {'plane': 'axial', 'refine': True}}
    """

    def __init__(self, table: Sequence[Option] = OPTIONS, **values: Any) -> None:
        known = {option.name: option for option in table}
        if unknown := sorted(values.keys() - known.keys()):
            raise ConfigurationError(
                f"{unknown[0]} is not in the table of options (monai_zsad/workflow/options/table.py)"
            )
        self._options = {name: option for name, option in known.items() if name in values}
        self._values = values

    def __getattr__(self, name: str) -> Any:
        options = self.__dict__.get("_options", {})
        if name not in options:
            raise AttributeError(f"this bundle has no option {name!r}")
        return options[name].parse(self._values[name])

    def check(self, arguments: Sequence[str] | None = None) -> None:
        """First step of a bundle: errors become sentences, and all that was given is checked.

        Args:
            arguments: MONAI's command line; None for that of this process.

        Raises:
            ConfigurationError: for the first name or value that cannot be used.
        """
        from monai_zsad.networks import check_runtime
        from monai_zsad.workflow.determinism import check_workspace
        from monai_zsad.workflow.options.command_line import check_options
        from monai_zsad.workflow.user_errors import friendly_errors

        friendly_errors()
        check_options(arguments)
        given = self.as_dict()
        check_together(given)
        if given.get("deterministic"):
            check_workspace(given["device"])
        if "runtime" in given:
            check_runtime(*(given[name] for name in ("runtime", "precision", "device", "amp", "runtime_file")))

    @property
    def findings(self) -> dict[str, Any]:
        """What decides the findings, beside scan and model, by the names in the record."""
        return self._recorded("findings")

    @property
    def files(self) -> dict[str, Any]:
        """What decides the files of a case: ``findings``, and other options by name."""
        return {"findings": self.findings, **self._recorded("files")}

    @property
    def record(self) -> RunSettings:
        """Both, and what a reader of the results is told, as the writers take them."""
        told = {name: getattr(self, name) for name in _TOLD if name in self._options}
        if told.get("prompt_set"):
            told["prompt_set"] = Path(told["prompt_set"]).name  # the folder of a user's file is nobody's business
        return RunSettings(self.findings, self.files, told)

    def as_dict(self) -> Mapping[str, Any]:
        """All values by name."""
        return {name: getattr(self, name) for name in self._options}

    def _recorded(self, decides: str) -> dict[str, Any]:
        wanted = [option for option in self._options.values() if option.decides == decides]
        return {option.recorded_as: getattr(self, option.name) for option in wanted}
