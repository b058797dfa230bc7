"""Optuna's storages, opened by URL.

    sqlite:///runs/tune.db          a file; several processes of one machine may share it
    postgresql://user@host/name     a database server, for many machines
    grpc://host:port                Optuna's proxy in front of a database

In a database, Optuna records a heartbeat for every running trial. If it stops for two minutes, the next trial of any
process marks that trial as failed and puts its setting back into the queue, once. Messages never show a URL's password.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rmsprop._files import get_path_beside, remove_stale
from rmsprop.errors import InputError, MissingDependency

__all__ = ["DEFAULT", "import_optuna", "open_storage", "require_shared_storage", "silence_optuna"]

DEFAULT = "sqlite:///runs/tune.db"
EXAMPLES = f"a URL such as {DEFAULT}, postgresql://user@host/name or grpc://host:port"
HEARTBEAT_SECONDS, GRACE_SECONDS = 30, 120
LOCK_SECONDS = 60
PROXY_SECONDS = 10.0


def import_optuna() -> Any:
    """Import Optuna; if it is missing, the error names the extra to install."""
    try:
        import optuna
    except ImportError as error:
        raise MissingDependency.of("optuna", extra="tune", purpose="tuning") from error
    return optuna


@contextlib.contextmanager
def silence_optuna() -> Iterator[None]:
    """Suppress Optuna's line per trial and its warnings about experimental features; restore both at the end."""
    optuna = import_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


@contextlib.contextmanager
def open_storage(storage: Any) -> Iterator[Any]:
    """Open a URL, and close its connections at the end; a study that is used later opens new ones.

    An Optuna storage is used as it is; None is a storage in memory.

    Raises:
        MissingDependency: Optuna, or a package that this kind of storage needs, is not installed.
        InputError: Not a URL that Optuna knows, or nothing that can be opened.
    """
    optuna = import_optuna()
    if isinstance(storage, optuna.storages.BaseStorage):
        yield storage
    elif storage is None or _is_in_memory(url := _parse_url(storage)):
        yield optuna.storages.InMemoryStorage()
    elif url.drivername == "grpc":
        yield _open_proxy(storage, url)
    else:
        database = _open_database(storage, url)
        try:
            yield database
        finally:
            database.remove_session()
            database.engine.dispose()


def require_shared_storage(storage: Any, *, workers: int) -> None:
    """Raise InputError unless several processes can open this storage."""
    advice = f"workers={workers} need a storage that every process can open, expected {EXAMPLES}"
    if not isinstance(storage, str):
        raise InputError(f"storage={'None' if storage is None else type(storage).__name__}: {advice}")
    if _is_in_memory(_parse_url(storage)):
        raise InputError(f"storage={storage!r} is the memory of one process: {advice}")


def _parse_url(storage: Any) -> Any:
    import sqlalchemy

    with contextlib.suppress(TypeError, ValueError, sqlalchemy.exc.ArgumentError):
        if "://" in storage:
            return sqlalchemy.engine.make_url(storage)
    raise InputError(f"storage={_hide_password(storage)!r}, expected {EXAMPLES}")


def _hide_password(storage: Any) -> Any:
    """Return the URL with `***` in place of the password.

    Example:
        >>> _hide_password("postgresql://me:secret@host/db")
        'postgresql://me:***@host/db'
    """
    return re.sub(r"(://[^:/]*):.*@", r"\1:***@", storage) if isinstance(storage, str) else storage


def _is_in_memory(url: Any) -> bool:
    is_memory = url.database in (None, "", ":memory:", "file::memory:") or url.query.get("mode") == "memory"
    return bool(url.get_backend_name() == "sqlite" and is_memory)


def _open_database(storage: str, url: Any) -> Any:
    """Open a database; what SQLAlchemy, a driver or the file system raises becomes one line that names the URL."""
    import sqlalchemy

    where = f"storage={_hide_password(storage)!r}"
    try:
        if url.get_backend_name() == "sqlite" and not url.database.startswith("file:"):
            _create_sqlite_file(url)
        database = _create_tables(storage, url)
        indexes = sqlalchemy.inspect(database.engine).get_indexes("studies")
    except ImportError as error:
        # Optuna's text names no package, its cause does.
        reason = _first_line(error.__cause__ or error)
        advice = 'the one for PostgreSQL comes with pip install "rmsprop[postgresql]"'
        raise MissingDependency(f"{where} needs a driver that is not installed: {reason}; {advice}") from error
    except Exception as error:
        # SQLAlchemy, Alembic, the drivers and Optuna have no base class in common.
        raise InputError(f"{where} cannot be opened: {_first_line(error)}; expected {EXAMPLES}") from error
    if not any(index["unique"] and index["column_names"] == ["study_name"] for index in indexes):
        raise InputError(
            f"{where} is incomplete, because the program was killed while it created the database: "
            "rename or delete it, and run the same command again"
        )
    return database


def _create_tables(storage: str, url: Any) -> Any:
    """Return Optuna's storage; its tables are created if they are missing."""
    import sqlalchemy

    storages, options = import_optuna().storages, {}
    if url.drivername in ("postgresql", "postgres"):
        # The driver that SQLAlchemy would choose depends on its version.
        storage = f"postgresql+psycopg://{storage.partition('://')[2]}"
    if url.get_backend_name() == "sqlite":
        options = {"connect_args": {"timeout": LOCK_SECONDS}}
    for delay in (0.1, 0.2, 0.4, 0.8, None):
        try:
            return storages.RDBStorage(
                storage,
                engine_kwargs=options,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=storages.RetryHeartbeatStaleTrialCallback(max_retry=1),
            )
        except sqlalchemy.exc.StatementError as error:
            # Another process may be creating the same tables at this moment.
            if delay is None or not re.search("already exists|duplicate|UNIQUE", str(error)):
                raise
            time.sleep(delay)
    return None


def _create_sqlite_file(url: Any) -> None:
    """Create the tables in another file and link it here, because SQLite does not create them in one transaction."""
    file = Path(url.database)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        remove_stale(file.parent)
        part = get_path_beside(file, "part")
        part.mkdir()
        try:
            new = part / "new.db"
            import_optuna().storages.RDBStorage(str(url.set(database=str(new)))).engine.dispose()
            # Fails if another process was faster, or where a file system has no hard links.
            with contextlib.suppress(OSError):
                os.link(new, file)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _open_proxy(storage: str, url: Any) -> Any:
    storages = import_optuna().storages
    if not url.host or not url.port:
        raise InputError(f"storage={storage!r}, expected grpc://host:port, such as grpc://localhost:13000")
    try:
        proxy = storages.GrpcStorageProxy(host=url.host, port=url.port)
    except ImportError as error:
        raise MissingDependency.of("grpcio", extra="tune", purpose=f"the storage {storage}") from error
    try:
        proxy.wait_server_ready(timeout=PROXY_SECONDS)
    except ConnectionError as error:
        proxy.close()
        raise InputError(
            f"storage={storage!r} does not answer; start the proxy first: "
            "optuna.storages.run_grpc_proxy_server(storage, host=..., port=...)"
        ) from error
    return proxy


def _first_line(error: BaseException) -> str:
    origin = getattr(error, "orig", None) or error
    return (str(origin).strip().splitlines() or [type(error).__name__])[0]
