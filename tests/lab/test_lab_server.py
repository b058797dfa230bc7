"""The lab's server answers its own page and nobody else, and no request can hurt it."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from serving import RAVINE, ask, refusal, send, serving

from rmsprop import landscapes

pytest.importorskip("starlette", reason="starlette is not installed: the lab needs it")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: the lab needs it")


@pytest.fixture(scope="module")
def port():
    with serving() as number:
        yield number


def test_a_run_comes_back_with_numbers_notes_and_code(port):
    about, arrays = ask(port, "run", RAVINE)
    assert arrays["0.x"].shape == (21, 2)
    assert arrays["0.f"].shape == (21,)
    assert arrays["0.grad"].shape == arrays["0.statistic"].shape == arrays["0.rate"].shape == (20, 2)
    assert arrays["0.x"][0].tolist() == [-5.0, -2.0]
    assert about["runs"][0]["rule"]["rho"] == 0.9
    assert about["notes"]
    assert "rmsprop minimize" in about["command"]


def test_the_catalogue_names_every_landscape_of_two_variables(port):
    status, _, content = send(port, "/api/scenes")
    assert status == 200
    found = json.loads(content)
    assert tuple(scene["name"] for scene in found["scenes"]) == landscapes.names(variables=2)
    assert {"torch", "keras3", "tensorflow1", "optax", "hinton"} <= {host["name"] for host in found["dialects"]}


def test_a_surface_has_the_functions_values(port):
    _, arrays = ask(port, "surface", {"function": "x^2 + y", "domain": [[-1, 1], [0, 2]], "cells": 8})
    x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(0, 2, 9))
    np.testing.assert_array_equal(arrays["f"], x * x + y)


def test_a_map_spaces_rho_by_its_memory(port):
    _, arrays = ask(port, "sweep", {**RAVINE, "cells": 4, "other": [0.0, 0.999]})
    np.testing.assert_allclose(1 / (1 - arrays["other"]), [1, 10, 100, 1000])
    assert arrays["f"].shape == (4, 4)


def test_a_lattice_says_how_many_starts_arrive(port):
    about, arrays = ask(port, "starts", {**RAVINE, "count": 4, "steps": 60})
    assert about["share"] == 1.0
    assert arrays["label"].tolist() == [[0.0] * 4] * 4


def test_an_expression_error_says_the_column(port):
    error = refusal(port, "run", {**RAVINE, "function": "x^2 + sine(y)"})
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
def test_a_bad_request_is_refused_by_name(port, change, named):
    assert named in refusal(port, "run", {**RAVINE, **change})["message"]


@pytest.mark.parametrize("missing", ["function", "start", "steps", "runs"])
def test_a_missing_part_is_named(port, missing):
    assert missing in refusal(port, "run", {k: v for k, v in RAVINE.items() if k != missing})["message"]


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
def test_the_other_calls_have_limits_too(port, name, body, named):
    assert named in refusal(port, name, json.dumps(body).encode())["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 60_000])
def test_a_body_that_is_no_json_is_refused(port, body):
    assert send(port, "/api/run", body)[0] == 400


def test_a_body_that_is_too_large_is_refused(port):
    status, _, content = send(port, "/api/run", b" " * 70_000)
    assert status == 413
    assert b"65,536" in content


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_another_site_could_send_unasked_is_refused(port, kind):
    assert send(port, "/api/run", RAVINE, headers={"Content-Type": kind})[0] == 415


@pytest.mark.parametrize("path", ["/", "/api/scenes", "/api/run"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[::2]:80"])
def test_a_foreign_host_name_is_refused(port, path, host):
    body = RAVINE if path == "/api/run" else None
    assert send(port, path, body, headers={"Host": host})[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:99", "[::1]:8765"])
def test_this_machines_names_are_taken(port, host):
    assert send(port, "/api/scenes", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"])
def test_a_foreign_origin_is_refused(port, origin):
    assert send(port, "/api/run", RAVINE, headers={"Origin": origin.format(port=port)})[0] == 403


def test_the_pages_own_origin_is_taken(port):
    assert send(port, "/api/run", RAVINE, headers={"Origin": f"http://127.0.0.1:{port}"})[0] == 200


@pytest.mark.parametrize("path", ["/", "/api/scenes", "/nothing", "/api/run"])
def test_every_answer_keeps_the_page_to_itself(port, path):
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


def test_a_get_of_a_call_is_refused(port):
    assert send(port, "/api/run")[0] in (404, 405)


def test_requests_do_not_wait_for_a_slow_one(port):
    """A quick request is answered while a slow one still computes."""
    slow = {**RAVINE, "function": "sin(x)*" * 30 + "y", "steps": 5000, "cells": 128}
    order = []

    def work() -> None:
        send(port, "/api/sweep", slow)
        order.append("slow")

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(5):
        ask(port, "run", RAVINE)
        order.append("quick")
    thread.join()
    assert order.count("quick") == 5
    assert order[-1] == "slow"


def test_what_takes_too_long_is_broken_off_with_advice(port, monkeypatch):
    monkeypatch.setattr("rmsprop.lab.server.Deadline", lambda: __import__("rmsprop").lab.experiment.Deadline(0.01))
    slow = {**RAVINE, "function": "sin(x)*" * 30 + "y", "steps": 5000, "cells": 128}
    assert "fewer steps" in refusal(port, "sweep", slow)["message"]
