"""`rmsprop lab` serves the page on loopback, and says what is wrong when it cannot."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import pytest
from serving import send
from typer.testing import CliRunner

from rmsprop import cli
from rmsprop.lab import server

pytest.importorskip("uvicorn", reason="uvicorn is not installed: the lab needs it")


@pytest.fixture
def page(tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text("<title>a page</title>")
    monkeypatch.setattr(server, "PAGE", tmp_path)
    return tmp_path


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    code = (
        "import pathlib, sys; from rmsprop.lab import server; server.PAGE = pathlib.Path(sys.argv.pop(1));"
        "server.application.__kwdefaults__['page'] = server.PAGE; from rmsprop.cli import main; main()"
    )
    (tmp_path / "index.html").write_text("<title>a page</title>")
    words = [sys.executable, "-c", code, str(tmp_path), "lab", "--port", "0", "--no-open"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", line)[1])
        status, _, content = send(port, "/")
        assert status == 200
        assert b"a page" in content
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors


def test_a_page_that_is_not_built_says_how_to_build_it(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "PAGE", tmp_path)
    done = CliRunner().invoke(cli.app, ["lab", "--no-open"])
    assert done.exit_code == 2
    assert "make lab" in done.output


def test_a_port_in_use_is_named(page):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(cli.app, ["lab", "--no-open", "--port", port])
    assert done.exit_code == 2
    assert port in done.output


def test_without_the_extra_the_command_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = CliRunner().invoke(cli.app, ["lab", "--no-open"])
    assert done.exit_code == 2
    assert 'pip install "rmsprop[lab]"' in done.output


def test_the_default_address_is_loopback():
    import inspect

    from rmsprop.lab.command import lab

    assert inspect.signature(lab).parameters["host"].default == "127.0.0.1"
