"""What MONAI Label 0.8.5 needs to run here: a module that pydicom 3 lost, and settings against its defaults."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["ORIGINS_VARIABLE", "STARTUP_CODE", "alias_pydicom", "server_environment"]

_LOST = "pydicom._storage_sopclass_uids"

ORIGINS_VARIABLE = "MONAI_ZSAD_LABEL_ORIGINS"
"""Environment variable with the web pages that may call the server, as a JSON list. MONAI Label's own
``MONAI_LABEL_CORS_ORIGINS`` ends its start with an error, and without it every page may."""

STARTUP_CODE = "from monai_zsad.integrations.monailabel.compatibility import alias_pydicom\n\nalias_pydicom()\n"
"""Content of a ``sitecustomize.py`` by which MONAI Label's own child processes have the lost module, too."""


def alias_pydicom() -> None:
    """Let pydicom-seg 0.4.1 import ``pydicom._storage_sopclass_uids``; what it wants is in ``uid`` since pydicom 3."""
    from pydicom import uid

    sys.modules.setdefault(_LOST, uid)


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
    """Environment variables of the server's process; those that ``given`` has already are kept, but for paths.

    Args:
        given: the environment so far.
        work: folder of the server: logs, sessions, scores, cached series.
        temporary: private folder for uploads and results.
        port: of the server.
        modalities: of the DICOM series that are offered; none for MONAI Label's default, CT alone.
        origins: web pages that may call the server, beside its own.
        scores: fill the volume scores in the background.

    Example:
        >>> found = server_environment({"PATH": "/bin"}, Path("/w"), Path("/t"), port=8000, modalities=["CT", "MR"])
        >>> found["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"], found["MONAI_ZSAD_OFFLINE"]
        ('{"Modality": "CT,MR"}', '1')
    """
    own = [f"http://{host}:{port}" for host in ("127.0.0.1", "localhost")]
    defaults = {
        "MONAI_ZSAD_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        # Neither of these sources is asked for a bundle that lies on this machine.
        "MONAI_ZOO_SOURCE": "ngc",
        "MONAI_LABEL_TASKS_TRAIN": "false",
        "MONAI_LABEL_AUTO_UPDATE_SCORING": json.dumps(scores),
        "MONAI_LABEL_SESSION_PATH": str(work / "sessions"),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(work / "dicom"),
        # Seconds after which the archive is asked again for its series; MONAI Label waits two hours.
        "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY": "60",
        "MONAI_LABEL_DICOMWEB_READ_TIMEOUT": "60",
        ORIGINS_VARIABLE: json.dumps([*own, *origins]),
    }
    if modalities:
        defaults["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"] = json.dumps({"Modality": ",".join(modalities)})
    # MONAI Label calls `python` and dcmqi's programs by name; both lie beside this interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), given.get("PATH", "")])
    startup = os.pathsep.join(filter(None, [str(work / "startup"), given.get("PYTHONPATH", "")]))
    fixed = {"PATH": path, "PYTHONPATH": startup, "TMPDIR": str(temporary)}
    return {**defaults, **{key: given[key] for key in defaults if key in given}, **fixed}
