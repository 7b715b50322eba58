"""What an option is: one declaration, from which everything else about it is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from monai_zsad.errors import ConfigurationError, did_you_mean
from monai_zsad.flags import parse_flag

__all__ = ["Flag", "Option"]

Group = Literal["Basic", "Prompts", "DICOM", "Many scans", "Hardware", "Advanced"]
Kind = Literal["flag", "number", "integer", "text", "list", "any"]


@dataclass(frozen=True)
class Flag:
    """How the command line names an option.

    Attributes:
        name: such as ``--threshold``.
        metavar: what help prints for the value; None for NUMBER or N.
        parse: ``"yaml"`` reads the text as YAML, ``"comma"`` splits it at commas, ``"repeat"`` gathers several uses of
            the option in a list, ``"plain"`` takes the text.
        off: a flag that is on by default gets ``--no-...``.
    """

    name: str
    metavar: str | None = None
    parse: Literal["plain", "yaml", "comma", "repeat"] = "plain"
    off: bool = False


@dataclass(frozen=True)
class Option:
    """An option of every bundle, or of those whose configuration has it.

    Attributes:
        name: id in ``inference.yaml``; ``python -m monai.bundle run --NAME``, ``screen --set NAME=VALUE``.
        default: as YAML gives it. A text that begins with ``$`` is an expression of MONAI's configuration.
        help: one line for the command line, ``inference.yaml`` and the documentation.
        group: panel of the help, and section of the documentation, in the order of :data:`Group`.
        kind: what values are checked for.
        choices: accepted texts, also for each entry of a list; empty for any.
        minimum: smallest accepted number.
        above: accepted numbers are larger.
        maximum: largest accepted number.
        optional: whether ``null`` is accepted.
        decides: ``"findings"`` for what changes map, candidates or scores of a scan; ``"files"`` for what changes which
            files are written or what else stands in them; ``"nothing"`` for what changes neither, such as the device.
        record: name in the record of settings; empty for ``name``.
        check: further check of a value; it needs neither torch nor MONAI.
        read: takes a value to the form in which it is used, before it is checked; like ``check``, without torch.
        flag: how ``monai-zsad screen`` names it; None where it is given by ``--set``.
        everywhere: whether every bundle has it. Other options stand in the bundle's own part of ``inference.yaml``.
    """

    name: str
    default: Any
    help: str
    group: Group
    kind: Kind = "any"
    choices: tuple[str, ...] = ()
    minimum: float = -math.inf
    above: float = -math.inf
    maximum: float = math.inf
    optional: bool = False
    decides: Literal["findings", "files", "nothing"] = "nothing"
    record: str = ""
    check: Callable[[Any], object] | None = None
    read: Callable[[Any], Any] | None = None
    flag: Flag | None = None
    everywhere: bool = True

    @property
    def recorded_as(self) -> str:
        """Name in the record of settings."""
        return self.record or self.name

    def parse(self, value: Any) -> Any:
        """The value as the run uses it; MONAI's command line gives flags as text.

        Args:
            value: from configuration or command line.

        Returns:
            The value; of a flag, True or False; of a list, a single text as its only entry.

        Raises:
            ConfigurationError: naming the option, the value and what is accepted.

        Example:
            >>> Option("refine", False, "refine the map", "Advanced", "flag").parse("true")
            True
        """
        if self.optional and value is None:
            return None
        if self.read is not None:
            value = self.read(value)
        if self.kind == "flag":
            return parse_flag(self.name, value)
        if self.kind == "list":
            return self._parse_list(value)
        if self.choices and not (isinstance(value, str) and value in self.choices):
            raise self._refused(value, f"one of {self._choices_near(value)}")
        if self.kind in ("number", "integer"):
            self._check_number(value)
        elif self.kind == "text" and not isinstance(value, str):
            raise self._refused(value, "a text")
        if self.check is not None:
            self.check(value)
        return value

    def _parse_list(self, value: Any) -> list[Any]:
        if isinstance(value, Mapping) or not isinstance(value, Sequence):
            raise self._refused(value, "a list, such as \"['one', 'two']\"")
        entries = [value] if isinstance(value, str) else list(value)
        for entry in entries if self.choices else ():
            if entry not in self.choices:
                raise self._refused(value, f"some of {self._choices_near(entry)}")
        return entries

    def _choices_near(self, value: Any) -> str:
        """The choices, and the one that is probably meant."""
        hint = did_you_mean(value, self.choices, listed=False)
        return ", ".join(self.choices) + (f"; {hint}" if hint else "")

    def _check_number(self, value: Any) -> None:
        valid = isinstance(value, int if self.kind == "integer" else int | float) and not isinstance(value, bool)
        if not (valid and math.isfinite(value) and self.above < value and self.minimum <= value <= self.maximum):
            raise self._refused(value, self.accepted_numbers)

    @property
    def accepted_numbers(self) -> str:
        """Numbers that are accepted, in words.

        Example:
            >>> Option("share", 0.5, "a share", "Advanced", "number", minimum=0, maximum=1).accepted_numbers
            'a number from 0 to 1'
        """
        name = "a whole number" if self.kind == "integer" else "a number"
        if self.minimum > -math.inf and self.maximum < math.inf:
            return f"{name} from {self.minimum:g} to {self.maximum:g}"
        if self.above > -math.inf:
            return f"{name} above {self.above:g}"
        return f"{name} of at least {self.minimum:g}" if self.minimum > -math.inf else name

    def _refused(self, value: Any, accepted: str) -> ConfigurationError:
        if self.optional:
            accepted = f"null or {accepted}"
        return ConfigurationError(f"{self.name}={value!r} cannot be used: it must be {accepted}")
