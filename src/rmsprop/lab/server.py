"""The page on loopback, for one user on one machine: one file, compressed. Nothing is computed and nothing is stored.

The Host header has to name this machine: a page of another site, whose name was pointed here, gets nothing. An address
is no name that somebody could point, so a server that listens beyond loopback answers to every address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LOOPBACK", "make_application"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:]+))(?::[0-9]{1,5})?")

# The page's own policy, in its head, says what it may load; this adds what only a header can.
_HEADERS = {
    b"content-security-policy": b"frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-cache",
}


def make_application(page: str, *, hosts: Sequence[str] = LOOPBACK, any_address: bool = False) -> Starlette:
    """Return the server as an ASGI application.

    Args:
        page: The page as HTML.
        hosts: The names, in lower case and without a port, that a Host header may have.
        any_address: Whether it may have any IP address too.
    """

    async def get_page(request: Request) -> Response:
        return Response(page, media_type="text/html")

    guard = Middleware(_Guard, hosts=tuple(hosts), any_address=any_address)
    return Starlette(routes=[Route("/", get_page)], middleware=[guard, Middleware(GZipMiddleware)])


class _Guard:
    """Answer only to this machine's names; add the security headers to every answer."""

    def __init__(self, app: ASGIApp, *, hosts: tuple[str, ...], any_address: bool) -> None:
        self._app, self._hosts, self._any_address = app, hosts, any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_HEADERS.items()]}
            await send(message)

        given = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
        if len(given) == 1 and self._allows(given[0]):
            await self._app(scope, receive, with_headers)
        else:
            names = ", ".join(self._hosts)
            refusal = PlainTextResponse(f"Host {', '.join(given)!r}: this server answers only to {names}\n", 403)
            await refusal(scope, receive, with_headers)

    def _allows(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = (match[1] or match[2]).lower()
        return name in self._hosts or (self._any_address and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
