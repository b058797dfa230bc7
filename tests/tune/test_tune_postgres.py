"""Tuning on a real PostgreSQL server: several worker processes and several programs share a study, and none is lost."""

import os
import subprocess
import sys
import time

import postgres
import pytest
from perishing import Deadly

from rmsprop.errors import InputError, MissingDependency
from rmsprop.tune import tune
from rmsprop.tune._task import tune_task
from rmsprop.tune._url import opened_storage
from small_tasks import ValleyTask

optuna = pytest.importorskip("optuna")

TRIALS = 9


@pytest.fixture(scope="module")
def server():
    if not any(map(importable, ("psycopg", "psycopg2"))):
        pytest.skip("psycopg is not installed: pip install 'psycopg[binary]'")
    with postgres.server() as url:
        yield url


def importable(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True


@pytest.fixture
def database(server, request):
    """A new database of that server."""
    import sqlalchemy

    name = f"t{abs(hash(request.node.name))}"
    with opened_storage(server) as first, first.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    return server.replace("/postgres", f"/{name}")


def owners(url, study):
    with opened_storage(url) as storage:
        trials = optuna.load_study(study_name=study, storage=storage).trials
    return [trial.user_attrs["rmsprop:process"][1] for trial in trials]


def test_worker_processes_share_the_trials_of_a_study(database):
    found = tune_task(ValleyTask(), trials=TRIALS, study="valley", storage=database, workers=3)
    assert found.done == TRIALS
    assert [trial.number for trial in found.trials] == list(range(TRIALS))
    assert all(trial.state in ("complete", "pruned") for trial in found.trials)
    assert len(set(owners(database, "valley"))) > 1
    assert os.getpid() not in owners(database, "valley")
    # The same call goes on, here with one process.
    more = tune_task(ValleyTask(), trials=TRIALS + 2, study="valley", storage=database)
    assert (more.resumed, more.done) == (TRIALS, TRIALS + 2)


def test_a_worker_that_is_killed_costs_its_trial_and_no_more(database, tmp_path):
    lines = []
    task = Deadly(str(tmp_path / "marker"))
    found = tune_task(task, trials=TRIALS, study="deadly", storage=database, workers=2, say=lines.append)
    assert found.done == TRIALS
    assert [trial.state for trial in found.trials].count("lost") <= 1
    assert lines == ["A worker died (exit code -9); its trial does not count, the others go on."]


def test_a_search_leaves_no_connection_open(server, database):
    import sqlalchemy

    def connections():
        count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.rpartition('/')[2]}'"
        with opened_storage(server) as storage, storage.engine.connect() as connection:
            return connection.execute(sqlalchemy.text(count)).scalar_one()

    during = []
    found = tune(lambda setting: during.append(connections()) or setting.lr, trials=2, storage=database)
    assert min(during) > 0
    end = time.monotonic() + 30
    while connections() and time.monotonic() < end:  # the server's side ends a moment later
        time.sleep(0.05)
    assert connections() == 0
    # The study is none the less of use.
    assert len(found.study.trials) == 2
    found.study._storage._backend.engine.dispose()


def test_programs_that_start_at_once_on_an_empty_database_share_a_study(database):
    program = (
        "import sys, optuna, rmsprop\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"found = rmsprop.tune(lambda setting: setting.lr, trials={TRIALS}, storage=sys.argv[1], study='together')\n"
        "print(found.done)"
    )
    line, pipe = [sys.executable, "-c", program, database], subprocess.PIPE
    processes = [subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=100) for process in processes]
    assert [errors for _, errors in said] == [""] * 3
    # Who finds no trial left to begin does not wait for those that the other two are at.
    assert all(TRIALS - 2 <= int(output) < TRIALS + 3 for output, _ in said)
    # Nobody holds a lock for all of them: each may begin its last trial before it hears of the others'.
    assert TRIALS <= len(owners(database, "together")) < TRIALS + 3


def test_a_wrong_password_is_refused_without_showing_it(server):
    with pytest.raises(InputError, match="password authentication failed") as refusal:
        tune(lambda setting: 1.0, trials=1, storage=server.replace(postgres.PASSWORD, "secret"))
    assert "secret" not in str(refusal.value)
    assert "me:***@127.0.0.1" in str(refusal.value)


def test_without_a_driver_the_extra_is_named(monkeypatch):
    for name in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MissingDependency, match=r'psycopg is needed for the storage .*: pip install "rmsprop\[postg'
    ) as no:
        tune(lambda setting: 1.0, trials=1, storage="postgresql://me:secret@host/tuning")
    assert "secret" not in str(no.value)


def test_a_driver_that_the_url_names_and_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(MissingDependency, match=r"needs a driver that is not installed: .*psycopg2"):
        tune(lambda setting: 1.0, trials=1, storage="postgresql+psycopg2://me@host/tuning")
