"""The width of the lr plateau: curves whose width is known, the measurement on a task, and the command."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from rmsprop.cli import app
from rmsprop.errors import FileError, InputError, StateError
from rmsprop.race.task import Metric
from rmsprop.tune import _draw
from rmsprop.tune._plateau import find_plateau
from rmsprop.tune._sensitivity import Sensitivity, Settings, measure
from small_tasks import Valley, ValleyTask


class Curve(Valley):
    """A learner of one step, whose score is a function of the distance that it moved: of the learning rate."""

    def __init__(self, data, seed):
        super().__init__(data, seed)
        self.params = {"w": np.zeros(1)}

    def gradients(self, batch):
        return 1.0, {"w": np.ones(1)}

    def batches(self, epoch):
        return iter([epoch])

    def score(self, split):
        return self._target(abs(float(self.params["w"][0])), self.seed), 1.0


class CurveTask(ValleyTask):
    """A task whose score is `function(lr, seed)`."""

    name = "curve"
    metric = Metric(name="accuracy", better="higher", percent=True, target=0.9)

    def __init__(self, function):
        super().__init__()
        self._function = function

    def load(self):
        data = super().load()
        return type(data)(content=self._function, sizes=data.sizes, versions={}, fingerprint="curve")

    def learner(self, data, seed):
        return Curve(data, seed)


def hill(middle, half):
    """A score that is 1 within `half` decades of `middle`, and 0 elsewhere."""
    return lambda lr, seed: float(lr > 0 and abs(math.log10(lr / middle)) <= half)


HILL = CurveTask(hill(0.1, 0.6))


def run(task=HILL, *, earlier=None, listener=lambda result, point, planned: None, **options):
    settings = Settings.of(task, **{"optimizers": ("sgd",), "seeds": 2, "epochs": 1, **options})
    return measure(task, settings, earlier=earlier, listener=listener)


# ---- the width of a curve --------------------------------------------------------------------------------------------

RATES = [10.0**k for k in np.linspace(-3, 1, 401)]


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("best", [1.0, 20.0, -3.0])
def test_the_width_of_a_parabola_over_log_lr_is_its_closed_form(better, best):
    # best -+ c (log10 lr + 1)^2 loses 1 % of |best| at a distance of sqrt(0.01 |best| / c).
    sign, c = (-1 if better == "higher" else 1), 0.5
    plateau = find_plateau(RATES, [best + sign * c * (math.log10(rate) + 1) ** 2 for rate in RATES], better=better)
    assert plateau.decades == pytest.approx(2 * math.sqrt(0.01 * abs(best) / c), rel=1e-3)
    assert (plateau.best, plateau.lr) == (best, pytest.approx(0.1))
    assert (plateau.open_below, plateau.open_above) == (False, False)


@pytest.mark.parametrize(
    ("rates", "scores", "parts"),
    [
        # From 1 to 0.9 in a decade: 0.99 is crossed after a tenth of it.
        ([0.1, 1.0, 10.0], [0.9, 1.0, 0.9], [(10**-0.1, 10**0.1)]),
        ([0.01, 0.1, 1.0, 10.0, 100.0], [1, 1, 0, 1, 1], [(0.01, 10**-0.99), (10**0.99, 100.0)]),
        # The plateau ends at the last point that did not diverge.
        ([0.1, 1.0, 10.0], [math.nan, 1.0, math.inf], [(1.0, 1.0)]),
        ([0.1, 1.0], [math.nan, math.nan], []),
    ],
)
def test_a_plateau_may_have_several_parts_or_none(rates, scores, parts):
    plateau = find_plateau(rates, scores, better="higher")
    assert list(plateau.parts) == [pytest.approx(part) for part in parts]
    assert plateau.decades == pytest.approx(sum(math.log10(high / low) for low, high in parts))
    assert (plateau.open_below, plateau.open_above) == (scores[0] == 1, scores[-1] == 1)
    assert math.isnan(plateau.best) == (not parts)


# ---- the measurement -------------------------------------------------------------------------------------------------


def test_the_measured_width_is_that_of_the_curve():
    # Four rates per decade, and the score falls from 1 to 0 between two of them: 0.01 of that distance counts.
    result = run()
    (row,) = result.list_rows()
    assert result.complete
    assert row.plateau.decades == pytest.approx(4 * 0.25 + 2 * 0.25 * 0.01, abs=1e-3)
    assert row.widths == pytest.approx([row.plateau.decades] * 2)
    assert row.spread == pytest.approx(0.0)


def test_the_grid_has_four_rates_per_decade_over_five_decades_around_the_tasks_grid():
    rates, _ = run().compute_curve("sgd")
    assert (rates[0], rates[-1], len(rates)) == (0.0003162, 31.62, 21)
    assert np.diff(np.log10(rates)) == pytest.approx(0.25, abs=1e-3)


def test_a_plateau_at_the_end_of_the_grid_is_followed_beyond_it():
    (row,) = run(CurveTask(lambda lr, seed: float(0.01 < lr < 31.62 * 10**0.6))).list_rows()
    assert not row.is_lower_bound
    assert row.plateau.parts[0][1] == pytest.approx(31.62 * 10 ** (0.5 + 0.0025), rel=1e-2)


def test_a_plateau_without_an_end_is_a_lower_bound():
    (row,) = run(CurveTask(lambda lr, seed: float(lr > 0.01))).list_rows()
    assert row.is_lower_bound
    assert row.text.startswith("≥ ")
    # The grid grows by two decades at most.
    assert row.trials == 2 * (21 + 2 * 4)


def test_the_spread_is_that_of_the_seeds_own_widths():
    wide, narrow = hill(0.1, 1.1), hill(0.1, 0.1)
    (row,) = run(CurveTask(lambda lr, seed: (wide if seed % 2 else narrow)(lr, seed))).list_rows()
    assert sorted(row.widths) == pytest.approx([0.005, 2.005], abs=1e-3)
    assert row.spread == pytest.approx(abs(row.widths[0] - row.widths[1]) / math.sqrt(2))


def test_a_diverged_trial_is_counted_and_its_rate_is_not_on_the_plateau():
    (row,) = run(ValleyTask(poison={1000: 2})).list_rows()
    assert row.diverged == row.trials // 2
    assert row.plateau.parts == ()


def test_ctrl_c_keeps_the_finished_trials_and_only_the_others_are_measured_later():
    def interrupt(result, point, planned):
        if len(result.points) == 17:
            raise KeyboardInterrupt

    first = run(optimizers=("sgd", "adam"), listener=interrupt)
    assert (first.complete, len(first.points)) == (False, 17)
    earlier = Sensitivity.from_json(first.to_json(), where="memory")
    assert earlier.points == first.points
    points = []
    second = run(
        optimizers=("sgd", "adam"), earlier=earlier, listener=lambda result, point, planned: points.append(point)
    )
    assert second.complete
    assert second.points == run(optimizers=("sgd", "adam")).points
    assert len(points) - 1 == len(second.points) - 17


def test_other_settings_or_other_data_are_not_continued():
    first = run()
    with pytest.raises(StateError, match="has epochs=1, this one has epochs=2"):
        run(earlier=first, epochs=2)
    first.fingerprint = "other"
    with pytest.raises(StateError, match="other data than curve has now"):
        run(earlier=first)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '{"format": 7}',
        '{"format": 1, "settings": {"task": 1}}',
        run(seeds=1).to_json().replace('[\n   "sgd"\n  ]', '"sgd"'),
    ],
)
def test_a_file_that_is_not_a_measurement_raises(text):
    with pytest.raises(FileError, match="x is not a measured sensitivity"):
        Sensitivity.from_json(text, where="x")


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"seeds": 0}, "seeds=0"), ({"epochs": 0}, "epochs=0"), ({"optimizers": ("torch-rmsprop",)}, "torch-rmsprop")],
)
def test_a_bad_setting_raises(options, reason):
    with pytest.raises(InputError, match=reason):
        run(**options)


# ---- the command -----------------------------------------------------------------------------------------------------


def call(*line):
    return CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"}).invoke(app, ["sensitivity", *map(str, line)])


def load(folder, name="sensitivity.json"):
    return json.loads((folder / name).read_text())


@pytest.fixture
def without_picture(monkeypatch):
    """Drawing takes a second and is tested once."""
    monkeypatch.setattr(_draw, "draw_sensitivity", lambda task, result: b"")


@pytest.mark.slow
def test_the_command_writes_a_table_a_picture_and_the_numbers(valley, tmp_path):
    pytest.importorskip("matplotlib")
    valley._poison = {1001: 2}
    result = call("valley", "--quick", "--with", "sgd,rmsprop,adagrad,adadelta", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    measured = Sensitivity.from_json((tmp_path / "sensitivity.json").read_text(), where="file")
    table = load(tmp_path)["table"]
    for entry, row in zip(table, measured.list_rows(), strict=True):
        assert (entry["optimizer"], entry["decades"]) == (row.optimizer, row.plateau.decades)
        assert row.text in result.output
        assert f"{row.diverged} of {row.trials}" in result.output
    widths = [entry["decades"] for entry in table]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.usefixtures("without_picture")
def test_resume_continues_after_ctrl_c(valley, tmp_path, monkeypatch):
    learner, calls = ValleyTask.learner, []

    def interrupt(self, data, seed):
        calls.append(seed)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return learner(self, data, seed)

    monkeypatch.setattr(ValleyTask, "learner", interrupt)
    line = ["valley", "--quick", "--with", "sgd", "--out", tmp_path, "--resume"]
    first = call(*line)
    assert first.exit_code == 130
    assert f"Nothing to resume in {tmp_path}" in first.output.replace("\n", "")
    assert "Interrupted: 8 finished trials are kept" in first.output
    second = call(*line)
    assert second.exit_code == 0, second.output
    assert "Continuing after 8 trials." in second.output


@pytest.mark.usefixtures("without_picture")
def test_a_measurement_that_is_started_again_keeps_the_earlier_results(valley, tmp_path):
    for seeds in (1, 2, 3):
        result = call("valley", "--quick", "--with", "sgd", "--seeds", seeds, "--out", tmp_path)
        assert result.exit_code == 0, result.output
    assert f"kept as {tmp_path}/sensitivity.previous-2.json" in result.output.replace("\n", "")
    names = ("sensitivity.previous-1.json", "sensitivity.previous-2.json", "sensitivity.json")
    assert [load(tmp_path, name)["settings"]["seeds"] for name in names] == [1, 2, 3]


@pytest.mark.usefixtures("without_picture")
def test_resume_keeps_the_earlier_optimizers_and_seeds_and_adds_the_named_ones(valley, tmp_path):
    line = ["valley", "--quick", "--out", tmp_path]
    assert call(*line, "--with", "sgd,rmsprop", "--seeds", 2, "--epochs", 2).exit_code == 0
    before = load(tmp_path)
    same = call(*line, "--resume")
    assert same.exit_code == 0, same.output
    assert load(tmp_path) == before
    more = call(*line, "--resume", "--with", "adam", "--seeds", 1)
    assert more.exit_code == 0, more.output
    after = load(tmp_path)
    assert (after["settings"]["optimizers"], after["settings"]["seeds"]) == (["sgd", "rmsprop", "adam"], 2)
    assert {entry["optimizer"] for entry in after["table"]} == {"sgd", "rmsprop", "adam"}
    assert all(point in after["points"] for point in before["points"])


@pytest.mark.usefixtures("without_picture")
def test_a_quick_measurement_has_its_own_folder(valley, tmp_path):
    assert call("valley", "--with", "sgd", "--seeds", 1, "--epochs", 1).exit_code == 0
    assert call("valley", "--quick", "--with", "sgd").exit_code == 0
    for folder, per_decade in (("valley-sensitivity", 4), ("valley-quick-sensitivity", 2)):
        assert load(tmp_path / "runs" / folder)["settings"]["per_decade"] == per_decade


@pytest.mark.parametrize(
    ("line", "reason"), [(["digts"], "did you mean 'digits'?"), (["digits", "--with", "adma"], "did you mean 'adam'?")]
)
def test_an_unknown_name_is_an_error_with_the_nearest_name(line, reason, tmp_path):
    result = call(*line, "--out", tmp_path)
    assert result.exit_code == 2
    assert reason in result.stderr
