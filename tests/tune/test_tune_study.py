"""Which study goes on: the same question, of the same objective; and whose trial is dead."""

import functools
import subprocess
import sys

import pytest

import rmsprop
from rmsprop.errors import InputError, InputTypeError, RMSpropWarning, StateError
from rmsprop.rule import Rule
from rmsprop.tune import Space, _storage
from rmsprop.tune._objective import identity

optuna = pytest.importorskip("optuna")

FACTOR = 2.0


def shallow(setting):
    return setting.lr * FACTOR


def steep(setting):
    return setting.lr**2


@pytest.fixture
def kept():
    return optuna.storages.InMemoryStorage()


# ---- the question ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"direction": "maximize"}, "has another direction, this one is to maximize"),
        ({"space": Space(lr=(1e-4, 1.0))}, r"has space\.lr="),
        ({"space": Space(base=Rule(eps_mode="outside"))}, r"has space\.base\.eps_mode='inside', this one asks for"),
        ({"protocol": {"epochs": 3}}, "has epochs=None, this one asks for 3"),
    ],
)
def test_a_study_that_asks_another_question_is_not_gone_on_with(options, reason, kept):
    rmsprop.tune(shallow, trials=2, storage=kept)
    with pytest.raises(StateError, match=reason):
        rmsprop.tune(shallow, trials=4, storage=kept, **options)
    assert rmsprop.tune(shallow, trials=3, storage=kept).done == 3


def test_another_programs_study_is_not_gone_on_with(kept):
    study = optuna.create_study(storage=kept, study_name="rmsprop")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(StateError, match="was not made by rmsprop"):
        rmsprop.tune(shallow, trials=2, storage=kept)


def test_the_study_of_another_objective_is_refused_by_name_and_not_handed_out(kept):
    rmsprop.tune(shallow, trials=2, storage=kept)
    with pytest.raises(StateError, match=r"is of another objective \(shallow \w+, this one is steep \w+\): tune under"):
        rmsprop.tune(steep, trials=2, storage=kept)
    assert rmsprop.tune(steep, trials=2, storage=kept, study="steep").done == 2


def test_a_study_goes_on_after_an_edit_that_its_user_calls_the_same(kept):
    first = rmsprop.tune(shallow, trials=1, storage=kept, protocol={"objective": "version 1"})
    second = rmsprop.tune(steep, trials=2, storage=kept, protocol={"objective": "version 1"})
    assert (first.done, second.resumed, second.done) == (1, 1, 2)


def test_the_refusal_says_what_lets_the_study_go_on(kept):
    rmsprop.tune(shallow, trials=1, storage=kept)
    with pytest.raises(StateError) as refusal:
        rmsprop.tune(steep, trials=2, storage=kept)
    protocol = eval(str(refusal.value).rpartition("protocol=")[2])
    assert rmsprop.tune(steep, trials=2, storage=kept, protocol=protocol).resumed == 1


def test_a_study_that_has_its_trials_is_returned_with_a_warning(kept):
    rmsprop.tune(shallow, trials=2, storage=kept)
    with pytest.warns(
        RMSpropWarning, match="had 2 trials already, so the objective was not called: trials=4 adds more"
    ):
        assert rmsprop.tune(shallow, trials=2, storage=kept).resumed == 2


@pytest.mark.parametrize(
    ("protocol", "kind", "reason"),
    [
        (3, InputTypeError, "protocol: int, expected a dict"),
        ({"data": object()}, InputError, "expected JSON values: .*object is not JSON serializable"),
        ({"loss": float("nan")}, InputError, "expected JSON values"),
        ({"space": 3}, InputError, "protocol has 'space', which every study has of its own"),
    ],
)
def test_a_protocol_that_cannot_be_kept_is_refused(protocol, kind, reason):
    with pytest.raises(kind, match=reason):
        rmsprop.tune(shallow, trials=1, storage=None, protocol=protocol)


# ---- one objective or another ----------------------------------------------------------------------------------------


def scaled(setting, by):
    return by * setting.lr


def closing_over(by):
    def objective(setting):
        return by * setting.lr

    return objective


def wrapping(function):
    @functools.wraps(function)
    def objective(setting):
        return function(setting)

    return objective


class Trainer:
    def __init__(self, epochs):
        self.epochs = epochs

    def __call__(self, setting):
        return setting.lr * self.epochs

    def train(self, setting):
        return setting.lr + self.epochs


DIFFERENT = {
    "code": (lambda s: s.lr, lambda s: -s.lr),
    "a constant": (lambda s: s.lr + 1, lambda s: s.lr + 2),
    "an attribute": (lambda s: s.lr, lambda s: s.rule),
    "a function inside": (lambda s: min([s], key=lambda x: x.lr + 1), lambda s: min([s], key=lambda x: x.lr + 2)),
    "a default": (lambda s, by=1: by * s.lr, lambda s, by=2: by * s.lr),
    "what is closed over": (closing_over(1), closing_over(2)),
    "what is wrapped": (wrapping(lambda s: s.lr), wrapping(lambda s: -s.lr)),
    "a part given": (functools.partial(scaled, by=1), functools.partial(scaled, by=2)),
    "an object": (Trainer(1), Trainer(2)),
    "an object of a method": (Trainer(1).train, Trainer(2).train),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_objectives_are_told_apart_by(what):
    one, other = DIFFERENT[what]
    assert identity(one) != identity(other)
    assert identity(one) == identity(one)


def test_a_variable_of_the_module_may_differ_between_the_processes_of_one_study(monkeypatch):
    before = identity(shallow)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert identity(shallow) == before


def test_lists_that_fill_and_a_function_that_closes_over_itself_are_no_other_objective():
    seen = []

    def objective(setting, again=True):
        seen.append(setting)
        return objective(setting, again=False) if again else 1.0

    def early(setting):
        return late

    assert identity(early).startswith("test_lists")
    late = 1.0
    before = identity(objective)
    objective(None)
    assert identity(objective) == before
    assert identity(len).startswith("len ")


def test_an_objective_is_the_same_in_another_process_and_elsewhere_in_the_file():
    text = "{gap}def f(s):{comment}\n    return s.lr in {{'a', 'b', 'c', 'd', 'e'}}\n"
    ask = "from rmsprop.tune._objective import identity; print(identity(f))"
    programs = [text.format(gap=gap, comment=comment) + ask for gap, comment in (("", ""), ("\n\n", "  # said"))]
    # Strings hash differently in each, so that their set has another order.
    environments = [{"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"}]
    said = [
        subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout
        for program, env in zip(programs, environments, strict=True)
    ]
    assert said[0] == said[1]
    assert said[0].startswith("f ")


# ---- the dead --------------------------------------------------------------------------------------------------------


def begun_by_a_process_that_ended(storage):
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    _storage.claim(trial)
    machine, _, born = trial.storage.get_trial(trial._trial_id).user_attrs[_storage.OWNER]
    # The greatest number of a process on Linux is 2^22.
    trial.set_user_attr(_storage.OWNER, [machine, 2**22 + 1, born])
    return study


def test_a_dead_process_of_this_machine_is_seen(kept):
    study = begun_by_a_process_that_ended(kept)
    assert _storage.bury_the_dead(study) == 1
    assert study.trials[0].state == optuna.trial.TrialState.FAIL


@pytest.mark.parametrize("other", ["container", "start", "host"])
def test_no_process_is_taken_for_dead_from_another(other, kept, monkeypatch):
    # A process of another container, or of another machine with this one's name, has a number that is not found here.
    study = begun_by_a_process_that_ended(kept)
    if other == "container":
        monkeypatch.setattr(_storage.os, "readlink", lambda path: "pid:[1]")
    elif other == "start":
        monkeypatch.setattr(_storage, "BOOT", _storage.Path("/proc/sys/kernel/random/uuid"))
    else:
        monkeypatch.setattr(_storage.platform, "node", lambda: "elsewhere")
    assert _storage.bury_the_dead(study) == 0
    assert study.trials[0].state == optuna.trial.TrialState.RUNNING


@pytest.mark.parametrize("by", ["return", "report", "divergence", "reported divergence", "error"])
def test_a_living_trial_that_was_taken_for_dead_is_done_again_and_its_process_goes_on(by, kept):
    taken = []

    def objective(setting):
        if setting.number == 1:
            study = optuna.load_study(study_name="rmsprop", storage=kept)
            study.tell(setting.number, state=optuna.trial.TrialState.FAIL)
            taken.append(setting.number)
            if by == "report":
                setting.report(1, 1.0)
            if by == "reported divergence":
                setting.report(1, float("nan"))
            if by == "error":
                raise ValueError("mine")
            return float("nan") if by == "divergence" else 1.0
        return 1.0

    if by == "error":
        with pytest.raises(ValueError, match="mine"):
            rmsprop.tune(objective, trials=4, storage=kept)
    found = rmsprop.tune(objective, trials=4, storage=kept)
    assert taken == [1]
    assert [trial.state for trial in found.trials] == ["complete", "lost", "complete", "complete", "complete"]
