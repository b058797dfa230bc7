"""What the lab's tests share: a server on loopback, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from rmsprop.lab.wire import unpack

RAVINE = {
    "function": "0.1*x^2 + 2*y^2",
    "start": [-5.0, -2.0],
    "steps": 20,
    "domain": [[-6, 6], [-3, 3]],
    "runs": [{"optimizer": "rmsprop", "lr": 0.4}],
}


@contextlib.contextmanager
def serving() -> Iterator[int]:
    """Run the server in a thread; yield its port."""
    import uvicorn

    from rmsprop.lab.server import application

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(application(), log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    end = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < end, "the server does not start"
        time.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def send(
    port: int, path: str, body: Any = None, *, method: str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One request; `body` is bytes as they are, or anything JSON knows."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    usual = {} if content is None else {"Content-Type": "application/json"}
    try:
        connection.request(
            method or ("GET" if content is None else "POST"), path, content, {**usual, **(headers or {})}
        )
        reply = connection.getresponse()
        return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def ask(port: int, name: str, body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A call that has to succeed: its header and its arrays."""
    status, _, content = send(port, f"/api/{name}", body)
    assert status == 200, content
    return unpack(content)


def refusal(port: int, name: str, body: Any) -> dict[str, Any]:
    """A call that has to be refused: the error."""
    status, _, content = send(port, f"/api/{name}", body)
    assert status == 422, (status, content[:200])
    error: dict[str, Any] = json.loads(content)["error"]
    return error
