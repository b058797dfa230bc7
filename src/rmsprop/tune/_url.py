"""Optuna, and its storages opened by URL.

    sqlite:///runs/tune.db          a file; several processes of one machine may share it
    postgresql://user@host/name     a database server, for many machines
    grpc://host:port                Optuna's proxy in front of a database, for hundreds of workers

A message that names a URL leaves its password out: messages end in logs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rmsprop.errors import InputError, MissingDependency

__all__ = ["DEFAULT", "open_storage", "opened_storage", "optuna_or_refuse", "quietly", "refuse_private"]

DEFAULT = "sqlite:///runs/tune.db"
EXAMPLES = f"a URL such as {DEFAULT}, postgresql://user@host/name or grpc://host:port"
SECONDS_FOR_A_LOCK = 60
SECONDS_FOR_A_SERVER = 10.0
ATTEMPTS = 5
"""How often tables are looked for again while another process makes them."""


def optuna_or_refuse() -> Any:
    """Import Optuna, or say which extra brings it."""
    try:
        import optuna
    except ImportError as error:
        raise MissingDependency.of("optuna", extra="tune", purpose="tuning") from error
    return optuna


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Hold back Optuna's line per trial, and its remarks on features it calls experimental; restore both."""
    optuna = optuna_or_refuse()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def open_storage(url: Any) -> Any:
    """Open a storage; an Optuna storage object, or None for one in memory, is returned as it is.

    Raises:
        MissingDependency: Optuna, or a package that this kind of storage needs, is not installed.
        InputError: Not a URL that Optuna knows, or one that cannot be reached.
    """
    optuna = optuna_or_refuse()
    if url is None:
        return optuna.storages.InMemoryStorage()
    if isinstance(url, optuna.storages.BaseStorage):
        return url
    if not isinstance(url, str) or "://" not in url:
        raise InputError(f"storage={url!r}, expected {EXAMPLES}")
    if url.startswith("grpc://"):
        return _proxy(url)
    options: dict[str, Any] = {}
    if url.startswith("sqlite:///"):
        # Several processes write to one file: each waits for the others instead of giving up after five seconds.
        options["engine_kwargs"] = {"connect_args": {"timeout": SECONDS_FOR_A_LOCK}}
        file = url.removeprefix("sqlite:///").partition("?")[0]
        if file and file != ":memory:":
            with _explained(url):
                Path(file).parent.mkdir(parents=True, exist_ok=True)
    named = _with_driver(url)
    with _explained(url):
        return _opened(named, options)


def _opened(url: str, options: dict[str, Any]) -> Any:
    """Open a database, and again if another process was making its tables at that moment."""
    import sqlalchemy

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return optuna_or_refuse().storages.RDBStorage(url, **options)
        except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.StatementError) as error:
            if attempt == ATTEMPTS or not any(word in str(error) for word in ("already exists", "duplicate", "UNIQUE")):
                raise
            time.sleep(0.1 * attempt)
    raise AssertionError("the last attempt returns or raises")


@contextlib.contextmanager
def opened_storage(url: Any) -> Iterator[Any]:
    """Open a storage, and close its connections at the end: a study that outlives them opens others when it is used.

    A storage object that was handed in is left as it is.

    Raises:
        MissingDependency: As `open_storage`.
        InputError: As `open_storage`.
    """
    storage = open_storage(url)
    try:
        yield storage
    finally:
        if storage is not url and hasattr(storage, "engine") and not _in_memory(url):
            storage.remove_session()
            storage.engine.dispose()


def _with_driver(url: str) -> str:
    """Name a PostgreSQL driver where the URL names none: which one SQLAlchemy would take depends on its version."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres"):
        return url
    for driver in ("psycopg", "psycopg2"):
        if importlib.util.find_spec(driver) is not None:
            return f"postgresql+{driver}://{rest}"
    raise MissingDependency.of("psycopg", extra="postgresql", purpose=f"the storage {without_password(url)}")


def _proxy(url: str) -> Any:
    optuna = optuna_or_refuse()
    host, _, port = url.removeprefix("grpc://").rstrip("/").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"storage={url!r}, expected grpc://host:port, such as grpc://localhost:13000")
    try:
        import grpc  # noqa: F401
    except ImportError as error:
        raise MissingDependency.of("grpcio", extra="tune", purpose=f"the storage {url}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    try:
        proxy.wait_server_ready(timeout=SECONDS_FOR_A_SERVER)
    except ConnectionError as error:
        proxy.close()
        raise InputError(
            f"storage={url!r}: nothing answers there; start the proxy first: "
            "optuna.storages.run_grpc_proxy_server(storage, host=..., port=...)"
        ) from error
    return proxy


def refuse_private(storage: Any, *, workers: int) -> None:
    """Refuse, for several worker processes, a storage that only the process that made it can see.

    Raises:
        InputError: No URL, or SQLite in memory.
    """
    advice = f"workers={workers} share a storage that each of them opens, expected {EXAMPLES}"
    if not isinstance(storage, str):
        raise InputError(f"storage={'None' if storage is None else type(storage).__name__}: {advice}")
    if _in_memory(storage):
        raise InputError(f"storage={storage!r} is the memory of one process; {advice}")


def _in_memory(url: str) -> bool:
    """Whether it is SQLite without a file.

    Example:
        >>> _in_memory("sqlite:///:memory:"), _in_memory("sqlite:///runs/tune.db")
        (True, False)
    """
    scheme, _, place = url.partition("://")
    file = place.removeprefix("/").partition("?")[0]
    return scheme.startswith("sqlite") and (file in ("", ":memory:", "file::memory:") or "mode=memory" in place)


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what SQLAlchemy, a driver or the file system says into one line that names the URL."""
    where = f"storage={without_password(url)!r}"
    try:
        yield
    except ImportError as error:
        # Optuna's own text names no package; what it was raised from does.
        raise MissingDependency(
            f"{where} needs a driver that is not installed: {_line(error.__cause__ or error)}"
        ) from error
    except OSError as error:
        raise InputError(f"{where}: {error.strerror or error}") from error
    except (KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        # SQLAlchemy, Alembic, the drivers and Optuna each have their own tree of exceptions.
        raise InputError(f"{where} cannot be opened: {_line(error)}; expected {EXAMPLES}") from error


def _line(error: BaseException) -> str:
    """Return the first line of an exception's own text."""
    origin = getattr(error, "orig", None) or error
    return (str(origin).strip().splitlines() or [type(error).__name__])[0]


def without_password(url: str) -> str:
    """Return the URL with `***` for the password.

    Example:
        >>> without_password("postgresql://me:secret@host/db")
        'postgresql://me:***@host/db'
    """
    scheme, _, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}{at}{place}"
