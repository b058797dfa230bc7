"""The page and its API, for one user on one machine.

    GET  /               the page and its files
    GET  /api/scenes     landscapes, dialects, optimizers, limits: JSON
    POST /api/run        an experiment -> the numbers of all runs (`wire`), notes, script, command
    POST /api/surface    a function and limits -> its values on a grid
    POST /api/sweep      an experiment and two ranges -> f at the end for every pair of hyperparameters
    POST /api/starts     an experiment -> where the runs from a grid of starts end

A bad request is answered with {"error": {"message", "column"}} and status 422, or 400, 403, 413, 415.

Pages of other sites must not use this server through the user's browser: the Host header has to name this machine, an
Origin header has to be that of this page, and a body has to have the type JSON, which another site cannot send without
a preflight request. Every computation has a time limit and runs in a thread.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Awaitable, Callable
from functools import cache, partial
from pathlib import Path as FilePath
from typing import Any

import anyio.to_thread
import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rmsprop import __version__, dialects, landscapes
from rmsprop.errors import ExpressionError, InputError, RMSpropError
from rmsprop.lab import experiment as ask
from rmsprop.lab.experiment import Deadline, Experiment
from rmsprop.lab.notes import find_exit, get_title, write_notes
from rmsprop.lab.script import write_command, write_python
from rmsprop.lab.simulate import simulate
from rmsprop.lab.sweep import compute_basins, compute_heat_map
from rmsprop.lab.wire import pack
from rmsprop.optimizers import TABLE
from rmsprop.rule import Rule

__all__ = ["PAGE", "make_application"]

PAGE = FilePath(__file__).parent / "page"
MAX_BODY = 64 * 1024
THREADS = 8
SHOWN = (
    "torch",
    "tensorflow1",
    "keras3",
    "tf-keras-legacy",
    "optax",
    "hinton",
    "graves2013",
    "dqn",
    "timm",
    "heavyball",
)
"""The dialects in the page's list; the server accepts all."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    b"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-cache",
}


def make_application(*, hosts: tuple[str, ...] = LOOPBACK, page: FilePath = PAGE) -> Starlette:
    """Return the server as an ASGI application.

    Args:
        hosts: The names, without a port, that a Host header may have.
        page: The folder of the built page.
    """
    limiter = anyio.CapacityLimiter(THREADS)
    calls = {"run": _run, "surface": _surface, "sweep": _sweep, "starts": _starts}
    routes: list[Any] = [Route("/api/scenes", _get_scenes)]
    routes += [
        Route(f"/api/{name}", _make_endpoint(answer, limiter), methods=["POST"]) for name, answer in calls.items()
    ]
    routes += [Mount("/", StaticFiles(directory=page, html=True, check_dir=False))]
    app = Starlette(routes=routes)
    app.add_middleware(partial(_Guard, hosts=hosts))
    return app


class _Guard:
    """Reject other host names and pages of other sites; add the security headers."""

    def __init__(self, app: ASGIApp, *, hosts: tuple[str, ...]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(key, value) for key, value in message["headers"] if key not in _HEADERS]
                message = {**message, "headers": [*own, *_HEADERS.items()]}
            await send(message)

        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin")
        if _get_name(host) not in self._hosts:
            error = _make_error(403, f"Host {host!r}: this server answers only to {', '.join(self._hosts)}")
        elif origin is not None and origin.decode("latin-1") != f"{scope['scheme']}://{host}":
            error = _make_error(403, "Origin: pages of other sites may not use this server")
        else:
            await self._app(scope, receive, with_headers)
            return
        await error(scope, receive, with_headers)


def _get_name(host: str) -> str:
    """Return a Host header without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _make_error(status: int, message: str, **more: Any) -> Response:
    content = json.dumps({"error": {"message": message, **more}})  # in ASCII: the text may hold lone surrogates
    return Response(content, status, media_type="application/json")


def _make_endpoint(
    answer: Callable[[Any], bytes], limiter: anyio.CapacityLimiter
) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _make_error(415, "Content-Type: expected application/json")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                return _make_error(413, f"body: more than {MAX_BODY:,} bytes")
        try:
            asked = json.loads(bytes(body))
        except (ValueError, RecursionError) as error:
            return _make_error(400, f"body: not JSON ({type(error).__name__})")
        try:
            content = await anyio.to_thread.run_sync(answer, asked, limiter=limiter)
        except ExpressionError as error:
            return _make_error(422, error.reason, column=error.column, text=error.text)
        except RMSpropError as error:
            return _make_error(422, str(error))
        return Response(content, media_type="application/octet-stream")

    return handle


async def _get_scenes(request: Request) -> Response:
    return Response(_build_catalog(), media_type="application/json")


_OPTIMIZER = ("name", "label", "light", "dark", "marker", "lr_scale", "hyperparameters")


@cache
def _build_catalog() -> bytes:
    scenes: list[dict[str, Any]] = []
    for name in landscapes.names(variables=2):
        item = landscapes.get(name)
        plain = ("name", "title", "text", "domain", "start", "lr", "steps", "teaches", "log_scale")
        known = {"minima": item.minima.tolist(), "minimum": item.minimum if math.isfinite(item.minimum) else None}
        scenes.append({**{key: getattr(item, key) for key in plain}, **known})
    shown = []
    for name in SHOWN:
        row = dialects.get(name)
        shown.append({"name": name, "title": row.title, "lr": row.lr, "rule": dataclasses.asdict(row.rule)})
    rows = [row for row in TABLE.values() if "numpy" in row.builds]
    content: dict[str, Any] = {
        "scenes": scenes,
        "dialects": shown,
        "optimizers": [{key: getattr(row, key) for key in _OPTIMIZER} for row in rows],
        "rule": dataclasses.asdict(Rule()),
        "limits": {"steps": ask.MAX_STEPS, "runs": ask.MAX_RUNS, "cells": ask.MAX_CELLS},
        "version": __version__,
    }
    return json.dumps(content, allow_nan=False).encode()


def _run(asked: Any) -> bytes:
    experiment = Experiment.read(asked)
    paths = simulate(experiment)
    scene = _find_scene(experiment)
    lowest = None if scene is None else scene.minimum
    runs, arrays = [], {}
    for i, (setting, path) in enumerate(zip(experiment.settings, paths)):
        rule = None if setting.rule is None else dataclasses.asdict(setting.rule)
        gone = find_exit(path, experiment.domain)
        about = {
            "optimizer": setting.optimizer,
            "title": get_title(setting),
            "dialect": setting.dialect,
            "lr": setting.lr,
        }
        runs.append({**about, "rule": rule, "own": dict(setting.own), "broken": path.broken, "exit": gone})
        for name in ("x", "f", "grad", "statistic", "rate"):
            arrays[f"{i}.{name}"] = getattr(path, name)
    sentences = [dataclasses.asdict(note) for note in write_notes(experiment, paths, lowest=lowest)]
    texts = {
        "python": write_python(experiment),
        "command": write_command(experiment),
        "function": str(experiment.function),
    }
    return pack({"runs": runs, "notes": sentences, "steps": experiment.steps, **texts}, arrays)


def _find_scene(experiment: Experiment) -> landscapes.Landscape | None:
    for name in landscapes.names(variables=2):
        if landscapes.get(name).function == experiment.function:
            return landscapes.get(name)
    return None


def _surface(asked: Any) -> bytes:
    if not isinstance(asked, dict):
        raise InputError("request: expected an object")
    function = ask.parse(asked.get("function"))
    (left, right), (bottom, top) = ask.check_domain(asked.get("domain"))
    cells = ask.check_integer(asked.get("cells", 100), "cells", 8, 2 * ask.MAX_CELLS)
    x, y = np.linspace(left, right, cells + 1), np.linspace(bottom, top, cells + 1)
    values = function.value(x[None, :], y[:, None])
    return pack({"text": str(function)}, {"f": values})


def _sweep(asked: Any) -> bytes:
    experiment, rest = _split(asked, ("cells", "name", "lr", "other"))
    cells = ask.check_integer(rest.get("cells", 64), "cells", 2, ask.MAX_CELLS)
    name = rest.get("name", "rho")
    if name not in ("rho", "eps"):
        raise InputError(f"name: {name!r}, expected 'rho' or 'eps'")
    lr = np.geomspace(*_check_range(rest.get("lr", [1e-4, 1.0]), "lr", 1e-12, 1e6), cells)
    if name == "rho":
        low, high = _check_range(rest.get("other", [0.0, 0.999]), "other", 0.0, 1.0 - 1e-9)
        # Evenly spaced in the logarithm of 1 / (1 - rho): 0.9 and 0.99 are as far apart as 0.99 and 0.999.
        other = 1.0 - np.geomspace(1.0 - low, 1.0 - high, cells)
    else:
        other = np.geomspace(*_check_range(rest.get("other", [1e-12, 1.0]), "other", 1e-300, 1e6), cells)
    values = compute_heat_map(experiment, lr=lr, other=other, name=name, deadline=Deadline())
    return pack({"name": name}, {"f": values, "lr": lr, "other": other})


def _starts(asked: Any) -> bytes:
    experiment, rest = _split(asked, ("count",))
    count = ask.check_integer(rest.get("count", 48), "count", 2, ask.MAX_CELLS)
    scene = _find_scene(experiment)
    minima = np.zeros((0, 2)) if scene is None else scene.minima
    found = compute_basins(experiment, count=count, minima=minima, deadline=Deadline())
    arrays = {"end": found["end"], "label": found["label"], "minima": found["minima"]}
    return pack({"share": found["share"], "known": len(minima)}, arrays)


def _split(asked: Any, names: tuple[str, ...]) -> tuple[Experiment, dict[str, Any]]:
    if not isinstance(asked, dict):
        raise InputError("request: expected an object")
    rest = {name: asked[name] for name in names if name in asked}
    return Experiment.read({key: value for key, value in asked.items() if key not in names}), rest


def _check_range(value: Any, name: str, low: float, high: float) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{name}: expected [from, to]")
    first, last = (ask.check_number(item, f"{name}[{i}]", low, high) for i, item in enumerate(value))
    if first >= last:
        raise InputError(f"{name}: from {first:g} to {last:g}, expected the second to be larger")
    return first, last
