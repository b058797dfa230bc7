"""Fixtures of the benchmark tests."""

import http.server
import os
import shutil
import threading

import pytest

from rmsprop.errors import FileError, MissingDependency
from rmsprop.race import task as tasks
from rmsprop.race.sources import SOURCES
from small_tasks import DeviceTask, FailingTask, ValleyTask


@pytest.fixture
def command_tasks(monkeypatch):
    """Let the command find the tasks of `small_tasks`, and draw nothing, which takes a second."""
    known = {
        task.name: task
        for task in (
            ValleyTask(),
            DeviceTask(),
            FailingTask("absent", MissingDependency("the package valley-data is missing: rmsprop race absent --fetch")),
            FailingTask("broken", OSError(8, "Exec format error")),
            FailingTask("corrupt", FileError("valley.csv: SHA-256 1, expected 2")),
            FailingTask("slow", KeyboardInterrupt()),
        )
    }
    get = tasks.get
    monkeypatch.setattr(tasks, "get", lambda name: known[name] if name in known else get(name))
    monkeypatch.setattr("rmsprop.race.report.draw_png", lambda *_: b"")
    monkeypatch.setattr("rmsprop.race.report.draw_svg", lambda *_: "<svg></svg>")
    return known


@pytest.fixture(name="here")
def make_empty_place(tmp_path, monkeypatch):
    """An empty cache, an empty working folder and no tools at all."""
    monkeypatch.setenv("RMSPROP_DATA", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


@pytest.fixture(name="use")
def use_source(monkeypatch):
    """Make a source the one that is called "words"."""
    return lambda source: monkeypatch.setitem(SOURCES, "words", source)


@pytest.fixture(name="npm")
def fake_npm(here):
    """Put an `npm` on the PATH that writes an archive into its folder, as `npm pack` does."""

    def install(archive, *, script=None):
        (here / "archive.tgz").write_bytes(archive)
        copy = f"{shutil.which('cp', path=os.defpath)} {here / 'archive.tgz'} ./words-1.2.3.tgz"
        program = here / "bin" / "npm"
        program.write_text(f'#!/bin/sh\necho "$@" > {here / "called"}\n{script or copy}\n')
        program.chmod(0o755)

    return install


@pytest.fixture(name="site")
def serve_site(here):
    """Serve a folder on this machine, like the authors' own site; yields its folder and address."""
    root = here / "site"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(root))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield root, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
