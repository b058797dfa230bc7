"""Promise: `rmsprop lab` serves the page on loopback, or says why it cannot."""

from __future__ import annotations

import inspect
import re
import signal
import socket
import subprocess
import sys

import pytest
from serving import send
from typer.testing import CliRunner

from rmsprop import cli
from rmsprop.lab import export
from rmsprop.lab.command import lab

pytest.importorskip("rmsprop.lab.server", reason="the lab needs starlette and uvicorn", exc_type=ImportError)


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    code = (
        "import pathlib, sys; from rmsprop.lab import export; export.PAGE = pathlib.Path(sys.argv.pop(1));"
        "from rmsprop.cli import main; main()"
    )
    (tmp_path / "index.html").write_text("<title>a page</title>")
    words = [sys.executable, "-c", code, str(tmp_path / "index.html"), "lab", "--port", "0", "--no-open"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", line)[1])
        status, _, content = send(port, "/")
        assert status == 200
        assert b"a page" in content
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors


def fail(*words):
    done = CliRunner().invoke(cli.app, ["lab", "--no-open", *words])
    assert done.exit_code == 2
    return done.output


def test_without_a_built_page_the_error_says_how_to_build_it(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "PAGE", tmp_path / "index.html")
    assert "make lab" in fail()


def test_a_port_in_use_raises(tmp_path, monkeypatch):
    (tmp_path / "index.html").touch()
    monkeypatch.setattr(export, "PAGE", tmp_path / "index.html")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert f"--port {port}" in fail("--port", port)


def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch):
    (tmp_path / "index.html").touch()
    monkeypatch.setattr(export, "PAGE", tmp_path / "index.html")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert 'pip install "rmsprop[lab]"' in fail()


def test_the_default_address_is_loopback():
    assert inspect.signature(lab).parameters["host"].default == "127.0.0.1"


SAVED = '<script type="application/json" id="saved">null</script>'


def test_an_export_needs_no_server_and_opens_with_the_link(tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text(SAVED)
    monkeypatch.setattr(export, "PAGE", tmp_path / "index.html")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    out = tmp_path / "out.html"
    link = "http://127.0.0.1:8765/#v=1&f=</script>"
    done = CliRunner().invoke(cli.app, ["lab", "--export", str(out), "--link", link])
    assert done.exit_code == 0, done.output
    assert out.read_text() == SAVED.replace("null", '"#v=1&f=\\u003c/script>"')
    assert "Share" in fail("--link", "http://example.org", "--export", str(out))
