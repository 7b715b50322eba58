"""``monai-zsad label-server``, ``label-bundle`` and ``slicer``: MONAI Label, 3D Slicer and OHIF."""

# MONAI Label has its own environment; mypy runs in one without it.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from monai_zsad.errors import ConfigurationError, InputError

__all__ = ["label_bundle", "label_server", "slicer"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def label_server(
    studies: Annotated[
        str, typer.Option(metavar="FOLDER", help="Folder of volumes (.nii.gz, .nii, .nrrd), or a DICOMweb address.")
    ],
    bundles: Annotated[
        str, typer.Option("--bundles", "-b", metavar="NAME", help="Folder or name of a bundle, or a folder of bundles.")
    ] = "tiny_screening",
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address to listen on. With the default, only this machine can connect."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="N", help="Port to listen on.")] = 8000,
    modality: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Modality of the series that a DICOMweb server offers. Repeatable."),
    ] = None,
    score_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Bundle whose scores order the studies. Default: the first one.")
    ] = None,
    scores_from: Annotated[
        Path | None,
        typer.Option(metavar="RESULTS", help="Results of `screen` whose scores order the studies, e.g. of musc."),
    ] = None,
    scores: Annotated[bool, typer.Option(help="Compute volume scores in the background.")] = True,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address of a web page that may call the server, such as http://ohif:3000. Repeatable.",
        ),
    ] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(metavar="FILE", help="Key file, to serve https.")] = None,
    ssl_certfile: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate file, to serve https.")] = None,
    work: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for logs, scores and cached series.")
    ] = None,
    app: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of another MONAI Label app to serve, such as monaibundle."),
    ] = None,
    conf: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Setting of the app. Repeatable.")] = None,
) -> None:
    """Serve lesion candidates to 3D Slicer and OHIF, by MONAI Label.

    The most suspicious studies come first. Needs an environment with MONAI Label (the `label` extra).
    MONAI_LABEL_DICOMWEB_USERNAME and MONAI_LABEL_DICOMWEB_PASSWORD hold user and password of a DICOMweb server. The
    server downloads nothing.

    Example: python -m monai_zsad label-server --studies SCANS --bundles tiny_screening
    """
    if importlib.util.find_spec("monailabel") is None:
        raise ConfigurationError(
            f"MONAI Label is not installed for {sys.executable}. It needs its own environment: run "
            "`python -m venv label-env` and `label-env/bin/pip install 'monai-zsad[label]'`, then "
            "`label-env/bin/python -m monai_zsad label-server ...`"
        )
    remote = studies.startswith(("http://", "https://"))
    if not remote and not Path(studies).is_dir():
        raise InputError(f"--studies {studies} is not a folder: give the folder of the volumes, or a DICOMweb address")
    if host not in _LOOPBACK:
        typer.echo(
            f"warning: the server listens on {host}. Everyone who reaches port {port} can read and change the studies. "
            "See 'Authentication and exposure' in the README of monai_zsad/integrations/monailabel.",
            err=True,
        )

    from monai_zsad.backbones.weights import weights_folder
    from monai_zsad.integrations import monailabel
    from monai_zsad.integrations.monailabel.compatibility import STARTUP_CODE, alias_pydicom, server_environment
    from monai_zsad.integrations.monailabel.scores import ResultScores
    from monai_zsad.integrations.monailabel.served import usable_bundles
    from monai_zsad.workflow.bundles import find_bundle

    folder = (work or weights_folder().parent / "label_server").expanduser().resolve()
    pairs = _pairs(conf or [])
    (folder / "startup").mkdir(parents=True, exist_ok=True)
    (folder / "startup" / "sitecustomize.py").write_text(STARTUP_CODE, encoding="utf-8")
    if app is None:
        # MONAI Label would report a missing bundle with a traceback.
        _, scorer = usable_bundles(bundles, score_model)
        served = Path(bundles) if Path(bundles).is_dir() else find_bundle(bundles)
        pairs = {"bundles": str(served.resolve()), "score_model": scorer, **pairs}
        if scores_from is not None:
            pairs["scores_from"] = str(ResultScores(scores_from).folder.resolve())
        app = folder / "app"
        app.mkdir(exist_ok=True)
        shutil.copyfile(Path(monailabel.__path__[0]) / "adapter" / "main.py", app / "main.py")
    with tempfile.TemporaryDirectory(prefix="monai-zsad-label-") as temporary:
        os.environ.update(
            server_environment(
                os.environ,
                folder,
                Path(temporary),
                port=port,
                modalities=modality or (["CT", "MR", "PT"] if remote else []),
                origins=origin or [],
                scores=scores,
            )
        )
        tempfile.tempdir = temporary
        alias_pydicom()
        words = ["--app", str(app), "--studies", studies, "--host", host, "--port", str(port)]
        words += [word for key, value in pairs.items() for word in ("--conf", key, value)]
        words += ["--uvicorn_app", "monai_zsad.integrations.monailabel.adapter.server:app"]
        for name, file in (("--ssl_keyfile", ssl_keyfile), ("--ssl_certfile", ssl_certfile)):
            words += [] if file is None else [name, str(file)]
        _serve(words)


def label_bundle(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Folder or name of a bundle.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to make, in the folder `model` of the app.")
    ],
) -> None:
    """Write a copy of a bundle for MONAI Label's app monaibundle.

    The app then shows the candidates of `label-server`, without its options, heat map and order of the studies.

    Example: python -m monai_zsad label-bundle crane -o app/model/crane
    """
    from monai_zsad.integrations.monailabel.label_view import write_label_view
    from monai_zsad.workflow.bundles import find_bundle

    typer.echo(str(write_label_view(find_bundle(bundle), output)))


def slicer(
    case: Annotated[Path, typer.Argument(metavar="CASE", help="Folder of one case in the output of `screen`.")],
    scan: Annotated[
        Path | None,
        typer.Option(
            metavar="SCAN", help="The scan itself, to show below the heat map: a volume file or a DICOM folder."
        ),
    ] = None,
    series: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Which DICOM series of --scan, as `screen --series`.")
    ] = None,
    send: Annotated[bool, typer.Option("--send", help="Also load the scene into a running 3D Slicer.")] = False,
    port: Annotated[int, typer.Option(metavar="N", help="Port of Slicer's module Web Server.")] = 2016,
) -> None:
    """Write a scene of one result, to drag into 3D Slicer.

    It shows the heat map in colour, the candidates as segments, and the scan below them. For the segments, screen with
    --set seg_nrrd=true. Of a DICOM folder, a copy is written into the folder of the case, as scan.nii.gz. For --send,
    open Slicer's module Web Server, enable the Slicer API and start it.

    Example: python -m monai_zsad slicer RESULTS/anna --scan anna.nii.gz
    """
    from monai_zsad.integrations.slicer import send_case, write_scene

    typer.echo(f"drag into 3D Slicer: {write_scene(case, scan, series)}")
    if send:
        typer.echo(f"loaded: {', '.join(send_case(case, scan, series, port=port))}")


def _pairs(given: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ConfigurationError(f"--conf {pair}: give a key and a value, such as --conf score_at_most=50")
        pairs[key] = value
    return pairs


def _serve(words: list[str]) -> None:
    """Run MONAI Label's own start command in this process, until a signal ends it."""
    # Uvicorn sends the signal again after its shutdown. Without a handler, that would end the process before the
    # background processes are stopped.
    signal.signal(signal.SIGTERM, _leave)
    from monailabel.main import Main

    sys.argv = ["monailabel", "start_server", *words]
    try:
        Main(actions=("start_server",)).run()
    finally:
        _stop_background()


def _leave(number: int, frame: Any) -> NoReturn:
    del number, frame
    sys.exit(0)


def _stop_background() -> None:
    """End the processes of scoring and batch inference; otherwise the interpreter waits for them."""
    from monailabel.utils.async_tasks.utils import background_executors, background_processes, stop_background_task

    for method, executor in background_executors.items():
        executor.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(Exception):
            while background_processes.get(method):
                stop_background_task(method)
