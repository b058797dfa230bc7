"""Worker processes on one study: they share its trials, and one that dies costs its trial and no more."""

import fcntl
import gc
import os
import signal
import subprocess
import sys
import time

import pytest
from worker_tasks import FailingTask, MeetingTask

from rmsprop.errors import FileError, InputError, StateError
from rmsprop.tune import tune
from rmsprop.tune._task import tune_task
from small_tasks import ValleyTask

optuna = pytest.importorskip("optuna")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.distributed,
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]

TRIALS = 6


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    """The number of workers depends on the number of cores."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)


@pytest.fixture(params=["url", "proxy_url", "database_url"])
def storage(request):
    """SQLite, Optuna's proxy, PostgreSQL."""
    return request.getfixturevalue(request.param)


def test_workers_share_the_trials_of_one_study(storage, tmp_path):
    folder = tmp_path / "workers"
    folder.mkdir()
    result = tune_task(MeetingTask(folder), trials=TRIALS, study="shared", storage=storage, workers=2)
    assert [trial.number for trial in result.trials] == list(range(TRIALS))
    assert {trial.state for trial in result.trials} <= {"complete", "pruned"}
    assert len({(trial.setting.lr, trial.setting.rule) for trial in result.trials}) == TRIALS
    pids = {int(entry.name) for entry in folder.iterdir()}
    assert len(pids) == 2
    assert os.getpid() not in pids
    # The same study is continued by one process.
    more = tune_task(MeetingTask(folder), trials=TRIALS + 2, study="shared", storage=storage)
    assert (more.resumed, more.done) == (TRIALS, TRIALS + 2)


def test_programs_that_start_together_share_a_study(storage):
    program = (
        "import sys, warnings, rmsprop\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"result = rmsprop.tune(lambda setting: setting.lr, trials={TRIALS}, storage=sys.argv[1])\n"
        "print(result.done)"
    )
    line, pipe = [sys.executable, "-W", "ignore", "-c", program, storage], subprocess.PIPE
    processes = [subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("go\n", timeout=100) for process in processes]
    assert [errors for _, errors in outputs] == [""] * 3
    # Each of the others may finish a trial that it had begun when the last one was missing.
    assert all(TRIALS <= int(output) < TRIALS + 3 for output, _ in outputs)


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("killed", "A worker died (exit code -9); its trial does not count, the others go on."),
        ("memory", "A trial raised MemoryError: no room for 7 TiB; it does not count, and its worker ended."),
    ],
)
def test_a_worker_that_fails_is_reported_and_the_others_finish(how, line, url, tmp_path):
    lines = []
    task = FailingTask(how, marker=tmp_path / "marker")
    result = tune_task(task, trials=TRIALS, study="failing", storage=url, workers=2, say=lines.append)
    assert result.done == TRIALS
    assert [trial.state for trial in result.trials].count("failed") == (how == "memory")
    assert len({(t.setting.lr, t.setting.rule) for t in result.trials if t.state != "failed"}) == TRIALS
    assert lines == [line]


@pytest.mark.parametrize(
    ("how", "error", "reason"),
    [
        ("killed", StateError, "every worker died: run the same command again"),
        ("memory", MemoryError, "no room for 7 TiB"),
        ("unpicklable", RuntimeError, "UnpicklableError: one and two"),
        ("library", FileError, "valley.csv: SHA-256 1"),
    ],
)
def test_if_every_worker_fails_the_error_is_raised(how, error, reason, url):
    with pytest.raises(error, match=reason):
        tune_task(FailingTask(how), trials=TRIALS, study="failing", storage=url, workers=2)


ENDLESS = """
import os, pathlib, sys
from worker_tasks import EndlessTask
from rmsprop.tune._task import tune_task
if __name__ == "__main__":
    os.cpu_count = lambda: 4
    folder = pathlib.Path(sys.argv[2])
    tune_task(EndlessTask(folder), trials=6, study="endless", storage=sys.argv[1], workers=2)
"""


def test_workers_end_when_their_parent_is_killed(url, tmp_path):
    script, folder = tmp_path / "script.py", tmp_path / "workers"
    script.write_text(ENDLESS)
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, script, url, folder], env=environment)
    while len(files := [file for file in folder.iterdir() if not file.suffix]) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    for file in files:
        # Waits until the worker that holds this lock has ended.
        with file.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)


@pytest.mark.parametrize(("trials", "cores", "started"), [(2, 1, 1), (1, 4, 1)])
def test_no_more_workers_start_than_trials_and_cores(trials, cores, started, url, monkeypatch):
    lines = []
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    result = tune_task(ValleyTask(), trials=trials, study="valley", storage=url, workers=999_999, say=lines.append)
    assert result.done == trials
    assert lines == [f"workers=999999: only {started} started, for {trials} trials and {cores} CPU cores."]


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        ("sqlite:///:memory:", "storage='sqlite:///:memory:' is the memory of one process: workers=2 need a storage"),
        ("sqlite://", "is the memory of one process"),
        ("sqlite:///file::memory:?cache=shared&uri=true", "is the memory of one process"),
        (None, "storage=None: workers=2 need a storage that every process can open"),
        (optuna.storages.InMemoryStorage(), "storage=InMemoryStorage: workers=2 need"),
    ],
)
def test_a_storage_that_workers_cannot_share_raises(storage, reason):
    with pytest.raises(InputError, match=reason):
        tune_task(ValleyTask(), trials=TRIALS, study="valley", storage=storage, workers=2)


def test_ctrl_c_stops_the_workers_and_keeps_the_finished_trials(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler); os.cpu_count = lambda: 4\n"
        "if __name__ == '__main__':\n"
        "    from rmsprop.cli import main; main()\n"
    )
    line = [sys.executable, script, "tune", "digits", "--trials", "400", "--workers", "2", "--quick"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    while "trial 1:" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 130, output
    assert "the same command continues" in output
    study = optuna.load_study(study_name="digits-quick", storage=f"sqlite:///{tmp_path}/runs/tune.db")
    assert "COMPLETE" in {trial.state.name for trial in study.trials}


# ---- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_search_closes_its_connections_and_the_study_stays_usable(query_postgres, database_url):
    name = database_url.rpartition("/")[2]

    def count_connections():
        return query_postgres(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")[0][0]

    def objective(setting):
        assert count_connections() > 0
        return setting.lr

    result = tune(objective, trials=2, storage=database_url)
    while count_connections():  # the server closes its side a moment later
        time.sleep(0.05)
    assert len(result.study.trials) == 2
    # The study has opened a connection again, of which psycopg warns when it is deleted.
    del result
    gc.collect()


def test_a_wrong_password_is_not_shown(postgres_url):
    with pytest.raises(InputError, match=r"me:\*\*\*@127.0.0.1.*password authentication failed") as error:
        tune(lambda setting: 1.0, trials=1, storage=postgres_url.replace("p%40ss", "secret"))
    assert "secret" not in str(error.value)
