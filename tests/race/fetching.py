"""What the tests of the races' data share: a made-up source, archives of it, an empty cache, an npm and a site."""

import hashlib
import http.server
import io
import os
import shutil
import tarfile
import threading

import pytest

from rmsprop.race.sources import SOURCES, File, Source

CONTENT = b"first line\nsecond line\n"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def source(kind="npm", *, inside="package/data/words.txt", name="words.txt", content=CONTENT, url=None, **others):
    file = File(name=name, inside=inside, sha256=sha256(content), url=url, **others)
    return Source(
        name="words",
        title="some words",
        kind=kind,
        packages=("a-package-of-words",),
        version="1.2.3",
        megabytes=0.5,
        licence="none",
        files=(file,),
    )


def tgz(members):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = tarfile.SYMTYPE, content[0]
                archive.addfile(member)
    return raw.getvalue()


@pytest.fixture(name="here")
def empty_place(tmp_path, monkeypatch):
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
    return lambda made: monkeypatch.setitem(SOURCES, "words", made)


@pytest.fixture(name="npm")
def fake_npm(here):
    """Put an `npm` on the PATH that leaves an archive in its folder, as `npm pack` does."""

    def install(archive, *, fails=""):
        (here / "archive.tgz").write_bytes(archive)
        script = here / "bin" / "npm"
        leave = f"{shutil.which('cp', path=os.defpath)} {here / 'archive.tgz'} ./words-1.2.3.tgz"
        script.write_text(f'#!/bin/sh\necho "$@" > {here / "called"}\n{fails or leave}\n')
        script.chmod(0o755)

    return install


@pytest.fixture(name="site")
def local_site(here):
    """Serve a folder on this machine, as the makers' own site; yields its folder and address."""
    root = here / "site"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(root))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield root, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def left_behind(here):
    return sorted(path for path in (here / "cache").rglob("*") if path.is_file())
