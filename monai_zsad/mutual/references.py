"""Normal scans as the reference: a part of their tokens, in one file with what it was made from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.mutual.matching import ComparedScan, Kind
from monai_zsad.mutual.store import StoredScan
from monai_zsad.writers import atomic_path, content_hash

__all__ = ["REFERENCES_FILE", "References", "coreset"]

REFERENCES_FILE = "references.safetensors"
"""Name of the file in a folder of results."""

_SCHEMA = "monai-zsad/references/1"
_ABOUT = "about"
_PROJECTED = 64


def coreset(tokens: torch.Tensor, count: int) -> torch.Tensor:
    """A part of the tokens that covers all of them: each next one is farthest from those before (k-center).

    Distances are computed after a random projection to 64 values, as in PatchCore.

    Args:
        tokens: (N, C).
        count: how many, at most N.

    Returns:
        (count,), their numbers, ascending; the same in every run.

    References:
        Roth et al., PatchCore, CVPR 2022.

    Example:
        >>> coreset(torch.tensor([[0.0], [0.1], [5.0], [9.0]]), 3).tolist()
        [0, 2, 3]
    """
    values = tokens.float()
    if values.shape[1] > _PROJECTED:
        generator = torch.Generator().manual_seed(0)
        matrix = torch.randn(values.shape[1], _PROJECTED, generator=generator).to(values.device)
        values = values @ matrix / _PROJECTED**0.5
    chosen = torch.zeros(min(count, len(values)), dtype=torch.int64, device=values.device)
    farthest = torch.full((len(values),), torch.inf, device=values.device)
    for place in range(1, len(chosen)):
        torch.minimum(farthest, (values - values[chosen[place - 1]]).square().sum(1), out=farthest)
        chosen[place] = farthest.argmax()
    return chosen.sort().values


@dataclass(frozen=True)
class _Scan:
    """One scan of the file: number of its first slice, and what is known of it."""

    first: int
    count: int
    input: str
    kind: Kind


class References:
    """Tokens of normal scans in one safetensors file, slice by slice, aggregated for each degree.

    PatchCore and AnomalyDINO keep one heap of tokens. Here, the slices of each scan stay apart, so that a slice is
    compared at its own height, and a scan that is itself among the references is left out.

    Args:
        file: a file of :meth:`write`.

    Attributes:
        made_from: what the file was made from: ``features`` (the key of the store), ``settings``, ``scans`` (hashes of
            their files) and ``share``.

    Raises:
        InputError: if the file is missing, damaged or something else.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = Path(file).expanduser()
        try:
            # A failure of the next lines closes the file with its object.
            opened = safe_open(self.file, framework="pt")
            about = json.loads((opened.metadata() or {})[_ABOUT])
            if about["schema"] != _SCHEMA:
                raise ValueError(f"its schema is {about['schema']!r}")
            self.made_from: dict[str, Any] = about["made_from"]
            self._scans = [_scan(one) for one in about["scans"]]
            self._heights, self._planes = (opened.get_tensor(name) for name in ("heights", "planes"))
            self._tokens = opened.get_slice("tokens")
        except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.file}: is not a file of references that can be read ({error}); give a folder of normal scans, "
                "or a file references.safetensors that a run with --reference FOLDER has written"
            ) from error

    def __len__(self) -> int:
        return len(self._scans)

    @property
    def identity(self) -> str:
        """Hash of what the file was made from."""
        return content_hash(self.made_from)

    def check(self, features: str, settings: Mapping[str, Any]) -> None:
        """Refuse references of another model or other settings.

        Args:
            features: key of the store of this run.
            settings: of this run, as of :meth:`write`.

        Raises:
            ConfigurationError: if they differ. The message names what differs.
        """
        own = dict(self.made_from["settings"])
        wanted = json.loads(json.dumps(dict(settings)))
        different = [name for name in sorted({*own, *wanted}) if own.get(name) != wanted.get(name)]
        if self.made_from["features"] != features:
            different = ["weights, or options that change the features", *different]
        if different:
            raise ConfigurationError(
                f"{self.file}: was made with other values of {', '.join(different)}: make it again by --reference with "
                "the folder of the normal scans, or run with the same weights and options"
            )

    def compared(
        self,
        kind: Kind,
        without: str = "",
        load: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.float,
    ) -> list[ComparedScan]:
        """The scans of a kind, to compare another scan with.

        Args:
            kind: of the scan that is scored.
            without: hash of its files; a reference with the same files is left out.
            load: is applied to the tokens of each slice, for its type and device.

        Returns:
            A scan for each reference that is left.

        Raises:
            InputError: if none is left; the message says which kinds there are.
        """
        alike = [one for one in self._scans if one.kind == kind]
        known = [one for one in alike if not (without and one.input == without)]
        if not known:
            kinds = "; ".join(sorted({str(one.kind) for one in self._scans}))
            found = "the only reference of its kind is the scan itself" if alike else f"the references are {kinds}"
            raise InputError(
                f"there is no other scan of its kind ({kind}) to compare it with: {found}; give other references of "
                "this kind"
            )
        return [self._compared(one, load) for one in known]

    def _compared(self, scan: _Scan, load: Callable[[torch.Tensor], torch.Tensor]) -> ComparedScan:
        own = slice(scan.first, scan.first + scan.count)
        return ComparedScan(self._heights[own], self._planes[own], partial(self._load, scan.first, load))

    def _load(self, first: int, load: Callable[[torch.Tensor], torch.Tensor], number: int) -> torch.Tensor:
        return load(self._tokens[first + number : first + number + 1][0])

    @classmethod
    def write(
        cls,
        file: str | os.PathLike[str],
        scans: Sequence[StoredScan],
        aggregated: Callable[[torch.Tensor], torch.Tensor],
        made_from: Mapping[str, Any],
    ) -> References:
        """Make a file of references.

        Args:
            file: the file, which is replaced.
            scans: the normal scans, with their features.
            aggregated: from tokens (layers, N, C) to (degrees, layers, N, C), see :class:`MutualInferer`.
            made_from: see :attr:`made_from`; ``share`` is the share of tokens that is kept, by :func:`coreset`.

        Returns:
            The references.

        Raises:
            InputError: if there is no scan.
            OutputError: if the file cannot be written.
        """
        if not scans:
            raise InputError("none of the references could be used: give a folder with at least one normal scan")
        known, parts, first = [], [], 0
        for scan in scans:
            count, _, tokens, _ = scan.shape
            most, read = max(1, round(made_from["share"] * tokens)), scan.tokens()
            parts += [_reduced(aggregated(read(number)), most) for number in range(count)]
            known.append({"first": first, "count": count, "input": scan.input, "kind": scan.kind.as_json()})
            first += count
        arrays = {
            "tokens": torch.stack(parts),
            "heights": torch.cat([scan.heights for scan in scans]),
            "planes": torch.cat([scan.planes for scan in scans]),
        }
        about = {"schema": _SCHEMA, "made_from": dict(made_from), "scans": known}
        with atomic_path(file) as temporary:
            save_file(arrays, temporary, {_ABOUT: json.dumps(about)})
        return cls(file)


def _reduced(tokens: torch.Tensor, count: int) -> torch.Tensor:
    """(degrees, layers, N, C) to (degrees, layers, count, C): the same places for all degrees and layers."""
    middle = tokens[len(tokens) // 2].transpose(0, 1).flatten(1)
    return tokens[:, :, coreset(middle, count)].to("cpu", torch.float16)


def _scan(known: Mapping[str, Any]) -> _Scan:
    return _Scan(int(known["first"]), int(known["count"]), str(known["input"]), Kind.from_json(known["kind"]))
