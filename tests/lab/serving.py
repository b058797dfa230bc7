"""A lab server on loopback, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest


@contextlib.contextmanager
def run_server(page: str, **options: Any) -> Iterator[int]:
    """Run the server in a thread; yield its port."""
    pytest.importorskip("starlette", reason="starlette is not installed: the lab needs it")
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed: the lab needs it")
    from rmsprop.lab.server import make_application

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(make_application(page, **options), log_level="critical", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


def send(
    port: int, path: str, headers: list[tuple[str, str]] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Send a request with exactly these headers, and a usual Host where they have none."""
    headers = headers or []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(
            method, path, skip_host=any(name == "Host" for name, _ in headers), skip_accept_encoding=True
        )
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        reply = connection.getresponse()
        return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
    finally:
        connection.close()
