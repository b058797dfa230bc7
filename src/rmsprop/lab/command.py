"""The command `rmsprop lab`. It imports the server only when it runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = ["lab"]


def lab(
    port: Annotated[int, typer.Option(help="Port; 0: any free port.", min=0, max=65535, metavar="N")] = 8765,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. With any other address than loopback, others can compute on this machine."
        ),
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Open the lab, a local web page: watch RMSprop and its baselines, scrub through time, change every number.

    Everything is computed on this machine, without any network access. Ctrl-C ends it.

    Examples:

    \b
      rmsprop lab
      rmsprop lab --port 9000 --no-open
    """  # noqa: D301, D412 (the backspace keeps the line breaks in --help)
    import socket

    from rmsprop.errors import FileError, InputError, MissingDependency

    try:
        import uvicorn

        from rmsprop.lab.server import LOOPBACK, PAGE, make_application
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("uvicorn", "starlette", "anyio"):
            raise
        raise MissingDependency.of(str(error.name), extra="lab", purpose="the lab's page") from error
    if not (PAGE / "index.html").exists():
        raise FileError(f"{PAGE}: the page is not built; in a checkout run: make lab")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
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
    address = _format_address(host, listener.getsockname()[1])
    names = LOOPBACK if host in LOOPBACK else (*LOOPBACK, host, socket.gethostname().lower())
    typer.echo(f"The lab is at {address}  (Ctrl-C ends it)")
    if host not in LOOPBACK:
        typer.echo("Warning: other machines can reach this address and compute on this machine.", err=True)
    config = uvicorn.Config(
        make_application(hosts=names), log_level="warning", access_log=False, lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    if browser:
        _open_when_ready(server, address)
    server.run(sockets=[listener])


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
