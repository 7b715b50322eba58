"""Compatibility patches for MONAI Label 0.8.5: a module that pydicom 3 removed, and other default settings."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["ORIGINS_VARIABLE", "STARTUP_CODE", "alias_pydicom", "server_environment"]

_REMOVED = "pydicom._storage_sopclass_uids"

ORIGINS_VARIABLE = "MONAI_ZSAD_LABEL_ORIGINS"
"""Environment variable: the web pages that may call the server, as a JSON list.

MONAI Label's own ``MONAI_LABEL_CORS_ORIGINS`` cannot be used: with it the server does not start, and without it every
web page may call the server."""

STARTUP_CODE = "from monai_zsad.integrations.monailabel.compatibility import alias_pydicom\n\nalias_pydicom()\n"
"""Content of a ``sitecustomize.py``: it gives the removed module to MONAI Label's child processes."""


def alias_pydicom() -> None:
    """Let pydicom-seg 0.4.1 import ``pydicom._storage_sopclass_uids``, which pydicom 3 merged into ``pydicom.uid``."""
    from pydicom import uid

    sys.modules.setdefault(_REMOVED, uid)


def server_environment(
    given: Mapping[str, str],
    work: Path,
    temporary: Path,
    *,
    port: int,
    modalities: Sequence[str] = (),
    origins: Sequence[str] = (),
    scores: bool = True,
) -> dict[str, str]:
    """Return the environment variables of the server's process.

    Values that the user has set are kept. Only ``PATH``, ``PYTHONPATH`` and ``TMPDIR`` are always changed.

    Args:
        given: the environment so far.
        work: folder of the server for logs, sessions, scores and cached series.
        temporary: private folder for uploads and results.
        port: port of the server.
        modalities: modalities of the DICOM series that the server offers; if empty, MONAI Label offers CT only.
        origins: web pages that may call the server, in addition to its own.
        scores: compute volume scores in the background.

    Example:
        >>> found = server_environment({"PATH": "/bin"}, Path("/w"), Path("/t"), port=8000, modalities=["CT", "MR"])
        >>> found["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"], found["MONAI_ZSAD_OFFLINE"]
        ('{"Modality": "CT,MR"}', '1')
    """
    own = [f"http://{host}:{port}" for host in ("127.0.0.1", "localhost")]
    defaults = {
        "MONAI_ZSAD_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        # MONAI Label asks its default source at the start, even for a bundle on this machine.
        "MONAI_ZOO_SOURCE": "ngc",
        "MONAI_LABEL_TASKS_TRAIN": "false",
        "MONAI_LABEL_AUTO_UPDATE_SCORING": json.dumps(scores),
        "MONAI_LABEL_SESSION_PATH": str(work / "sessions"),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(work / "dicom"),
        # In seconds: new series of the archive must appear soon; MONAI Label's default is two hours.
        "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY": "60",
        "MONAI_LABEL_DICOMWEB_READ_TIMEOUT": "60",
        ORIGINS_VARIABLE: json.dumps([*own, *origins]),
    }
    if modalities:
        defaults["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"] = json.dumps({"Modality": ",".join(modalities)})
    # MONAI Label calls `python` and dcmqi's programs by name; both are in the folder of this interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), given.get("PATH", "")])
    startup = os.pathsep.join(filter(None, [str(work / "startup"), given.get("PYTHONPATH", "")]))
    fixed = {"PATH": path, "PYTHONPATH": startup, "TMPDIR": str(temporary)}
    return {**defaults, **{key: given[key] for key in defaults if key in given}, **fixed}
