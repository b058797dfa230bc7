"""A lab server on loopback, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rmsprop.lab.wire import unpack

RAVINE = {
    "function": "0.1*x^2 + 2*y^2",
    "start": [-5.0, -2.0],
    "steps": 20,
    "domain": [[-6, 6], [-3, 3]],
    "runs": [{"optimizer": "rmsprop", "lr": 0.4}],
}


@contextlib.contextmanager
def run_server() -> Iterator[int]:
    """Run the server in a thread; yield its port."""
    pytest.importorskip("starlette", reason="starlette is not installed: the lab needs it")
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed: the lab needs it")
    from rmsprop.lab.server import make_application

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(make_application(), log_level="critical", lifespan="off", ws="none")
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


def send(port: int, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, dict, bytes]:
    """Send a GET request, or a POST request with `body`: bytes, or anything that JSON can store."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    usual = {} if content is None else {"Content-Type": "application/json"}
    try:
        connection.request("GET" if content is None else "POST", path, content, {**usual, **(headers or {})})
        reply = connection.getresponse()
        return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def call(port: int, name: str, body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the arrays of an answer."""
    status, _, content = send(port, f"/api/{name}", body)
    assert status == 200, content
    return unpack(content)


def get_error(port: int, name: str, body: Any) -> dict[str, Any]:
    """Return the error of a request that the server rejects."""
    status, _, content = send(port, f"/api/{name}", body)
    assert status == 422, (status, content[:200])
    error: dict[str, Any] = json.loads(content)["error"]
    return error
