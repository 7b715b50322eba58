"""The bundles that come with the package: their names, their folders, and copies to change.

MONAI downloads bundles of its model zoo by name. These bundles are part of the package and need no download:

>>> import monai_zsad.bundles
>>> (monai_zsad.bundles.path("crane") / "configs" / "inference.yaml").is_file()
True
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from monai_zsad.errors import ConfigurationError, OutputError, did_you_mean

__all__ = ["copy", "names", "path"]

_CONFIG = Path("configs", "inference.yaml")
# Beside this file where a wheel has put them, at the top of the tree otherwise.
_HOMES = (Path(__file__).resolve().parent, Path(__file__).resolve().parents[2] / "bundles")
# Folders that runs write into a bundle's folder.
_LEFT_BY_RUNS = ("eval", "trained", "scans", "__pycache__")


def _folders() -> dict[str, Path]:
    for home in _HOMES:
        if found := {config.parents[1].name: config.parents[1] for config in sorted(home.glob(f"*/{_CONFIG}"))}:
            return found
    return {}


def names() -> list[str]:
    """Names of the bundles, in alphabetical order.

    Returns:
        The names that :func:`path` takes.

    Example:
        >>> "tiny_screening" in names()
        True
    """
    return list(_folders())


def path(name: str) -> Path:
    """The folder of a bundle, for ``--bundle_root`` and as the place of its ``configs``.

    The folder may be read-only, since it may be part of the installed package. So give a run its own ``--output_dir``,
    and :func:`copy` the bundle before you change it.

    Args:
        name: one of :func:`names`.

    Returns:
        An absolute path.

    Raises:
        ConfigurationError: if there is no such bundle.

    Example:
        >>> path("crane").name
        'crane'
    """
    folders = _folders()
    if name not in folders:
        remedy = did_you_mean(name, folders) or "none came with this installation: install it again"
        raise ConfigurationError(f"there is no bundle {name!r}; {remedy}")
    return folders[name]


def copy(name: str, folder: str | os.PathLike[str]) -> Path:
    """Copy a bundle into your own folder, to change its configuration or to convert weights into it.

    Args:
        name: one of :func:`names`.
        folder: parent folder of the copy, like ``bundle_dir`` of MONAI's ``download``. It is made if it does not exist.

    Returns:
        The copy, ``folder / name``.

    Raises:
        ConfigurationError: if there is no such bundle.
        OutputError: if the copy exists already, or cannot be written.

    Example:
        >>> import tempfile
        >>> [part.name for part in sorted(copy("aaclip", tempfile.mkdtemp()).iterdir())]
        ['LICENSE', 'configs', 'docs', 'large_files.yml']
    """
    source, target = path(name), Path(folder).expanduser() / name
    if target.exists() or target.is_symlink():
        raise OutputError(f"{target} exists already: remove it, or give another folder")
    temporary = target.with_name(f".{name}-{uuid.uuid4().hex[:8]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, temporary, ignore=shutil.ignore_patterns(*_LEFT_BY_RUNS))
        temporary.rename(target)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = getattr(error, "strerror", None) or "not all files could be copied"
        raise OutputError(f"{target}: cannot be written ({reason}); give another folder") from error
    return target
