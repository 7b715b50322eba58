"""The server of the page: loopback only by default, with limits, and with nothing left behind at its end."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import warnings
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.integrations.app.choices import bundle_choices
from monai_zsad.integrations.app.jobs import Jobs
from monai_zsad.integrations.app.storage import Storage

__all__ = ["LOOPBACK", "serve"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that only this machine can reach."""

# Nothing from the network: no fonts, scripts or images of other servers, and no page of another server shows this one.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; form-action 'self'; "
    "base-uri 'self'; object-src 'none'"
)
# The report itself says what it may load. Its scripts cannot reach the page, nor the other results.
# Names and separators of the files count in a request's length, too.
_MOST_FRAME = 1_000_000
_REPORT_POLICY = "sandbox allow-scripts allow-downloads allow-popups"


def serve(
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    bundles: Sequence[str] = (),
    max_upload_mb: float = 500,
    options: Mapping[str, Any] | None = None,
    started: Callable[[str], None] | None = None,
    open_browser: bool = False,
) -> None:
    """Serve the page until a signal ends the process.

    Args:
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        bundles: names or folders of the bundles to offer; empty for all of the package.
        max_upload_mb: most megabytes of an upload.
        options: options of all runs, such as ``device``.
        started: gets the address of the page.
        open_browser: whether to open the page in the browser.

    Raises:
        ConfigurationError: if Gradio is missing, a bundle is unknown, or the port cannot be used.
    """
    # Before Gradio is imported: it reads them then.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise ConfigurationError(
            "the app needs Gradio, which is not installed: run `pip install 'monai-zsad[app]'`"
        ) from error
    # Modules are imported in a thread while requests are answered. Both change the filters of the whole process for a
    # moment, so that warnings of libraries would be printed by chance.
    warnings.simplefilter("ignore")
    choices = bundle_choices(bundles)
    with _listening(host, port) as listener, _ended_by_signals():
        storage = Storage(max_upload_mb)
        jobs = Jobs(storage, options)
        try:
            address = _address(host, listener.getsockname()[1])
            config = uvicorn.Config(
                make_server(jobs, choices, host), log_level="error", access_log=False, timeout_graceful_shutdown=2
            )
            server = uvicorn.Server(config)
            jobs.warm_up()
            if started is not None:
                started(address)
            if open_browser:
                webbrowser.open(address)
            server.run(sockets=[listener])
        finally:
            jobs.stop()
            storage.close()


@contextlib.contextmanager
def _listening(host: str, port: int) -> Any:
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigurationError(
                    f"--port {port}: another program uses this port; give another one, or 0 for any free port"
                ) from error
            raise ConfigurationError(
                f"--host {host} --port {port}: cannot be used ({error.strerror}); use --host 127.0.0.1"
            ) from error
        yield listener


@contextlib.contextmanager
def _ended_by_signals() -> Any:
    """SIGTERM, and the end of the terminal, end the process with its clean-up. The server sends them again."""
    handlers: dict[str, Any] = {"SIGTERM": _leave, "SIGHUP": _as_terminated}
    known = {name: handler for name, handler in handlers.items() if hasattr(signal, name)}
    before = {name: signal.signal(getattr(signal, name), handler) for name, handler in known.items()}
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _leave(number: int, frame: Any) -> NoReturn:
    del number, frame
    raise SystemExit(0)


def _as_terminated(number: int, frame: Any) -> None:
    """The server ends its work at a SIGTERM, but knows no SIGHUP."""
    del number, frame
    signal.raise_signal(signal.SIGTERM)


def _address(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "localhost") else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def make_server(jobs: Jobs, choices: Mapping[str, Any], host: str) -> Any:
    """The page with its limits and the routes of the results.

    Args:
        jobs: runs of all pages.
        choices: bundles to offer.
        host: address to listen on. On a loopback address, requests for other hosts are refused.

    Returns:
        An ASGI application.
    """
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import FileResponse, PlainTextResponse

    from monai_zsad.integrations.app.page import STYLE, build_page, theme

    os.environ["GRADIO_TEMP_DIR"] = str(jobs.storage.uploads)
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @server.get("/results/{token}/{case}/{name}")
    def result(token: str, case: str, name: str) -> Any:
        file = jobs.storage.result_file(token, case, name)
        if file is None:
            return PlainTextResponse("These results are deleted. Screen the scan again.", status_code=404)
        policy = {"Content-Security-Policy": _REPORT_POLICY} if name.endswith(".html") else {}
        return FileResponse(file, headers=policy)

    gradio.mount_gradio_app(
        server,
        build_page(jobs, choices),
        path="/",
        server_name=host,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=STYLE,
    )
    server.add_middleware(_Guard, storage=jobs.storage)
    if host in LOOPBACK:
        server.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", "::1"])
    return server


class _Guard:
    """Limits of uploads, and headers of every answer. Starlette has no limit of a request's size."""

    def __init__(self, app: Any, storage: Storage) -> None:
        self.app = app
        self.storage = storage

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        # Gradio's own proxy for addresses on the network is not needed.
        if "/proxy=" in path or "/file=http" in path:
            await _answer(send, 404, "There is no such page.")
            return
        refusal = self._refusal(path, dict(scope["headers"]))
        if refusal:
            # A browser shows the answer only when it has sent everything.
            while (await receive()).get("more_body"):
                pass
            await _answer(send, 413, refusal)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_headers(path, message["headers"])]}
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _refusal(self, path: str, headers: Mapping[bytes, bytes]) -> str:
        if not path.endswith("/upload"):
            return ""
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            return "upload: the request has no length; send the file with a browser"
        if int(length) - _MOST_FRAME <= self.storage.max_bytes:
            return ""
        try:
            self.storage.check_size(int(length))
        except InputError as error:
            return str(error)
        return ""


def _headers(path: str, given: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in given}
    own = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
    if b"content-security-policy" not in names:
        own["content-security-policy"] = _POLICY
    if not path.startswith(("/assets/", "/static/")) and b"cache-control" not in names:
        # The browser must not keep scans and results on its disk.
        own["cache-control"] = "no-store"
    return [(name.encode(), value.encode()) for name, value in own.items()]


async def _answer(send: Any, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
