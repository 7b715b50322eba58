"""``monai-zsad label-server`` and ``label-bundle``: MONAI Label for 3D Slicer and OHIF."""

# MONAI Label and what it brings are in an environment of their own, where no type is checked.
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

__all__ = ["label_bundle", "label_server"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def label_server(
    studies: Annotated[str, typer.Option(help="Folder of volumes (.nii.gz, .nii, .nrrd), or a DICOMweb address.")],
    bundles: Annotated[
        str, typer.Option("--bundles", "-b", help="A bundle's folder or name, or a folder of bundles.")
    ] = "tiny_screening",
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    modality: Annotated[
        list[str] | None, typer.Option(help="Modalities of the series that a DICOMweb server offers. Repeat.")
    ] = None,
    score_model: Annotated[
        str | None, typer.Option(help="Bundle whose scores order the studies; the first one by default.")
    ] = None,
    scores: Annotated[bool, typer.Option(help="Compute volume scores in the background.")] = True,
    origin: Annotated[
        list[str] | None, typer.Option(help="Web page that may call the server, such as http://ohif:3000. Repeat.")
    ] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Key, to serve https.")] = None,
    ssl_certfile: Annotated[Path | None, typer.Option(help="Certificate, to serve https.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for logs, scores and cached series.")] = None,
    app: Annotated[
        Path | None, typer.Option(help="Folder of another MONAI Label app, such as monaibundle, in place of ours.")
    ] = None,
    conf: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A value for the app's configuration. Repeat.")
    ] = None,
) -> None:
    """Serve scans to 3D Slicer and OHIF through MONAI Label, with candidates and an order of suspicion.

    Needs an environment with MONAI Label (the `label` extra). User and password of a DICOMweb server are read from
    MONAI_LABEL_DICOMWEB_USERNAME and MONAI_LABEL_DICOMWEB_PASSWORD. Nothing is fetched from the internet.

    Example: python -m monai_zsad label-server --studies SCANS --bundles tiny_screening
    """
    if importlib.util.find_spec("monailabel") is None:
        raise ConfigurationError(
            f"MONAI Label is not installed for {sys.executable}: it needs an environment of its own, made with "
            "`python -m venv label-env` and `label-env/bin/pip install 'monai-zsad[label]'`; then run "
            "`label-env/bin/python -m monai_zsad label-server ...`"
        )
    remote = studies.startswith(("http://", "https://"))
    if not remote and not Path(studies).is_dir():
        raise InputError(f"{studies} is no folder: give the folder of the volumes, or the address of a DICOMweb server")
    if host not in _LOOPBACK:
        typer.echo(
            f"warning: listening on {host}: whoever reaches port {port} can read and change the studies; see "
            "'Authentication and exposure' in the app's README",
            err=True,
        )

    from monai_zsad.backbones.weights_fetch import weights_folder
    from monai_zsad.integrations.monailabel.compatibility import STARTUP_CODE, alias_pydicom, server_environment
    from monai_zsad.integrations.monailabel.served import usable_bundles
    from monai_zsad.workflow.bundles import find_bundle

    folder = (work or weights_folder().parent / "label_server").expanduser().resolve()
    pairs = _pairs(conf or [])
    (folder / "startup").mkdir(parents=True, exist_ok=True)
    (folder / "startup" / "sitecustomize.py").write_text(STARTUP_CODE, encoding="utf-8")
    if app is None:
        # Said here, since MONAI Label would say it with a traceback.
        _, scorer = usable_bundles(bundles, score_model)
        place = Path(bundles) if Path(bundles).is_dir() else find_bundle(bundles)
        pairs = {"bundles": str(place.resolve()), "score_model": scorer, **pairs}
        app = folder / "app"
        app.mkdir(exist_ok=True)
        shutil.copyfile(Path(__file__).parent / "monailabel" / "adapter" / "main.py", app / "main.py")
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
    bundle: Annotated[str, typer.Argument(help="A bundle's folder or name.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make, below the app's `model`.")],
) -> None:
    """Write a copy of a bundle that MONAI Label's sample app monaibundle can serve.

    It is `label-server`'s model without its options, heat map and order of suspicion.

    Example: python -m monai_zsad label-bundle crane -o app/model/crane
    """
    from monai_zsad.integrations.monailabel.label_view import write_label_view
    from monai_zsad.workflow.bundles import find_bundle

    typer.echo(str(write_label_view(find_bundle(bundle), output)))


def _pairs(given: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ConfigurationError(f"--conf {pair}: give a key and a value, such as --conf score_at_most=50")
        pairs[key] = value
    return pairs


def _serve(words: list[str]) -> None:
    """Run MONAI Label's own start command in this process until it is told to end."""
    # Uvicorn hands the signal on when it has shut down; without a handler that would end the process on the spot.
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
    """End the processes of scoring and batch inference, which the interpreter would wait for."""
    from monailabel.utils.async_tasks.utils import background_executors, background_processes, stop_background_task

    for method, executor in background_executors.items():
        executor.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(Exception):
            while background_processes.get(method):
                stop_background_task(method)
