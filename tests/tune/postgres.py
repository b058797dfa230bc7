"""A PostgreSQL server of the tests' own: on loopback, with a password, in a temporary folder, gone at the end."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "p%40ss"  # p@ss, as a URL writes it
SECONDS = 60


def programs() -> Path:
    """Return the folder of initdb and postgres, or skip by name. Debian keeps them out of the PATH."""
    places = [Path(found).parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    pytest.skip("PostgreSQL is not installed: apt-get install postgresql")


def owner() -> str | None:
    """Who runs it: the server refuses root, which may start it as another."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Start it, and give the URL of its database, without a driver's name."""
    place, user = programs(), owner()
    with contextlib.ExitStack() as stack:
        # Not pytest's folder: only its own user may enter that.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rmsprop-postgres-")))
        password, log = folder / "password", folder / "log"
        password.write_text("p@ss")
        if user is not None:
            for path in (folder, password):
                shutil.chown(path, user)
        data = folder / "data"
        subprocess.run(
            [place / "initdb", "-D", data, "-U", "me", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync",
             "--no-locale", "--encoding=UTF8"],
            user=user, cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with log.open("w") as stream:
            process = subprocess.Popen(
                [place / "postgres", "-D", data, "-p", str(port), "-k", "", "-h", "127.0.0.1", "-F"],
                user=user, cwd=folder, stdout=stream, stderr=stream,
            )  # fmt: skip
        try:
            end = time.monotonic() + SECONDS
            while "ready to accept connections" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
            yield f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            # SIGINT is its fast way out: it does not wait for clients.
            process.send_signal(2)
            process.wait(SECONDS)
