"""For the tests of the tasks' data: a made-up source, archives of it, an empty cache, a fake npm, a local web site."""

import hashlib
import http.server
import io
import os
import shutil
import tarfile
import threading
import zipfile

import pytest

from rmsprop.race.sources import SOURCES, File, Source

CONTENT = b"first line\nsecond line\n"


def make_source(kind="npm", *, inside="package/data/words.txt", files=None, program=None, **options):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return Source(
        name="words",
        title="some words",
        kind=kind,
        packages=("a-package-of-words",),
        version="1.2.3",
        megabytes=0.5,
        program=program,
        files=files or (File(name="words.txt", inside=inside, sha256=sha256, **options),),
    )


def make_tgz(members):
    """Pack bytes as files, and strings as links to them."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
    return raw.getvalue()


def make_zip(members):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return raw.getvalue()


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


def list_cache(here):
    return sorted(str(path.relative_to(here / "cache")) for path in (here / "cache").rglob("*") if path.is_file())
