"""``monai-zsad app``: a page on this machine to which a scan is dropped."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["app"]


def app(
    bundle: Annotated[
        list[str] | None,
        typer.Option(
            "--bundle",
            "-b",
            metavar="NAME",
            help="Bundle to offer, by name or folder. Repeat. Default: all of the package.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address to listen on. With the default, only this machine can connect."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port to listen on; 0 takes a free one.")
    ] = 7860,
    max_upload: Annotated[
        float, typer.Option("--max-upload", min=1, metavar="MB", help="Most megabytes of an upload.")
    ] = 500,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Device of the network, such as cpu or cuda.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a page in the browser: drop a scan, see the report.

    Ctrl+C ends it. Scans and results lie in a private temporary folder. They are deleted when the page is closed, when
    another scan is dropped, and when the program ends. Nothing is sent to other machines.

    Example: python -m monai_zsad app --open
    """
    from monai_zsad.integrations.app.server import LOOPBACK, serve

    if host not in LOOPBACK:
        typer.echo(
            f"warning: the page listens on {host}. Everyone who reaches port {port} can use it, and what is sent is "
            "not encrypted. Use --host 127.0.0.1, or a proxy with a password and https.",
            err=True,
        )

    def started(address: str) -> None:
        typer.echo(f"Open {address} in a browser. Ctrl+C ends the program.")

    options = {} if device is None else {"device": device}
    serve(
        host,
        port,
        bundles=bundle or (),
        max_upload_mb=max_upload,
        options=options,
        started=started,
        open_browser=open_browser,
    )
