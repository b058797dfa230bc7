"""`rmsprop.tune`: the search, what counts as a trial, what is continued, and errors."""

import math
import os
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

import rmsprop
from rmsprop.errors import InputError, InputTypeError, MissingDependency, RMSpropError, RMSpropWarning, StateError
from rmsprop.rule import Rule
from rmsprop.tune import Setting, Space

optuna = pytest.importorskip("optuna")


def bowl(setting):
    return rmsprop.minimize(lambda x: x @ x, np.ones(3), lr=setting.lr, dialect=setting.rule, steps=20).fun


def steep(setting):
    return setting.lr**2


def list_settings(result):
    return [(trial.setting.lr, trial.setting.rule) for trial in result.trials if trial.state != "failed"]


# ---- the search ------------------------------------------------------------------------------------------------------


def test_the_search_finds_a_known_optimum():
    # The value is least at lr 0.01 and rho 0.99.
    def distance(setting):
        return abs(math.log10(setting.lr) + 2) + abs(math.log10(1 - setting.rule.rho) + 2)

    result = rmsprop.tune(distance, trials=60, storage=None)
    assert result.done == 60
    assert result.best.value == min(trial.value for trial in result.trials)
    assert 0.003 < result.best.setting.lr < 0.03
    assert 0.97 < result.best.setting.rule.rho < 0.997


def test_the_same_seed_tries_the_same_settings_whatever_the_direction():
    runs = [
        rmsprop.tune(bowl, trials=8, seed=seed, direction=direction, storage=None)
        for seed, direction in ((3, "minimize"), (3, "maximize"), (4, "minimize"))
    ]
    settings = [list_settings(run) for run in runs]
    assert settings[0] == settings[1]
    assert settings[0] != settings[2]
    assert runs[1].best.value == max(trial.value for trial in runs[1].trials)


def test_the_program_of_the_best_setting_reaches_its_value():
    result = rmsprop.tune(bowl, trials=6, storage=None)
    names = {}
    exec(result.code(), names)
    assert bowl(Setting(lr=names["optimizer"].lr, rule=names["optimizer"].rule)) == result.best.value


def test_a_search_does_not_log_the_harmful_settings_it_tries(caplog):
    torch = pytest.importorskip("torch")
    from rmsprop.torch import RMSprop

    def objective(setting):
        RMSprop([torch.nn.Parameter(torch.ones(3))], lr=setting.lr, alpha=0.9999)
        return 1.0

    before = optuna.logging.get_verbosity()
    rmsprop.tune(objective, trials=2, storage=None, space=Space(lr=(0.1, 1.0)))
    assert optuna.logging.get_verbosity() == before
    assert not caplog.records
    objective(Setting(lr=0.5, rule=Rule()))
    assert "first step" in caplog.text


# ---- pruned, diverged, failed ----------------------------------------------------------------------------------------


def test_a_trial_that_is_worse_than_the_median_is_pruned():
    steps = []

    def slow(setting):
        for step in range(1, 6):
            setting.report(step, float(setting.number))
            steps.append(setting.number)
        return float(setting.number)

    result = rmsprop.tune(slow, trials=10, storage=None)
    assert [trial.state for trial in result.trials] == ["complete"] * 5 + ["pruned"] * 5
    assert steps == [number for number in range(5) for _ in range(5)]
    unpruned = rmsprop.tune(slow, trials=10, storage=None, pruner="none")
    assert {trial.state for trial in unpruned.trials} == {"complete"}


@pytest.mark.parametrize("by", ["return", "report"])
def test_a_value_that_is_not_finite_counts_as_a_diverged_trial_and_is_never_the_best(by):
    def objective(setting):
        value = math.nan if setting.number % 2 else 1.0
        if by == "report":
            setting.report(1, value)
        return value

    result = rmsprop.tune(objective, trials=6, storage=None)
    assert result.done == 6
    assert ["nan" in trial.diverged for trial in result.trials] == [False, True] * 3
    assert result.best.value == 1.0


def test_the_sampler_avoids_the_region_where_the_objective_diverged():
    def objective(setting):
        return math.inf if setting.lr > 0.01 else 1.0

    space = Space(lr=(1e-4, 1.0), rho=(0.9, 0.9), eps=(1e-8, 1e-8), momentum=(0.0, 0.0), centered=(False,))
    late = []
    for seed in range(4):
        result = rmsprop.tune(objective, trials=50, storage=None, space=space, seed=seed)
        late += [bool(trial.diverged) for trial in result.trials[25:]]
    # Half of the range diverges: a sampler that learns nothing has 50 of these 100 there, less than 35 once in 1000.
    assert sum(late) < 35


def test_an_objective_that_is_never_finite_raises():
    with pytest.raises(InputError, match=r"not finite in any of 3 trials .*the objective returned nan"):
        rmsprop.tune(lambda setting: math.nan, trials=3, storage=None)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_after_an_exception_or_ctrl_c_the_same_call_continues_as_if_nothing_had_happened(error, url):
    failing = [7, 8, 9] if error is KeyboardInterrupt else [7]

    def bowl(setting):
        if setting.number in failing:
            raise error
        return rmsprop.minimize(lambda x: x @ x, np.ones(3), lr=setting.lr, dialect=setting.rule, steps=20).fun

    for _ in failing:
        if error is KeyboardInterrupt:
            first = rmsprop.tune(bowl, trials=13, storage=url)
            assert (first.interrupted, first.done) == (True, 7)
        else:
            with pytest.raises(ZeroDivisionError):
                rmsprop.tune(bowl, trials=13, storage=url)
    failures, failing = len(failing), []
    second = rmsprop.tune(bowl, trials=13, storage=url)
    assert (second.resumed, second.done, second.interrupted) == (7, 13, False)
    assert [trial.state for trial in second.trials].count("failed") == failures
    assert list_settings(second) == list_settings(rmsprop.tune(bowl, trials=13, storage=None))


def test_a_setting_that_failed_twice_is_not_tried_again(memory):
    tried = []

    def objective(setting):
        tried.append((setting.lr, setting.rule))
        if setting.number in (2, 3):
            raise MemoryError
        return 1.0

    for _ in range(2):
        with pytest.raises(MemoryError):
            rmsprop.tune(objective, trials=6, storage=memory)
    result = rmsprop.tune(objective, trials=6, storage=memory)
    assert result.done == 6
    assert tried[2] == tried[3]
    assert len(set(tried)) == len(tried) - 1


# ---- a process that dies ---------------------------------------------------------------------------------------------

KILLED = """
import sys, time, rmsprop
def objective(setting):
    if setting.number == 4:
        print("started", flush=True)
        time.sleep(600)
    return abs(setting.lr - 0.01) + setting.rule.momentum
rmsprop.tune(objective, trials=8, storage=sys.argv[1])
"""


def objective(setting):
    return abs(setting.lr - 0.01) + setting.rule.momentum


@pytest.fixture
def url_of_killed_search(url):
    """The storage of a search that was killed in its fifth trial."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        # A thread records the heartbeat, perhaps a moment later.
        while not database.execute(
            "SELECT * FROM trial_heartbeats JOIN trials USING (trial_id) WHERE state = 'RUNNING'"
        ).fetchall():
            time.sleep(0.01)
    process.kill()
    process.communicate()
    return url


@pytest.mark.slow
def test_a_killed_search_is_continued_to_the_asked_number_of_trials(url_of_killed_search):
    result = rmsprop.tune(objective, trials=8, storage=url_of_killed_search)
    assert (result.resumed, result.done) == (4, 8)


@pytest.mark.slow
def test_the_trial_of_a_killed_process_is_tried_again_when_its_heartbeat_has_stopped(url_of_killed_search):
    with sqlite3.connect(url_of_killed_search.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'")
    result = rmsprop.tune(objective, trials=8, storage=url_of_killed_search)
    assert [trial.state for trial in result.trials] == ["complete"] * 4 + ["failed"] + ["complete"] * 4
    failed, again = (trial.setting for trial in result.trials[4:6])
    assert (failed.lr, failed.rule) == (again.lr, again.rule)
    assert list_settings(result) == list_settings(rmsprop.tune(objective, trials=8, storage=None))


@pytest.mark.parametrize("by", ["return", "report", "divergence", "reported divergence", "error"])
def test_a_process_whose_trial_was_marked_as_failed_by_another_continues(by, memory):
    def objective(setting):
        if setting.number != 1:
            return 1.0
        optuna.load_study(study_name="rmsprop", storage=memory).tell(1, state=optuna.trial.TrialState.FAIL)
        if by == "error":
            raise ValueError("mine")
        if by.startswith("report"):
            setting.report(1, 1.0 if by == "report" else math.nan)
        return math.nan if by == "divergence" else 1.0

    if by == "error":
        with pytest.raises(ValueError, match="mine"):
            rmsprop.tune(objective, trials=4, storage=memory)
    result = rmsprop.tune(objective, trials=4, storage=memory)
    assert [trial.state for trial in result.trials] == ["complete", "failed", "complete", "complete", "complete"]


# ---- which study is continued ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "options", "reason"),
    [
        (bowl, {"direction": "maximize"}, "study 'rmsprop' has another direction, this search is to maximize"),
        (bowl, {"space": Space(lr=(1e-4, 1.0))}, r"has space\.lr="),
        (bowl, {"space": Space(base=Rule(eps_mode="outside"))}, r"has space\.base\.eps_mode='inside'"),
        (bowl, {"protocol": {"epochs": 3}}, r"has epochs=None, this search has epochs=3"),
        (steep, {}, "has objective='bowl', this search has objective='steep'"),
    ],
)
def test_a_study_that_differs_is_not_continued(objective, options, reason, memory):
    rmsprop.tune(bowl, trials=2, storage=memory)
    with pytest.raises(StateError, match=reason):
        rmsprop.tune(objective, trials=4, storage=memory, **options)
    assert rmsprop.tune(bowl, trials=3, storage=memory).resumed == 2


def test_an_objective_name_in_the_protocol_replaces_the_name_of_the_function(memory):
    for trials, objective in ((1, bowl), (2, steep)):
        result = rmsprop.tune(objective, trials=trials, storage=memory, protocol={"objective": "version 1"})
    assert (result.resumed, result.done) == (1, 2)


def test_a_study_of_another_program_is_not_continued(memory):
    study = optuna.create_study(storage=memory, study_name="rmsprop")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(StateError, match="was not created by rmsprop"):
        rmsprop.tune(bowl, trials=2, storage=memory)


def test_a_study_that_has_its_trials_is_returned_with_a_warning(memory):
    rmsprop.tune(bowl, trials=2, storage=memory)
    with pytest.warns(RMSpropWarning, match="has 2 trials already.*trials=4 to add more"):
        assert rmsprop.tune(bowl, trials=2, storage=memory).resumed == 2


# ---- storages --------------------------------------------------------------------------------------------------------


def test_a_journal_of_optuna_is_a_storage(tmp_path):
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal"))
    result = rmsprop.tune(bowl, trials=2, storage=optuna.storages.JournalStorage(backend))
    assert result.done == 2


def test_an_incomplete_database_is_named_with_what_to_do(url):
    rmsprop.tune(bowl, trials=1, storage=url)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        database.execute("DROP INDEX ix_studies_study_name")
    with pytest.raises(InputError, match=r"tune\.db' is incomplete.*rename or delete it"):
        rmsprop.tune(bowl, trials=1, storage=url)


def test_a_first_start_that_is_interrupted_leaves_no_incomplete_database(url, tmp_path, monkeypatch):
    def fail(*paths):
        raise errors.pop()

    errors = [PermissionError("hard links are not supported"), KeyboardInterrupt]
    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(KeyboardInterrupt):
        rmsprop.tune(bowl, trials=1, storage=url)
    assert list(tmp_path.iterdir()) == []
    # The tables are created in place where the file system has no hard links.
    assert rmsprop.tune(bowl, trials=1, storage=url).done == 1


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"objective": 3}, InputTypeError, "objective: int"),
        ({"objective": lambda setting: "good"}, InputTypeError, "objective's value: str"),
        ({"objective": lambda setting: setting.report("x", 1.0)}, InputError, "step='x', expected an integer"),
        ({"objective": lambda setting: setting.report(-1, 1.0)}, InputError, "step=-1, expected an integer"),
        ({"objective": lambda setting: setting.report(1.5, 1.0)}, InputError, "step=1.5, expected an integer"),
        ({"objective": lambda setting: setting.report(1, "good")}, InputTypeError, r"report\(1, ...\): str"),
        ({"space": {"lr": (0.1, 1.0)}}, InputTypeError, r"space: dict, expected rmsprop.tune.Space\("),
        ({"trials": 0}, InputError, "trials=0, expected an integer, at least 1"),
        ({"trials": 2.5}, InputError, "trials=2.5"),
        ({"seed": -1}, InputError, "seed=-1, expected an integer, at least 0"),
        ({"direction": "up"}, InputError, "direction='up'"),
        ({"study": ""}, InputError, "study=''"),
        ({"pruner": "medain"}, InputError, "pruner='medain'"),
        ({"protocol": 3}, InputTypeError, "protocol: int"),
        ({"protocol": {"data": object()}}, InputError, "expected JSON values: .*object is not JSON serializable"),
        ({"protocol": {"loss": math.nan}}, InputError, "expected JSON values"),
        ({"protocol": {"space": 3}}, InputError, "protocol has the key 'space'"),
        ({"storage": "runs/tune.db"}, InputError, "storage='runs/tune.db', expected a URL such as sqlite:///"),
        ({"storage": 3}, InputError, "storage=3, expected a URL"),
        ({"storage": "nosuch://host/x"}, InputError, "storage='nosuch://host/x' cannot be opened"),
        ({"storage": "sqlite:////proc/none/x.db"}, InputError, "storage='sqlite:////proc/none/x.db' cannot be opened"),
        ({"storage": "grpc://localhost"}, InputError, "expected grpc://host:port"),
    ],
)
def test_a_bad_argument_raises_and_is_named(options, error, reason):
    with pytest.raises(error, match=reason):
        rmsprop.tune(**{"objective": bowl, "trials": 1, "storage": None, **options})


@pytest.mark.parametrize("storage", ["nosuch://me:secret@host/x", "postgresql://me:secret@host:port/x"])
def test_an_error_does_not_show_the_password(storage):
    with pytest.raises(RMSpropError) as error:
        rmsprop.tune(bowl, trials=1, storage=storage)
    assert "secret" not in str(error.value)
    assert "me:***@host" in str(error.value)


def test_a_file_that_is_not_a_database_is_named(tmp_path, url):
    (tmp_path / "tune.db").write_text("not a database, but long enough to be examined " * 40)
    with pytest.raises(InputError, match=r"tune\.db' cannot be opened"):
        rmsprop.tune(bowl, trials=1, storage=url)


def test_a_proxy_that_does_not_answer_is_named(monkeypatch):
    pytest.importorskip("grpc")

    def fail(self, timeout):
        raise ConnectionError

    monkeypatch.setattr(optuna.storages.GrpcStorageProxy, "wait_server_ready", fail)
    with pytest.raises(InputError, match=r"grpc://127.0.0.1:1' does not answer; start the proxy first"):
        rmsprop.tune(bowl, trials=1, storage="grpc://127.0.0.1:1")


def test_a_missing_driver_is_named(monkeypatch):
    for scheme, driver in (("postgresql", "psycopg"), ("postgresql+psycopg2", "psycopg2")):
        monkeypatch.setitem(sys.modules, driver, None)
        with pytest.raises(
            MissingDependency, match=rf"me:\*\*\*@host.* needs a driver .*{driver}.*rmsprop\[postgresql\]"
        ):
            rmsprop.tune(bowl, trials=1, storage=f"{scheme}://me:secret@host/tuning")
