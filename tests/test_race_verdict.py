"""One honest sentence, whoever wins."""

import math
import statistics

import pytest

from racing import ValleyTask, run
from rmsprop.race import get
from rmsprop.race.run import best_rate
from rmsprop.race.verdict import Row, facts, rows, sentence, step_note, ties, typical_spread

ACCURACY = get("digits").metric


def row(rival, *scores, diverged=0):
    return Row(
        rival=rival,
        lr=0.01,
        at_edge=False,
        scores=scores,
        loss=0.1,
        train_loss=0.1,
        step_us=5.0,
        seconds=0.1,
        diverged=diverged,
    )


def test_rmsprop_wins_when_it_is_best_beyond_the_spread():
    said = sentence([row("rmsprop", 0.97, 0.98), row("adam", 0.90, 0.91)], ACCURACY)
    assert said == "RMSprop won with 97.50 % ± 0.71 over 2 seeds; next is Adam with 90.50 % ± 0.71."


def test_rmsprop_loses_when_another_is_best_beyond_the_spread():
    table = [row("adam", 0.97, 0.98), row("sgd", 0.93, 0.94), row("rmsprop", 0.90, 0.91)]
    assert sentence(table, ACCURACY) == (
        "Adam won with 97.50 % ± 0.71 over 2 seeds; RMSprop lost: 90.50 % ± 0.71, place 3 of 3."
    )


def test_a_gap_within_the_spread_is_a_tie_with_those_behind_named():
    table = [row("adam", 0.97, 0.98), row("rmsprop", 0.965, 0.975), row("adagrad", 0.90, 0.91)]
    said = sentence(table, ACCURACY)
    assert said.startswith("A tie, RMSprop among the best: Adam (97.50 % ± 0.71) and RMSprop (97.00 % ± 0.71)")
    assert said.endswith("lie within the spread of 2 seeds (0.71 points); behind them: AdaGrad.")


def test_a_tie_of_all_has_nobody_behind():
    said = sentence([row("adam", 0.97, 0.98), row("rmsprop", 0.965, 0.975)], ACCURACY)
    assert "behind" not in said
    assert said.endswith("within the spread of 2 seeds (0.71 points).")


def test_a_tie_of_others_says_that_rmsprop_lost():
    table = [row("adam", 0.97, 0.98), row("sgd", 0.97, 0.979), row("rmsprop", 0.90, 0.91)]
    said = sentence(table, ACCURACY)
    assert said.startswith("A tie: Adam")
    assert said.endswith("; RMSprop lost: 90.50 % ± 0.71, place 3 of 3.")


def test_without_rmsprop_the_second_is_named():
    said = sentence([row("adam", 0.97, 0.98), row("sgd", 0.90, 0.91)], ACCURACY)
    assert said == "Adam won with 97.50 % ± 0.71 over 2 seeds; next is Gradient descent with 90.50 % ± 0.71."


def test_one_seed_gives_no_winner():
    said = sentence([row("adam", 0.97), row("rmsprop", 0.90)], ACCURACY)
    assert said == "No winner: one seed has no spread to judge by. In order: Adam 97.00 %, RMSprop 90.00 %."


def test_running_alone_gives_no_winner():
    assert sentence([row("rmsprop", 0.97, 0.98)], ACCURACY) == (
        "No winner: RMSprop ran alone and reached 97.50 % ± 0.71 over 2 seeds."
    )


def test_nothing_finished_gives_no_winner():
    assert sentence([], ACCURACY).startswith("No winner")


def test_an_optimizer_that_diverged_on_a_seed_cannot_win():
    table = [row("adam", 0.90, 0.91), row("rmsprop", 0.99, diverged=1)]
    assert sentence(table, ACCURACY).startswith("Adam won")
    assert "RMSprop lost: it diverged on 1 of 2 seeds" in sentence(table, ACCURACY)


def test_when_all_diverge_nobody_wins():
    assert sentence([row("adam", diverged=2), row("rmsprop", diverged=2)], ACCURACY) == (
        "No winner: every optimizer diverged on some seed."
    )


def around(rival, mean, spread):
    """A row of two seeds with this mean and this sample standard deviation."""
    return row(rival, mean - spread / math.sqrt(2), mean + spread / math.sqrt(2))


@pytest.mark.parametrize(("gap", "tied"), [(0.0, True), (0.009, True), (0.01, True), (0.011, False)])
def test_the_median_spread_decides_what_a_tie_is(gap, tied):
    best, other = around("adam", 0.95, 0.002), around("rmsprop", 0.95 - gap, 0.01)
    table = [best, other, around("sgd", 0.80, 0.05)]
    assert typical_spread(table) == pytest.approx(0.01)
    assert ties(best, other, typical_spread(table)) is tied
    assert ("tie" in sentence(table, ACCURACY)) is tied


def test_nobody_ties_by_being_erratic():
    table = [around("adam", 0.97, 0.002), around("sgd", 0.95, 0.003), around("rmsprop", 0.949, 0.06)]
    assert sentence(table, ACCURACY).startswith("Adam won with 97.00 %")
    assert "RMSprop lost: 94.90 % ± 6.00, place 3 of 3" in sentence(table, ACCURACY)


def test_of_two_equal_means_both_or_none_tie():
    table = [around("adam", 0.97, 0.006), around("sgd", 0.965, 0.006), around("rmsprop", 0.965, 0.02)]
    said = sentence(table, ACCURACY)
    assert all(f"{label} (" in said for label in ("Adam", "Gradient descent", "RMSprop"))


def test_the_table_is_computed_from_the_last_points_of_the_curves():
    task = ValleyTask()
    results = run(task, rivals=("sgd", "rmsprop"), seeds=3)
    for line in rows(task, results):
        lr = best_rate(task, results, line.rival)
        trials = [results.trials["final", line.rival, lr, seed] for seed in range(3)]
        assert line.scores == tuple(trial.score[-1] for trial in trials)
        assert line.mean == pytest.approx(statistics.fmean(trial.score[-1] for trial in trials))
        assert line.spread == pytest.approx(statistics.stdev(trial.score[-1] for trial in trials))
        assert line.loss == pytest.approx(statistics.fmean(trial.loss[-1] for trial in trials))


def test_where_lower_is_better_the_lowest_comes_first():
    task = ValleyTask()
    means = [line.mean for line in rows(task, run(task, rivals=("rmsprop", "sgd", "adam")))]
    assert means == sorted(means)


def test_a_diverged_seed_puts_an_optimizer_last():
    task = ValleyTask(poison={1: 3})
    results = run(task, rivals=("sgd", "rmsprop"), seeds=3)
    broken = next(line for line in rows(task, results) if line.rival == "sgd")
    assert (broken.diverged, len(broken.scores), broken.seeds) == (1, 2, 3)


def test_an_unfinished_race_compares_only_the_seeds_that_all_have_finished():
    task = ValleyTask()
    results = run(task, rivals=("sgd", "rmsprop"), seeds=3)
    del results.trials["final", "sgd", best_rate(task, results, "sgd"), 2]
    assert {line.seeds for line in rows(task, results)} == {2}
    for seed in (0, 1):
        del results.trials["final", "sgd", best_rate(task, results, "sgd"), seed]
    assert rows(task, results) == []


def test_a_rate_at_the_edge_of_the_grid_is_marked():
    task = ValleyTask()
    lines = {line.rival: line for line in rows(task, run(task, rivals=("sgd", "rmsprop"), epochs=3))}
    grid = task.budget.grid
    assert lines["sgd"].at_edge
    assert all(line.at_edge == (line.lr in (grid[0], grid[-1])) for line in lines.values())


def test_the_note_on_time_says_what_is_compiled():
    results = run(ValleyTask())
    results.environment["kernel"] = "compiled"
    assert "RMSprop is compiled code here and its rivals are plain NumPy lines" in step_note(results)
    results.environment["kernel"] = "plain"
    assert "compiled module was not in use" in step_note(results)


def test_the_facts_of_results_json_agree_with_the_table():
    task = ValleyTask()
    results = run(task)
    written = facts(task, results)
    assert written["verdict"] == sentence(rows(task, results), task.metric)
    assert [entry["mean"] for entry in written["table"]] == [line.mean for line in rows(task, results)]
