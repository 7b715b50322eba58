"""Writing that leaves either a complete file or none."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from monai_zsad.errors import OutputError
from monai_zsad.result_files import final_name, temporary_name

__all__ = ["atomic_path", "cannot_write", "clean_temporaries"]


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the same folder; its file replaces ``path`` when the block ends without an error.

    The data and the new name are on the disk before the block ends. So a killed run or a full disk leaves either the
    old file or the new file, never a part of it. The temporary name keeps the extension, because writers choose the
    format by it.

    Args:
        path: the file to be written; its folder exists.

    Yields:
        The temporary path to write to.

    Raises:
        OutputError: if it cannot be written (no space, no permission).

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("done")
        >>> [file.name for file in target.parent.iterdir()]
        ['note.txt']
    """
    target = Path(path)
    temporary = target.with_name(temporary_name(target.name))
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def clean_temporaries(output_dir: str | os.PathLike[str]) -> list[Path]:
    """Remove the temporary files that a killed run left in the folder and in the folders of its cases.

    Call it before a run starts, when no other run writes to the folder.

    Args:
        output_dir: folder of the run.

    Returns:
        The removed files.

    Raises:
        OutputError: if a file cannot be removed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / ".zsad-0123abcd.summary.json").touch()
        >>> [path.name for path in clean_temporaries(folder)]
        ['.zsad-0123abcd.summary.json']
    """
    folder = Path(output_dir).expanduser()
    removed = []
    try:
        parents = [folder, *(entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.is_symlink())]
        for parent in parents if folder.is_dir() else []:
            for path in sorted(parent.iterdir()):
                if final_name(path.name) is not None and path.is_file() and not path.is_symlink():
                    path.unlink(missing_ok=True)
                    removed.append(path)
    except FileNotFoundError:
        return removed
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder}: left by an interrupted run, cannot be removed ({error.strerror}); remove it"
        ) from error
    return removed


def _sync_folder(folder: Path) -> None:
    # Windows cannot open folders; there, the rename itself has to be enough.
    with contextlib.suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The error of a file that cannot be written, with the remedy."""
    if isinstance(error, OutputError):
        return error
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return OutputError(f"{path}: cannot be written ({reason}); free space or permission, or give another --output_dir")
