"""Storages for the tests of tune: in memory, SQLite, Optuna's proxy, and a PostgreSQL server of their own."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rmsprop.race import task as tasks
from small_tasks import ValleyTask

SECONDS = 60
NUMBERS = itertools.count()
PROXY = (
    "import sys; from optuna.storages import get_storage, run_grpc_proxy_server; "
    "run_grpc_proxy_server(get_storage(sys.argv[1]), host='127.0.0.1', port=int(sys.argv[2]))"
)


@pytest.fixture
def memory():
    optuna = pytest.importorskip("optuna")
    return optuna.storages.InMemoryStorage()


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/tune.db"


@pytest.fixture
def valley(monkeypatch, tmp_path):
    """A task of microseconds, which the commands find under every name; the working folder is a new one."""
    monkeypatch.chdir(tmp_path)
    task = ValleyTask(poison={})
    monkeypatch.setattr(tasks, "get", lambda name: task)
    return task


def find_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture
def proxy_url(url):
    """Optuna's proxy in front of the SQLite database, in a process of its own."""
    pytest.importorskip("grpc")
    port = find_port()
    server = subprocess.Popen([sys.executable, "-W", "ignore", "-c", PROXY, url, str(port)], stderr=subprocess.DEVNULL)
    yield f"grpc://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.fixture(scope="session")
def postgres_url():
    """A PostgreSQL server on loopback with the password p@ss, in a temporary folder; skips where it is missing."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'psycopg[binary]'")
    # Debian does not put these programs into the PATH.
    path = os.pathsep.join([os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))])
    initdb, pg_ctl = (shutil.which(name, path=path) for name in ("initdb", "pg_ctl"))
    if not (initdb and pg_ctl):
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    user = None
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = next((name for name in ("postgres", "nobody") if name in names), None)
        if user is None:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")
    with tempfile.TemporaryDirectory(prefix="rmsprop-postgres-") as name:
        folder, port = Path(name), find_port()
        password, data = folder / "password", folder / "data"
        password.write_text("p@ss")
        if user is not None:
            for file in (folder, password):
                shutil.chown(file, user)

        def run(*line):
            subprocess.run(line, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=SECONDS)

        run(initdb, "-D", data, "-U", "me", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "--no-locale",
            "--encoding=UTF8")  # fmt: skip
        options = f"-p {port} -k '' -h 127.0.0.1 -F"
        run(pg_ctl, "start", "--wait", "-D", data, "-l", folder / "log", "-o", options)
        yield f"postgresql://me:p%40ss@127.0.0.1:{port}/postgres"
        run(pg_ctl, "stop", "--mode=immediate", "-D", data)


@pytest.fixture
def query_postgres(postgres_url):
    """A function that runs a query on the PostgreSQL server and returns its rows."""
    import psycopg

    def query(text):
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []

    return query


@pytest.fixture
def database_url(postgres_url, query_postgres):
    """A new database of the PostgreSQL server."""
    name = f"test{next(NUMBERS)}"
    query_postgres(f"CREATE DATABASE {name}")
    return postgres_url.replace("/postgres", f"/{name}")
