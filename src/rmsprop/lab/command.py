"""The command `rmsprop lab`. It imports the server only when it runs."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["lab"]


def lab(
    port: Annotated[int, typer.Option(help="Port; 0: any free port.", min=0, max=65535, metavar="N")] = 8765,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. With any other address than loopback, others can open the page."),
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    export: Annotated[
        Path | None, typer.Option(help="Write the page to this HTML file instead: a lab without a server.")
    ] = None,
    link: Annotated[str, typer.Option(help="What the page opens with: a link from its Share dialog.")] = "",
) -> None:
    """Open the lab, a page to watch RMSprop and its baselines, scrub through time and change every number.

    The page computes in the browser, with this library's kernel and without any network access. Ctrl-C ends the server.

    Examples:

    \b
      rmsprop lab
      rmsprop lab --port 9000 --no-open
      rmsprop lab --export lab.html
    """  # noqa: D301, D412 (the backspace keeps the line breaks in --help)
    from rmsprop._files import write_atomically
    from rmsprop.errors import MissingDependency
    from rmsprop.lab.export import read_page

    page = read_page(link)
    if export is not None:
        with write_atomically(export) as temporary:
            temporary.write_text(page, "utf-8")
        typer.echo(f"Wrote {export}: open it in any browser, or put it on any web server")
        return
    try:
        import uvicorn

        from rmsprop.lab.server import LOOPBACK, make_application
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("uvicorn", "starlette", "anyio"):
            raise
        raise MissingDependency.of(str(error.name), extra="lab", purpose="the lab's page") from error
    listener = _listen(host, port)
    address = _format_address(host, listener.getsockname()[1])
    typer.echo(f"The lab is at {address}  (Ctrl-C ends it)")
    is_local = host in LOOPBACK
    if not is_local:
        typer.echo("Note: other machines can open this address. They see the page, and nothing of yours.", err=True)
    names = LOOPBACK if is_local else (*LOOPBACK, host.lower(), socket.gethostname().lower())
    application = make_application(page, hosts=names, any_address=not is_local)
    config = uvicorn.Config(application, log_level="warning", access_log=False, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    if browser:
        _open_when_ready(server, address)
    server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    from rmsprop.errors import InputError

    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # From here on, a browser that connects before the server has started waits.
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise InputError(
            f"--host {host} --port {port}: {error.strerror}; another port: rmsprop lab --port 0"
        ) from error
    return listener


def _format_address(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/"


def _open_when_ready(server: Any, address: str) -> None:
    import threading
    import time
    import webbrowser

    def wait() -> None:
        for _ in range(200):
            if server.started:
                webbrowser.open(address)
                return
            time.sleep(0.02)

    threading.Thread(target=wait, daemon=True).start()
