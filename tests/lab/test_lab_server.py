"""Promise: the lab's server answers only its own page, and rejects bad requests."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from serving import RAVINE, call, get_error, send

from rmsprop import landscapes
from rmsprop.lab.experiment import Deadline


def test_a_run_is_answered_with_numbers_notes_and_code(port):
    about, arrays = call(port, "run", RAVINE)
    assert arrays["0.x"].shape == (21, 2)
    assert arrays["0.f"].shape == (21,)
    assert arrays["0.grad"].shape == arrays["0.statistic"].shape == arrays["0.rate"].shape == (20, 2)
    assert arrays["0.x"][0].tolist() == [-5.0, -2.0]
    assert about["runs"][0]["rule"]["rho"] == 0.9
    assert about["notes"]
    assert "rmsprop minimize" in about["command"]


def test_the_catalog_has_every_landscape_of_two_variables(port):
    status, _, content = send(port, "/api/scenes")
    assert status == 200
    catalog = json.loads(content)
    assert tuple(scene["name"] for scene in catalog["scenes"]) == landscapes.names(variables=2)
    assert {"torch", "keras3", "tensorflow1", "optax", "hinton"} <= {row["name"] for row in catalog["dialects"]}


def test_a_surface_has_the_functions_values(port):
    _, arrays = call(port, "surface", {"function": "x^2 + y", "domain": [[-1, 1], [0, 2]], "cells": 8})
    x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(0, 2, 9))
    np.testing.assert_array_equal(arrays["f"], x * x + y)


def test_a_map_has_rho_evenly_spaced_in_its_memory(port):
    _, arrays = call(port, "sweep", {**RAVINE, "cells": 4, "other": [0.0, 0.999]})
    np.testing.assert_allclose(1 / (1 - arrays["other"]), [1, 10, 100, 1000])
    assert arrays["f"].shape == (4, 4)


def test_basins_have_the_share_of_starts_that_reach_a_minimum(port):
    about, arrays = call(port, "starts", {**RAVINE, "count": 4, "steps": 60})
    assert about["share"] == 1.0
    assert arrays["label"].tolist() == [[0.0] * 4] * 4


def test_an_expression_error_has_its_column(port):
    error = get_error(port, "run", {**RAVINE, "function": "x^2 + sine(y)"})
    assert error["column"] == 6
    assert "did you mean 'sin'" in error["message"]


BAD = [
    ({"function": 3}, "function"),
    ({"function": "x" * 401}, "400"),
    ({"function": "(" * 50 + "x" + ")" * 50}, "nest"),
    ({"start": [0]}, "start"),
    ({"start": [0, 1e99]}, "start"),
    ({"start": "ab"}, "start"),
    ({"start": [0, None]}, "start"),
    ({"steps": 0}, "steps"),
    ({"steps": 5001}, "steps"),
    ({"steps": 1.5}, "steps"),
    ({"steps": True}, "steps"),
    ({"steps": 10**400}, "steps"),
    ({"runs": []}, "runs"),
    ({"runs": [{"optimizer": "rmsprop", "lr": 0.1}] * 9}, "runs"),
    ({"runs": ["rmsprop"]}, "runs"),
    ({"runs": [{"optimizer": "sgd", "lr": 0.1}]}, "optimizer"),
    ({"runs": [{"optimizer": "rmsprop"}]}, "lr"),
    ({"runs": [{"optimizer": "rmsprop", "lr": -1}]}, "lr"),
    ({"runs": [{"optimizer": "rmsprop", "lr": "0.1"}]}, "lr"),
    ({"runs": [{"optimizer": "rmsprop", "lr": 0.1, "rule": {"rho": 2}}]}, "rho"),
    ({"runs": [{"optimizer": "rmsprop", "lr": 0.1, "rule": {"__class__": 2}}]}, "__class__"),
    ({"runs": [{"optimizer": "rmsprop", "lr": 0.1, "rule": [1]}]}, "rule"),
    ({"runs": [{"optimizer": "rmsprop", "lr": 0.1, "dialect": "nobody"}]}, "nobody"),
    ({"runs": [{"optimizer": "rmsprop", "lr": 0.1, "dialect": ["torch"]}]}, "dialect"),
    ({"runs": [{"optimizer": "rmsprop", "lr": 0.1, "dialect": "keras2", "rule": {"centered": True}}]}, "centered"),
    ({"runs": [{"optimizer": "adam", "lr": 0.1, "beta1": 1.0}]}, "beta1"),
    ({"runs": [{"optimizer": "adam", "lr": 0.1, "rho": 0.5}]}, "rho"),
    ({"noise": {"kind": "loud"}}, "noise"),
    ({"noise": {"kind": "gauss", "seed": -1}}, "seed"),
    ({"noise": 5}, "noise"),
    ({"domain": [[1, 1], [0, 1]]}, "domain"),
    ({"domain": [[0, 1]]}, "domain"),
    ({"surprise": 1}, "surprise"),
]


@pytest.mark.parametrize(("change", "named"), BAD, ids=lambda value: str(value)[:40] if isinstance(value, dict) else "")
def test_a_bad_request_is_rejected_by_name(port, change, named):
    assert named in get_error(port, "run", {**RAVINE, **change})["message"]


@pytest.mark.parametrize("missing", ["function", "start", "steps", "runs"])
def test_a_missing_key_is_named(port, missing):
    assert missing in get_error(port, "run", {k: v for k, v in RAVINE.items() if k != missing})["message"]


@pytest.mark.parametrize(
    ("name", "body", "named"),
    [
        ("sweep", {**RAVINE, "cells": 129}, "cells"),
        ("sweep", {**RAVINE, "name": "lr"}, "name"),
        ("sweep", {**RAVINE, "lr": [1, 1]}, "lr"),
        ("sweep", {**RAVINE, "other": [0, 1]}, "other"),
        ("starts", {**RAVINE, "count": 1000}, "count"),
        ("surface", {"function": "x", "domain": [[0, 1], [0, 1]], "cells": 1000}, "cells"),
        ("surface", {"function": "x"}, "domain"),
        ("surface", [], "object"),
        ("run", "text", "request"),
        ("run", None, "request"),
    ],
)
def test_the_other_calls_have_limits(port, name, body, named):
    assert named in get_error(port, name, json.dumps(body).encode())["message"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        *[(body, "application/json", 400) for body in (b"", b"{", b"\xff\xfe", b"[" * 60_000)],
        (b" " * 70_000, "application/json", 413),
        *[(RAVINE, kind, 415) for kind in ("text/plain", "application/x-www-form-urlencoded", "")],
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_body_that_is_not_json_or_too_large_is_rejected(port, body, kind, status):
    assert send(port, "/api/run", body, headers={"Content-Type": kind})[0] == status


@pytest.mark.parametrize("path", ["/", "/api/scenes", "/api/run"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[::2]:80"])
def test_another_host_name_is_rejected(port, path, host):
    body = RAVINE if path == "/api/run" else None
    assert send(port, path, body, headers={"Host": host})[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:99", "[::1]:8765"])
def test_names_of_this_machine_are_accepted(port, host):
    assert send(port, "/api/scenes", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"])
def test_another_origin_is_rejected(port, origin):
    assert send(port, "/api/run", RAVINE, headers={"Origin": origin.format(port=port)})[0] == 403


def test_the_origin_of_the_page_is_accepted(port):
    assert send(port, "/api/run", RAVINE, headers={"Origin": f"http://127.0.0.1:{port}"})[0] == 200


@pytest.mark.parametrize("path", ["/", "/api/scenes", "/nothing", "/api/run"])
def test_every_answer_has_security_headers(port, path):
    headers = send(port, path)[1]
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", ["/../server.py", "/%2e%2e/server.py", "/..%2fserver.py", "//etc/passwd"])
def test_nothing_outside_the_page_is_served(port, path):
    status, _, content = send(port, path)
    assert status in (403, 404)
    assert b"import" not in content


def test_a_get_request_to_the_api_is_rejected(port):
    assert send(port, "/api/run")[0] in (404, 405)


def test_a_slow_request_does_not_block_others(port, monkeypatch):
    started, release = threading.Event(), threading.Event()

    def wait(*_, **__):
        started.set()
        assert release.wait(60)
        return np.zeros((2, 2))

    monkeypatch.setattr("rmsprop.lab.server.compute_heat_map", wait)
    thread = threading.Thread(target=send, args=(port, "/api/sweep", {**RAVINE, "cells": 2}))
    thread.start()
    assert started.wait(60)
    call(port, "run", RAVINE)
    assert thread.is_alive()
    release.set()
    thread.join()


def test_a_request_that_takes_too_long_is_stopped_with_advice(port, monkeypatch):
    monkeypatch.setattr("rmsprop.lab.server.Deadline", lambda: Deadline(0.0))
    assert "fewer steps" in get_error(port, "sweep", RAVINE)["message"]
