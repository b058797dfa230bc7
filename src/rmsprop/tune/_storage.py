"""Where a study is kept: Optuna's storages, opened by URL, and what must agree before a study goes on.

    sqlite:///runs/tune.db          a file; several processes of one machine may share it
    postgresql://user@host/name     any database that SQLAlchemy knows, for many machines
    grpc://host:port                Optuna's proxy in front of a database, for hundreds of workers

A trial that was running when its process died stays "running" in the database for ever. Each trial here carries the
process that runs it, so that the next one on that machine can tell and put it aside: it does not count.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rmsprop.errors import InputError, MissingDependency, StateError
from rmsprop.tune._space import Space

__all__ = ["DEFAULT", "Tally", "bury_the_dead", "claim", "open_storage", "open_study", "optuna_or_refuse", "quietly"]

DEFAULT = "sqlite:///runs/tune.db"
OWNER, PROTOCOL, LOST, DIVERGED = "rmsprop:process", "rmsprop:protocol", "rmsprop:lost", "rmsprop:diverged"
SECONDS_FOR_A_LOCK = 60
SECONDS_FOR_A_SERVER = 10.0


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
        raise InputError(
            f"storage={url!r}, expected a URL such as {DEFAULT}, postgresql://user@host/name or grpc://host:port"
        )
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
    with _explained(url):
        return optuna.storages.RDBStorage(url, **options)


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


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what SQLAlchemy, a driver or the file system says into one line that names the URL."""
    try:
        yield
    except (ImportError, OSError) as error:
        if isinstance(error, ImportError):
            raise MissingDependency(
                f"storage={_without_password(url)!r} needs a package that is not installed: {_line(error)}"
            ) from error
        raise InputError(f"storage={_without_password(url)!r}: {error.strerror or error}") from error
    except (KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        # SQLAlchemy, Alembic, the drivers and Optuna each have their own tree of exceptions.
        raise InputError(
            f"storage={_without_password(url)!r} cannot be opened: {_line(error)}; "
            f"expected a URL such as {DEFAULT}, postgresql://user@host/name or grpc://host:port"
        ) from error


def _line(error: BaseException) -> str:
    """Return the first line of an exception's own text."""
    origin = getattr(error, "orig", None) or error
    return (str(origin).strip().splitlines() or [type(error).__name__])[0]


def _without_password(url: str) -> str:
    """Return the URL with `***` for the password: a message ends in logs.

    Example:
        >>> _without_password("postgresql://me:secret@host/db")
        'postgresql://me:***@host/db'
    """
    scheme, _, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}{at}{place}"


def open_study(storage: Any, name: str, *, direction: str, space: Space, protocol: dict[str, Any]) -> tuple[Any, bool]:
    """Create the study, or return the one of that name if it asks the same question, and whether it was there.

    Raises:
        StateError: It has another direction, space or protocol, or was made by another program.
    """
    optuna = optuna_or_refuse()
    # Through JSON, so that what comes back from a storage can be compared with what goes in.
    asked = json.loads(json.dumps({"direction": direction, "space": space.to_dict(), **protocol}))
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction=direction)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(storage=storage, study_name=name)
    else:
        study.set_user_attr(PROTOCOL, asked)
        return study, False
    found = study.user_attrs.get(PROTOCOL)
    advice = "go on with the same, or tune under another study name"
    if len(study.directions) != 1 or study.direction.name.lower() != direction:
        raise StateError(f"study {name!r} has another direction, this one is to {direction}: {advice}")
    if found is None and (study.trials or study.user_attrs):
        raise StateError(f"study {name!r} was not made by rmsprop: {advice}")
    if found is None:
        # Created a moment ago, by this program in another process or just before it was killed.
        study.set_user_attr(PROTOCOL, asked)
    elif found != asked:
        mine, theirs = _flat(asked), _flat(found)
        key = next(key for key in {**theirs, **mine} if mine.get(key) != theirs.get(key))
        raise StateError(f"study {name!r} has {key}={theirs.get(key)!r}, this one asks for {mine.get(key)!r}: {advice}")
    return study, True


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


# ---- who runs a trial ------------------------------------------------------------------------------------------------


def _machine() -> str:
    """A digest, not a name: the database may be shown to others."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:12]


def _born(pid: int) -> str:
    """When a process began, in ticks since the machine did; a number of processes is used again, a pair is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def claim(trial: Any) -> None:
    """Write into a trial that this process runs it."""
    pid = os.getpid()
    trial.set_user_attr(OWNER, [_machine(), pid, _born(pid)])


def _runs_here(owner: Any) -> bool | None:
    """Whether the owner lives; None if it is on another machine, where nobody here can tell."""
    if not (isinstance(owner, list) and len(owner) == 3):
        return None
    machine, pid, born = owner
    if machine != _machine():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return _born(pid) == born and not _zombie(pid)


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def bury_the_dead(study: Any) -> int:
    """Mark the running trials of this machine's dead processes as failed, and say how many."""
    optuna = optuna_or_refuse()
    buried = 0
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if _runs_here(trial.user_attrs.get(OWNER)) is False:
            # Another process may have been quicker: the storage lets only one of them end a trial.
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, RuntimeError, ValueError):
                study._storage.set_trial_user_attr(trial._trial_id, LOST, "its process ended before it did")
                study._storage.set_trial_state_values(trial._trial_id, state=optuna.trial.TrialState.FAIL)
                buried += 1
    return buried


class Tally:
    """How a study stands.

    Attributes:
        complete: Trials with a value.
        pruned: Trials that were given up, those that diverged among them.
        diverged: Trials whose value was not finite.
        lost: Trials that ended with their process, or with an exception; they count as not done.
        running: Trials that a living process of this machine has begun.
        begun: All trials ever begun, the lost ones excepted.
    """

    def __init__(self, study: Any) -> None:
        states = optuna_or_refuse().trial.TrialState
        trials = study.get_trials(deepcopy=False)
        self.complete = sum(trial.state == states.COMPLETE for trial in trials)
        self.pruned = sum(trial.state == states.PRUNED for trial in trials)
        self.diverged = sum(DIVERGED in trial.user_attrs for trial in trials)
        self.lost = sum(trial.state == states.FAIL for trial in trials)
        running = [trial for trial in trials if trial.state == states.RUNNING]
        self.running = sum(_runs_here(trial.user_attrs.get(OWNER)) is True for trial in running)
        self.begun = len(trials) - self.lost

    @property
    def done(self) -> int:
        """Trials that count."""
        return self.complete + self.pruned
