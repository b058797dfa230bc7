"""Which differences are significant, in which order the rows stand, and the sentence about the winner."""

import dataclasses
import statistics

import numpy as np
import pytest
from scipy import stats

from rmsprop.race import Settings, choice, get, race
from rmsprop.race.run import choose_rate
from rmsprop.race.verdict import (
    LEVEL,
    Row,
    compute_p_values,
    describe_rmsprop,
    describe_verdict,
    explain_step_time,
    make_table,
    rank_rows,
)
from small_tasks import ValleyTask, run_race

ACCURACY = get("digits").metric
ERROR = dataclasses.replace(ACCURACY, better="lower")
# Seeds differ by more than optimizers do: a small steady difference to GOOD is significant in pairs only.
GOOD = (0.90, 0.95, 0.92, 0.97, 0.93)
WORSE = (0.891, 0.939, 0.912, 0.961, 0.920)
WORST = (0.70, 0.76, 0.71, 0.78, 0.73)
SIMILAR = (0.91, 0.94, 0.93, 0.96, 0.93)


def make_row(optimizer, *scores, diverged=0):
    numbers = {
        "lr": 0.01,
        "lr_at_edge_of_grid": False,
        "loss": 0.1,
        "train_loss": 0.1,
        "step_microseconds": 5.0,
        "trial_seconds": 0.1,
    }
    return Row(optimizer=optimizer, scores=tuple(map(float, scores)), diverged=diverged, **numbers)


def rank(scores, metric=ACCURACY, diverged=()):
    """Rank optimizers given as name -> scores; of the names in `diverged` the last seed is missing."""
    rows = [
        make_row(name, *values[:-1], diverged=1) if name in diverged else make_row(name, *values)
        for name, values in scores.items()
    ]
    return rank_rows(rows, metric)


@pytest.mark.parametrize(
    ("scores", "diverged", "verdict", "rmsprop"),
    [
        pytest.param(
            {"adam": WORSE, "rmsprop": GOOD}, (),
            "RMSprop won with 93.40 % ± 2.70 over 5 seeds. Significantly worse: Adam.", "won", id="won",
        ),
        pytest.param(
            {"adam": GOOD, "rmsprop": WORSE}, (),
            "Adam won with 93.40 % ± 2.70 over 5 seeds. RMSprop lost with 92.46 % ± 2.67: significantly worse than "
            "Adam.", "lost to 1 of 1", id="lost",
        ),
        pytest.param(
            {"rmsprop": GOOD, "adam": SIMILAR, "sgd": WORST}, (),
            "No winner: Adam (93.40 % ± 1.82) and RMSprop (93.40 % ± 2.70) are not significantly different over 5 "
            "seeds. Significantly worse: Gradient descent.", "not significantly different", id="no winner",
        ),
        pytest.param(
            {"adam": GOOD, "momentum": SIMILAR, "rmsprop": WORST}, (),
            "No winner: Adam (93.40 % ± 2.70) and Momentum (93.40 % ± 1.82) are not significantly different over 5 "
            "seeds. RMSprop lost with 73.60 % ± 3.36: significantly worse than Adam and Momentum.",
            "lost to 2 of 2", id="lost to several",
        ),
        pytest.param(
            {"adam": GOOD, "sgd": WORST}, (),
            "Adam won with 93.40 % ± 2.70 over 5 seeds. Significantly worse: Gradient descent.", "did not run",
            id="without RMSprop",
        ),
        pytest.param(
            {"adam": GOOD[:1], "rmsprop": WORST[:1]}, (),
            "No winner: differences on one seed cannot be tested. Adam 90.00 %, RMSprop 70.00 %.",
            "no winner: one seed", id="one seed",
        ),
        pytest.param(
            {"rmsprop": GOOD}, (), "No winner: RMSprop ran alone and reached 93.40 % ± 2.70 over 5 seeds.", "alone",
            id="alone",
        ),
        pytest.param({}, (), "No winner: no seed was finished by all optimizers.", "did not run", id="nothing"),
        pytest.param(
            {"adam": WORST, "rmsprop": GOOD}, ("rmsprop",),
            "Adam won with 73.60 % ± 3.36 over 5 seeds. RMSprop lost: it diverged on 1 of 5 seeds.", "lost: diverged",
            id="diverged",
        ),
        pytest.param(
            {"rmsprop": GOOD, "adam": WORST, "sgd": GOOD}, ("sgd",),
            "RMSprop won with 93.40 % ± 2.70 over 5 seeds. Significantly worse: Adam. Diverged on some seed: "
            "Gradient descent.", "won", id="another diverged",
        ),
        pytest.param(
            {"rmsprop": GOOD, "adam": GOOD}, ("rmsprop", "adam"),
            "No winner: all optimizers diverged on some seed.", "no winner", id="all diverged",
        ),
    ],
)  # fmt: skip
def test_the_verdict_and_its_short_form(scores, diverged, verdict, rmsprop):
    table = rank(scores, diverged=diverged)
    assert describe_verdict(table, ACCURACY) == verdict
    assert describe_rmsprop(table) == rmsprop


def test_p_values_are_corrected_by_holms_method():
    scores = {"a": GOOD, "b": WORSE, "c": SIMILAR}
    pairs = (("a", "b"), ("b", "c"), ("a", "c"))
    small, middle, large = (stats.ttest_rel(scores[first], scores[second]).pvalue for first, second in pairs)
    assert small < middle < large
    expected = {pairs[0]: 3 * small, pairs[1]: max(3 * small, 2 * middle), pairs[2]: max(2 * middle, large)}
    assert compute_p_values(scores) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        ((500, 500, 500), (500, 500, 500), 1.0),
        ((0.9,), (0.1,), 1.0),
        # A constant difference has no spread for a t test: the sign test has 2 / 2^n, which rounding does not change.
        ((0.97, 0.98), (0.94, 0.95), 0.5),
        ((500,) * 8, (200,) * 8, 2 / 2**8),
    ],
)
def test_scores_without_a_spread_of_their_differences(first, second, p):
    assert compute_p_values({"a": first, "b": second}) == {("a", "b"): pytest.approx(p)}


@pytest.mark.parametrize(
    ("optimizers", "seeds", "erratic", "examples"),
    [
        (2, 2, 1, None),
        (2, 3, 1, 180),
        (4, 5, 1, 100),
        pytest.param(6, 3, 10, None, marks=pytest.mark.slow),
        pytest.param(6, 5, 10, None, marks=pytest.mark.slow),
    ],
)
def test_equals_are_called_different_in_about_5_percent_of_the_benchmarks(optimizers, seeds, erratic, examples):
    """Whatever their number, also if one spreads ten times as much, or if accuracies are whole numbers of examples."""
    rng = np.random.default_rng(optimizers * 10 + seeds)
    names = ("adam", "sgd", "momentum", "adagrad", "adamw", "rmsprop")[-optimizers:]
    races, different = 400, 0
    for _ in range(races):
        start = rng.normal(0.8, 0.02, seeds)
        spreads = [0.01 * erratic] + [0.01] * (optimizers - 1)
        scores = {name: start + rng.normal(0, spread, seeds) for name, spread in zip(names, spreads)}
        if examples:
            scores = {name: np.round(values * examples) / examples for name, values in scores.items()}
        different += any(row.worse_than for row in rank(scores))
    # Three standard errors of 400 benchmarks above 5 %.
    assert different / races < 0.05 + 3 * (0.05 * 0.95 / races) ** 0.5


def test_pairing_finds_what_an_unpaired_test_misses():
    """Seeds spread by 0.02, optimizers within a seed by 0.002, and they differ by 0.005."""
    rng = np.random.default_rng(3)
    paired = unpaired = 0
    for _ in range(200):
        start = rng.normal(0.9, 0.02, 5)
        first, second = start + rng.normal(0.005, 0.002, 5), start + rng.normal(0, 0.002, 5)
        paired += describe_rmsprop(rank({"rmsprop": first, "adam": second})) == "won"
        unpaired += stats.ttest_ind(first, second).pvalue < LEVEL
    assert paired > 150
    assert unpaired < 50


@pytest.mark.parametrize(
    ("metric", "order"),
    [(ACCURACY, ["adam", "rmsprop", "adagrad", "sgd"]), (ERROR, ["adagrad", "sgd", "adam", "rmsprop"])],
)
def test_better_rows_come_first_and_rows_without_a_significant_difference_are_ordered_by_name(metric, order):
    table = rank({"rmsprop": SIMILAR, "sgd": WORST, "adam": GOOD, "adagrad": WORST}, metric)
    assert [row.optimizer for row in table] == order


@pytest.mark.parametrize("examples", [None, 10], ids=["any score", "scores with equal differences"])
def test_a_row_stands_below_all_that_are_significantly_better_than_it_or_than_one_of_these(examples):
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(100):
        scores = {name: rng.normal(mean, 0.03, 8) for name, mean in zip(choice.names(), rng.normal(0.8, 0.1, 5))}
        if examples:
            scores = {name: np.round(values * examples) / examples for name, values in scores.items()}
        table = rank(scores)
        worse_than = {row.optimizer: set(row.worse_than) for row in table}
        for place, (name, better) in enumerate(worse_than.items()):
            assert better <= set(list(worse_than)[:place])
            assert set().union(*(worse_than[other] for other in better)) <= better, (name, scores)
            compared += len(better)
    assert compared > 100


def test_rows_that_diverged_come_last_and_are_not_tested():
    table = rank({"adam": GOOD, "rmsprop": WORST, "sgd": SIMILAR}, diverged=("adam",))
    assert [row.optimizer for row in table] == ["sgd", "rmsprop", "adam"]
    assert table[-1].p_values == {}
    assert set(table[-1].worse_than) == {"sgd", "rmsprop"}
    assert table[0].p_values == {"rmsprop": stats.ttest_rel(SIMILAR, WORST).pvalue}


def test_a_row_whose_seeds_all_diverged_has_no_numbers():
    row = make_row("adam", diverged=2)
    assert (row.text(ACCURACY), row.extremes(ACCURACY), row.seeds) == ("diverged", "–", 2)


def test_the_table_is_computed_from_the_last_points_of_the_curves():
    task = ValleyTask(poison={1: 3})
    results = run_race(task, optimizers=("sgd", "rmsprop"), seeds=4)
    for row in make_table(task, results):
        lr = choose_rate(task, results, row.optimizer)
        trials = [results.trials["final", row.optimizer, lr, seed] for seed in (0, 2, 3)]
        assert row.scores == tuple(trial.score[-1] for trial in trials)
        assert row.mean == pytest.approx(statistics.fmean(row.scores))
        assert row.spread == pytest.approx(statistics.stdev(row.scores))
        assert row.loss == pytest.approx(statistics.fmean(trial.loss[-1] for trial in trials))
        assert (row.diverged, row.seeds) == (1, 4)


def test_an_unfinished_benchmark_compares_the_seeds_that_all_optimizers_have_finished():
    task = ValleyTask()
    results = run_race(task, optimizers=("sgd", "rmsprop"), seeds=3)
    lr = choose_rate(task, results, "sgd")
    del results.trials["final", "sgd", lr, 2]
    assert {row.seeds for row in make_table(task, results)} == {2}
    for seed in (0, 1):
        del results.trials["final", "sgd", lr, seed]
    assert make_table(task, results) == []


@pytest.mark.parametrize("grid", [(0.01, 0.1, 1.0), (1.0,)])
def test_a_rate_at_the_edge_of_the_grid_is_marked(grid):
    task = ValleyTask()
    rows = make_table(task, race(task, Settings.of(task, optimizers=("sgd", "rmsprop"), grid=grid)))
    # On 0.5 |w - target|^2 gradient descent with lr 1 arrives in one step.
    assert next(row for row in rows if row.optimizer == "sgd").lr_at_edge_of_grid
    assert all(row.lr_at_edge_of_grid == (row.lr in (grid[0], grid[-1])) for row in rows)


@pytest.mark.parametrize(
    ("kernel", "framework", "device", "text"),
    [
        ("compiled", "numpy", "cpu", "RMSprop is compiled code here and the baselines are plain NumPy code"),
        ("plain", "numpy", "cpu", "compiled module was not in use"),
        ("compiled", "torch", "cpu", "the same method in torch.optim"),
        ("compiled", "torch", "cuda", "Time in step, on cuda"),
    ],
)
def test_the_note_on_the_step_time_says_what_is_compared(kernel, framework, device, text):
    results = run_race(ValleyTask())
    results.environment["kernel"] = kernel
    results.settings = dataclasses.replace(results.settings, device=device)
    assert text in explain_step_time(results, framework)
