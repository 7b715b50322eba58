"""The output folder of a run: whether it can be used, and whether it holds results of the same cases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_zsad.distributed.ranks import current_rank
from monai_zsad.errors import OutputError
from monai_zsad.result_files import case_files, case_folder, make_folder, old_files

__all__ = ["check_output", "holds_results"]


def check_output(
    output_dir: str | os.PathLike[str],
    cases: Sequence[str | Mapping[str, Any]],
    overwrite: bool = False,
    resume: bool = False,
) -> None:
    """Make the output folder, and refuse before any computation what would fail or overwrite at the end.

    Args:
        output_dir: folder of the run.
        cases: ids or records.
        overwrite: let results of the same cases be replaced.
        resume: results of the same cases are compared later.

    Raises:
        OutputError: if the folder cannot be made or written to, or holds results of a case, and both are false.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> check_output(folder, ["anna"])
        >>> (Path(folder) / "anna").mkdir()
        >>> (Path(folder) / "anna" / "scores.json").touch()
        >>> check_output(folder, ["anna"])  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        monai_zsad.errors.OutputError: ... already holds results of anna ...
    """
    folder = Path(output_dir).expanduser()
    make_folder(folder)
    try:
        probe = folder / f".write-test-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written to ({error.strerror}); give another --output_dir") from error
    if overwrite or current_rank().restarted:
        return
    ids = [case if isinstance(case, str) else str(case["case"]) for case in cases]
    old = [case for case in ids if old_files(case_folder(folder, case))] if resume else []
    if old:
        raise OutputError(
            f"{folder} holds results of {_some(old)} that an early version made (such as "
            f"{old_files(folder / old[0])[0].name}); they cannot be resumed: add --overwrite true to replace them "
            "(with `screen`: --overwrite), or give another folder"
        )
    there = [] if resume else [case for case in ids if case_files(case_folder(folder, case))]
    if there:
        raise OutputError(
            f"{folder} already holds results of {_some(there)}: add --overwrite true to replace them, --resume true to "
            "do what is missing (with `screen`: --overwrite, --resume), or give another folder"
        )


def _some(cases: Sequence[str]) -> str:
    return ", ".join(cases[:3]) + (f" and {len(cases) - 3} more" if len(cases) > 3 else "")


def holds_results(output_dir: str | os.PathLike[str]) -> bool:
    """Whether a folder holds results of any case.

    Args:
        output_dir: folder of a run, which may not exist yet.
    """
    folder = Path(output_dir).expanduser()
    try:
        return any(entry.is_dir() and case_files(entry.path) for entry in os.scandir(folder))
    except OSError:
        return False
