"""The width of the lr plateau: its arithmetic on curves whose width is known, and the measurement around it."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from rmsprop.cli import app
from rmsprop.errors import FileError, InputError, StateError
from rmsprop.race import task as tasks
from rmsprop.race.task import Metric
from rmsprop.tune._plateau import plateau
from rmsprop.tune._sensitivity import Sensitivity, Settings, curve, measure, rows
from small_tasks import Valley, ValleyTask


class Curve(Valley):
    """A learner whose score is a function of how far one step of gradient descent moved it: of the learning rate."""

    def __init__(self, data, seed):
        super().__init__(data, seed)
        self.params = {"w": np.zeros(1)}

    def gradients(self, batch):
        return 1.0, {"w": np.ones(1)}

    def batches(self, epoch):
        return iter([epoch])

    def score(self, split):
        moved = abs(float(self.params["w"][0]))
        return self._target(moved, self.seed), 1.0


class CurveTask(ValleyTask):
    """One epoch of one step: the score is `f(lr, seed)` of the reported seed."""

    name = "curve"
    metric = Metric(name="accuracy", better="higher", percent=True, target=0.9)

    def __init__(self, f):
        super().__init__()
        self._f = f

    def load(self):
        data = super().load()
        return type(data)(content=self._f, sizes=data.sizes, versions={}, fingerprint="curve")

    def learner(self, data, seed):
        return Curve(data, seed)


def hill(middle, half):
    """A score that is 1 within `half` decades of `middle` and 0 elsewhere, of an lr on a logarithmic scale."""
    return lambda lr, seed: float(lr > 0 and abs(math.log10(lr / middle)) <= half)


def measured(task, **options):
    return measure(task, Settings.of(task, **{"optimizers": ("sgd",), "seeds": 2, "epochs": 1, **options}))


# ---- the arithmetic --------------------------------------------------------------------------------------------------

RATES = [10.0**k for k in np.linspace(-3, 1, 401)]


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("best", [1.0, 20.0, -3.0])
def test_the_width_of_a_parabola_over_log_lr_is_its_closed_form(better, best):
    # best -+ c (log10 lr + 1)^2 loses 1 % of |best| at a distance of sqrt(0.01 |best| / c).
    sign, c = (-1 if better == "higher" else 1), 0.5
    scores = [best + sign * c * (math.log10(rate) + 1) ** 2 for rate in RATES]
    found = plateau(RATES, scores, better=better)
    assert found.decades == pytest.approx(2 * math.sqrt(0.01 * abs(best) / c), rel=1e-3)
    assert (found.best, found.lr) == (best, pytest.approx(0.1))
    assert (found.open_below, found.open_above) == (False, False)


def test_between_grid_points_the_crossing_is_that_of_a_straight_line():
    # From 1 to 0.9 in a decade: 0.99 is passed after a tenth of it.
    found = plateau([0.1, 1.0, 10.0], [0.9, 1.0, 0.9], better="higher")
    assert found.decades == pytest.approx(0.2)
    assert found.parts[0] == pytest.approx((10**-0.1, 10**0.1))


def test_a_plateau_in_two_parts_is_as_wide_as_both():
    found = plateau([0.01, 0.1, 1.0, 10.0, 100.0], [1.0, 1.0, 0.0, 1.0, 1.0], better="higher")
    assert len(found.parts) == 2
    assert found.decades == pytest.approx(2 * 1.01)
    assert found.open_below
    assert found.open_above


def test_a_plateau_ends_at_the_last_point_that_did_not_diverge():
    assert plateau([0.1, 1.0, 10.0], [math.nan, 1.0, math.inf], better="higher").decades == 0
    nothing = plateau([0.1, 1.0], [math.nan, math.nan], better="higher")
    assert nothing.decades == 0
    assert math.isnan(nothing.best)


# ---- the measurement -------------------------------------------------------------------------------------------------


def test_the_measured_width_is_that_of_the_tasks_own_curve():
    # The grid has four points per decade and the score falls from 1 to 0 between two of them: 0.25 decades of it on
    # each side, 0.01 of which still count.
    found = measured(CurveTask(hill(0.1, 0.6)))
    row = rows(CurveTask(hill(0.1, 0.6)), found)[0]
    assert found.complete
    assert row.plateau.decades == pytest.approx(4 * 0.25 + 2 * 0.25 * 0.01, abs=1e-3)
    assert row.widths == pytest.approx([row.plateau.decades] * 2)
    assert row.spread == pytest.approx(0.0)


def test_the_grid_has_four_rates_per_decade_over_five_decades_around_the_tasks_own():
    task = CurveTask(hill(0.1, 0.1))
    rates, _ = curve(task, measured(task), "sgd")
    # The task's grid goes from 0.01 to 1.
    assert (rates[0], rates[-1], len(rates)) == (0.0003162, 31.62, 21)
    assert np.diff(np.log10(rates)) == pytest.approx(0.25, abs=1e-3)


def test_a_plateau_at_the_edge_is_followed_beyond_it():
    # It ends 0.6 decades beyond the first grid: 31.62 is the last rate of that one.
    task = CurveTask(lambda lr, seed: float(0.01 < lr < 31.62 * 10**0.6))
    row = rows(task, measured(task))[0]
    assert not row.open
    assert row.plateau.parts[0][1] == pytest.approx(31.62 * 10 ** (0.5 + 0.0025), rel=1e-2)


def test_a_plateau_without_an_end_is_a_lower_bound_and_says_so():
    task = CurveTask(lambda lr, seed: float(lr > 0.01))
    row = rows(task, measured(task))[0]
    assert row.open
    assert row.text.startswith("≥ ")
    # Two more decades were tried, and no third.
    assert row.trials == 2 * (21 + 2 * 4)


def test_the_spread_is_that_of_the_seeds_own_widths():
    wide, narrow = hill(0.1, 1.1), hill(0.1, 0.1)
    task = CurveTask(lambda lr, seed: (wide if seed % 2 else narrow)(lr, seed))
    row = rows(task, measured(task))[0]
    a, b = row.widths
    assert sorted(row.widths) == pytest.approx([0.005, 2.005], abs=1e-3)
    assert row.spread == pytest.approx(abs(a - b) / math.sqrt(2))


def test_a_diverged_trial_is_counted_and_its_rate_is_off_the_plateau():
    class Poisoned(ValleyTask):
        metric = Metric(name="distance", better="lower", percent=False, target=0.1)

    # Gradient descent on 0.5 w^2 overflows where lr > 2, slowly; poisoned it diverges everywhere at once.
    found = measured(Poisoned(poison={1000: 2}))
    row = rows(Poisoned(), found)[0]
    assert row.diverged == row.trials // 2
    assert row.plateau.parts == ()


def test_ctrl_c_keeps_what_is_done_and_resuming_measures_only_the_rest():
    task = CurveTask(hill(0.1, 0.6))
    settings = Settings.of(task, optimizers=("sgd", "adam"), seeds=2, epochs=1)

    def interrupt(found, point, planned):
        if len(found.points) == 17:
            raise KeyboardInterrupt

    first = measure(task, settings, listener=interrupt)
    assert (first.complete, len(first.points)) == (False, 17)
    again = Sensitivity.from_json(first.to_json({}), where="memory")
    assert again.points == first.points
    ran = []
    second = measure(task, settings, earlier=again, listener=lambda found, point, planned: ran.append(point))
    assert second.complete
    assert second.points == measure(task, settings).points
    assert len(ran) - 1 == len(second.points) - 17


def test_resuming_with_fewer_optimizers_or_seeds_loses_none_of_those_before():
    task = CurveTask(hill(0.1, 0.6))
    first = measured(task, optimizers=("sgd", "adam"))
    second = measure(task, Settings.of(task, optimizers=("adagrad",), seeds=1, epochs=1), earlier=first)
    assert second.settings.optimizers == ("sgd", "adam", "adagrad")
    assert {row.optimizer for row in rows(task, second)} == {"sgd", "adam", "adagrad"}
    assert all(len(row.widths) == 2 for row in rows(task, second))
    assert first.points.items() <= second.points.items()


def test_other_rules_or_other_data_are_not_gone_on_with():
    task = CurveTask(hill(0.1, 0.6))
    first = measured(task)
    with pytest.raises(StateError, match="has epochs=1, this one asks for 2"):
        measure(task, Settings.of(task, optimizers=("sgd",), seeds=2, epochs=2), earlier=first)
    first.fingerprint = "other"
    with pytest.raises(StateError, match="other data than curve has now"):
        measure(task, first.settings, earlier=first)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '{"format": 7}',
        '{"format": 1, "settings": {"task": 1}}',
        measured(CurveTask(hill(0.1, 0.6)), seeds=1).to_json({}).replace('[\n   "sgd"\n  ]', '"sgd"'),
    ],
)
def test_a_file_that_is_no_measurement_is_refused(text):
    with pytest.raises(FileError, match="x is not a measured sensitivity"):
        Sensitivity.from_json(text, where="x")


def test_no_seed_no_epoch_and_a_baseline_of_another_framework_are_refused():
    task = CurveTask(hill(0.1, 0.6))
    for options, reason in (
        ({"seeds": 0}, "seeds=0"),
        ({"epochs": 0}, "epochs=0"),
        ({"optimizers": ("torch-rmsprop",)}, "torch-rmsprop"),
    ):
        with pytest.raises(InputError, match=reason):
            measured(task, **options)


# ---- the command -----------------------------------------------------------------------------------------------------


def call(*line):
    return CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"}).invoke(app, ["sensitivity", *map(str, line)])


@pytest.fixture
def valley(monkeypatch):
    task = ValleyTask()
    monkeypatch.setattr(tasks, "get", lambda name: task)
    return task


def test_the_command_writes_a_table_a_picture_and_the_numbers(valley, tmp_path):
    pytest.importorskip("matplotlib")
    result = call("valley", "--quick", "--with", "sgd,rmsprop,adagrad,adadelta", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "sensitivity.json").read_text())
    assert (tmp_path / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    found = Sensitivity.from_json((tmp_path / "sensitivity.json").read_text(), where="file")
    for entry, row in zip(document["table"], rows(valley, found), strict=True):
        assert (entry["optimizer"], entry["decades"]) == (row.optimizer, row.plateau.decades)
        assert row.text in result.output
    widths = [entry["decades"] for entry in document["table"]]
    assert widths == sorted(widths, reverse=True)


def test_the_command_goes_on(valley, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    learner = ValleyTask.learner
    calls = []

    def interrupted(self, data, seed):
        calls.append(seed)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return learner(self, data, seed)

    monkeypatch.setattr(ValleyTask, "learner", interrupted)
    line = ["valley", "--quick", "--with", "sgd", "--out", tmp_path]
    first = call(*line)
    assert first.exit_code == 130
    assert "Broken off: 8 finished trials are kept" in first.output
    second = call(*line, "--resume")
    assert second.exit_code == 0, second.output
    assert "Going on: 8 trials were done before." in second.output


def document(folder, name="sensitivity.json"):
    return json.loads((folder / name).read_text())


def test_a_measurement_begun_again_by_mistake_takes_nothing_away(valley, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    line = ["valley", "--quick", "--with", "sgd", "--out", tmp_path]
    assert call(*line).exit_code == 0
    first = document(tmp_path)

    def interrupted(self, data, seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(ValleyTask, "learner", interrupted)
    for number in (1, 2):
        again = call(*line)
        assert again.exit_code == 130
        assert f"kept as {tmp_path}/sensitivity.previous-{number}.json" in again.output.replace("\n", "")
    assert document(tmp_path, "sensitivity.previous-1.json") == first
    assert document(tmp_path, "sensitivity.previous-2.json")["points"] == []


def test_resuming_goes_on_with_the_optimizers_and_seeds_of_before_and_those_named_anew(valley, tmp_path):
    pytest.importorskip("matplotlib")
    line = ["valley", "--quick", "--out", tmp_path]
    assert call(*line, "--with", "sgd,rmsprop", "--seeds", 1, "--epochs", 2).exit_code == 0
    before = document(tmp_path)
    same = call(*line, "--resume")
    assert same.exit_code == 0, same.output
    assert document(tmp_path) == before
    more = call(*line, "--resume", "--with", "adam")
    assert more.exit_code == 0, more.output
    assert "3 optimizers" in more.output
    assert document(tmp_path)["settings"]["optimizers"] == ["sgd", "rmsprop", "adam"]
    assert {entry["optimizer"] for entry in document(tmp_path)["table"]} == {"sgd", "rmsprop", "adam"}


def test_a_quick_measurement_has_a_folder_of_its_own(valley, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert call("valley", "--with", "sgd", "--seeds", 1, "--epochs", 1).exit_code == 0
    full = document(tmp_path / "runs" / "valley-sensitivity")
    assert call("valley", "--quick", "--with", "sgd").exit_code == 0
    assert document(tmp_path / "runs" / "valley-sensitivity") == full
    assert document(tmp_path / "runs" / "valley-quick-sensitivity")["settings"]["per_decade"] == 2


def test_an_unknown_task_or_baseline_is_refused_with_the_nearest_name(tmp_path):
    assert "did you mean 'digits'?" in call("digts").stderr
    result = call("digits", "--with", "adma", "--out", tmp_path)
    assert result.exit_code == 2
    assert "did you mean 'adam'?" in result.stderr
