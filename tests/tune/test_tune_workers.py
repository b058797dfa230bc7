"""Several real processes on one study: they share the trials, and one that is killed costs its trial and no more."""

import contextlib
import importlib
import os
import socket
import subprocess
import sys
import time

import pytest
from perishing import Deadly, Hopeless, Hungry

from rmsprop.errors import InputError
from rmsprop.tune import tune
from rmsprop.tune._task import tune_task
from small_tasks import ValleyTask

optuna = pytest.importorskip("optuna")

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

TRIALS = 8

ONE = """
import sys, time, pathlib, rmsprop
url, marker, stop_at = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
def objective(setting):
    if setting.number == stop_at:
        marker.touch()
        time.sleep(600)
    return abs(setting.lr - 0.01) + setting.rule.momentum
found = rmsprop.tune(objective, trials=TRIALS, storage=url, seed=5)
ended = [trial.setting for trial in found.trials if trial.state != "lost"]
print(found.resumed, found.done, *(f"{setting.lr:g}/{setting.rule.rho:g}" for setting in ended))
""".replace("TRIALS", str(TRIALS))


def start(url, marker, *, stop_at=-1):
    return subprocess.Popen(
        [sys.executable, "-c", ONE, url, str(marker), str(stop_at)], stdout=subprocess.PIPE, text=True
    )


def wait_for(marker, process):
    end = time.monotonic() + 100
    while not marker.exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)


@contextlib.contextmanager
def proxy(url):
    """Optuna's gRPC proxy on loopback, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = (
        "import sys; from optuna.storages import get_storage, run_grpc_proxy_server; "
        "run_grpc_proxy_server(get_storage(sys.argv[1]), host='127.0.0.1', port=int(sys.argv[2]))"
    )
    server = subprocess.Popen([sys.executable, "-W", "ignore", "-c", text, url, str(port)], stderr=subprocess.DEVNULL)
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("through", ["sqlite", "grpc"])
def test_worker_processes_share_the_trials_of_one_study(through, tmp_path):
    pytest.importorskip("grpc")
    url = f"sqlite:///{tmp_path}/tune.db"
    with proxy(url) if through == "grpc" else contextlib.nullcontext(url) as storage:
        found = tune_task(ValleyTask(), trials=TRIALS, study="valley", storage=storage, workers=2)
    assert found.done == TRIALS
    assert sorted(trial.number for trial in found.trials) == list(range(TRIALS))
    pids = {
        trial.user_attrs["rmsprop:process"][1] for trial in optuna.load_study(study_name="valley", storage=url).trials
    }
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_a_killed_tuner_resumes_and_the_trial_it_left_does_not_count(tmp_path):
    url, marker = f"sqlite:///{tmp_path}/tune.db", tmp_path / "marker"
    first = start(url, marker, stop_at=4)
    wait_for(marker, first)
    first.kill()
    first.communicate()
    study = optuna.load_study(study_name="rmsprop", storage=url)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4 + ["RUNNING"]
    second, whole = start(url, marker), start(f"sqlite:///{tmp_path}/whole.db", marker)
    resumed, uninterrupted = (process.communicate(timeout=100)[0].split() for process in (second, whole))
    assert resumed[:2] == ["4", str(TRIALS)]
    # The fifth setting is tried again, and all that follow are those of a run without a break.
    assert resumed[2:] == uninterrupted[2:]


def test_a_trial_of_a_living_process_is_left_to_it(tmp_path):
    url, marker = f"sqlite:///{tmp_path}/tune.db", tmp_path / "marker"
    first = start(url, marker, stop_at=2)
    try:
        wait_for(marker, first)
        second = start(url, marker)
        # It does all that is left over, but not the one that the first has begun.
        assert second.communicate(timeout=100)[0].split()[:2] == ["2", str(TRIALS - 1)]
    finally:
        first.kill()
        first.communicate()


def test_a_worker_that_is_killed_is_said_and_the_others_finish(tmp_path):
    lines = []
    url = f"sqlite:///{tmp_path}/tune.db"
    task = Deadly(str(tmp_path / "marker"))
    found = tune_task(task, trials=TRIALS, study="deadly", storage=url, workers=2, say=lines.append)
    assert found.done == TRIALS
    assert lines == ["A worker died (exit code -9); its trial does not count, the others go on."]


def test_what_a_worker_is_refused_is_raised_here(tmp_path):
    url = f"sqlite:///{tmp_path}/tune.db"
    task = ValleyTask(poison={1000: 1})
    with pytest.raises(
        InputError, match=r"not finite in any of 3 trials \(the last: the loss is not finite at step 1, first"
    ):
        tune_task(task, trials=3, study="valley", storage=url, workers=2)
    with pytest.raises(InputError, match="workers=0, expected a whole number, at least 1"):
        tune_task(task, trials=3, study="valley", storage=url, workers=0)


def test_an_exception_in_one_worker_is_said_and_the_others_finish(tmp_path):
    lines = []
    url = f"sqlite:///{tmp_path}/tune.db"
    task = Hungry(str(tmp_path / "marker"))
    found = tune_task(task, trials=TRIALS, study="hungry", storage=url, workers=2, say=lines.append)
    assert found.done == TRIALS
    assert [trial.state for trial in found.trials].count("lost") == 1
    assert lines == ["A trial raised MemoryError: no room for 7 TiB; it does not count, and its worker ended."]


def test_an_exception_in_every_worker_is_raised_here_also_one_that_cannot_travel(tmp_path):
    with pytest.raises(RuntimeError, match="Fussy: one and two"):
        tune_task(Hopeless(), trials=TRIALS, study="hopeless", storage=f"sqlite:///{tmp_path}/tune.db", workers=2)


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        ("sqlite:///:memory:", "storage='sqlite:///:memory:' is the memory of one process; workers=2 share a storage"),
        ("sqlite://", "is the memory of one process"),
        ("sqlite:///file::memory:?cache=shared&uri=true", "is the memory of one process"),
        (None, "storage=None: workers=2 share a storage that each of them opens, expected a URL"),
        (optuna.storages.InMemoryStorage(), "storage=InMemoryStorage: workers=2 share"),
    ],
)
def test_a_storage_that_workers_cannot_share_is_refused_before_they_start(storage, reason):
    with pytest.raises(InputError, match=reason):
        tune_task(ValleyTask(), trials=TRIALS, study="valley", storage=storage, workers=2)


def test_a_proxy_that_does_not_answer_is_said(monkeypatch):
    pytest.importorskip("grpc")
    # By the name of the module: `rmsprop.tune` itself is a function.
    monkeypatch.setattr(importlib.import_module("rmsprop.tune._url"), "SECONDS_FOR_A_SERVER", 0.2)
    with pytest.raises(InputError, match=r"grpc://127.0.0.1:1': nothing answers there"):
        tune(lambda setting: 1.0, trials=1, storage="grpc://127.0.0.1:1")
