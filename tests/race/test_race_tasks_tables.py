"""Diamonds, ratings and the pole: published counts, metrics and returns by hand."""

import dataclasses

import numpy as np
import pytest
from task_data import load, train_task

from rmsprop.race import data as task_data

torch = pytest.importorskip("torch")

from rmsprop.race.tasks.cartpole import GAMMA, compute_returns  # noqa: E402
from rmsprop.race.tasks.diamonds import Diamonds, make_features  # noqa: E402
from rmsprop.race.tasks.ratings import Ratings  # noqa: E402


def replace_splits(data, part):
    splits = {"train": part, "valid": part, "test": part}
    return dataclasses.replace(data, content=data.content._replace(splits=splits))


# --- diamonds


def test_every_diamond_is_in_one_split_and_the_table_is_the_published_one():
    _, data = load("diamonds")
    x, y = make_features(task_data.read("diamonds", "diamonds.csv").decode())
    assert x.shape == (sum(data.sizes.values()), 27) == (53_940, 27)
    # As published with ggplot2: 326 to 18,823 dollars, 0.2 to 5.01 carat.
    assert (np.exp(y.min()), np.exp(y.max())) == (pytest.approx(326), pytest.approx(18823))
    assert (x[:, 0].min(), x[:, 0].max()) == (0.2, 5.01)
    # One grade each of cut, color and clarity.
    for begin, end in ((7, 12), (12, 19), (19, 27)):
        assert (x[:, begin:end].sum(1) == 1).all()
    prices = np.concatenate([part.prices.numpy() for part in data.content.splits.values()]).astype(float)
    scale = np.polyfit(np.sort(prices), np.sort(y), 1)
    assert np.polyval(scale, np.sort(prices)) == pytest.approx(np.sort(y), abs=1e-5)


def test_the_note_says_how_many_test_diamonds_are_copies():
    task, data = load("diamonds")
    rows = {
        name: [x.tobytes() + y.tobytes() for x, y in zip(part.features.numpy(), part.prices.numpy(), strict=True)]
        for name, part in data.content.splits.items()
    }
    train = set(rows["train"])
    copies = sum(row in train for row in rows["test"])
    assert f"{copies} of the {len(rows['test']):,} test rows are exact copies" in task.notes[0]


def test_the_features_are_standardized_by_the_training_split_alone():
    _, data = load("diamonds")
    train, test = (data.content.splits[name].features.double() for name in ("train", "test"))
    assert train.mean(0).abs().max() < 1e-5
    assert (train.std(0, unbiased=False) - 1).abs().max() < 1e-5
    assert test.mean(0).abs().max() > 1e-4


def test_r2_by_hand():
    task, data = load("diamonds")
    part = Diamonds(torch.zeros(4, 27), torch.tensor([0.0, 2.0, 4.0, 6.0]))
    learner = task.learner(replace_splits(data, part), 0)
    for param in learner.params:
        param.data.zero_()
    learner.params[-1].data.fill_(4.0)
    # Errors 16, 4, 0, 4 make 6 on average; the variance is 5.
    assert learner.score("test") == (pytest.approx(1 - 6 / 5), pytest.approx(6.0))


@pytest.mark.slow
def test_diamonds_reach_the_target_in_half_the_budget():
    task, data = load("diamonds")
    assert train_task(task, data, lr=0.001, epochs=4).score[-1] >= task.metric.target == 0.98


# --- ratings


@pytest.mark.slow
def test_the_ratings_are_those_of_movielens_centered_on_the_training_mean():
    _, data = load("ratings")
    splits = data.content.splits
    assert data.content.spec == (671, 9066)
    pairs = torch.cat([part.users * 10_000 + part.films for part in splits.values()])
    assert len(pairs.unique()) == sum(data.sizes.values()) == 100_004
    assert abs(float(splits["train"].ratings.double().mean())) < 1e-5
    stars = torch.cat([part.ratings for part in splits.values()])
    assert float(stars.max() - stars.min()) == 4.5


def test_rmse_by_hand():
    task, data = load("ratings")
    part = Ratings(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([1.0, -2.0]))
    learner = task.learner(replace_splits(data, part), 0)
    users, films = (param.data.zero_() for param in learner.params)
    users[0, 0], films[1, 0] = 0.5, 0.25
    users[1, 3], films[1, 3] = 2.0, 0.5
    # Predicted: 0.5 + 0.25 and 0.25 + 2 x 0.5; wrong by 0.25 and by 3.25.
    error = (0.25**2 + 3.25**2) / 2
    assert learner.score("test") == (pytest.approx(error**0.5), pytest.approx(error))


# --- cartpole


def test_returns_go_on_after_a_cut_and_end_with_a_fall():
    def column(*numbers):
        return np.array(numbers)[:, None]

    rewards, next_values = column(1.0, 1.0, 1.0, 1.0).astype(np.float32), column(10.0, 20.0, 30.0, 40.0)
    fell, ended = column(False, True, False, False), column(False, True, True, False)
    expected = [1 + GAMMA * 1, 1, 1 + GAMMA * 30, 1 + GAMMA * 40]
    assert compute_returns(rewards, next_values, fell, ended).ravel() == pytest.approx(expected)


@pytest.mark.slow
def test_moves_that_restart_a_game_do_not_count():
    task, data = load("cartpole")
    learner = task.learner(data, 0)
    for _ in range(30):
        moves = learner.play()
        assert moves.rewards.shape == (8, 8)
        assert np.array_equal(moves.rewards, moves.counts.astype(np.float32))
        # A restart follows an end, and begins near the middle.
        assert (moves.counts[1:] == ~moves.ended[:-1]).all()
        assert (np.abs(moves.next_states[~moves.counts]) <= 0.05).all()


@pytest.mark.parametrize(("gain", "low", "high"), [(0, 8, 12), (1, 400, 500)])
def test_the_score_is_the_mean_return_of_the_likelier_moves(gain, low, high):
    task, data = load("cartpole")
    learner = task.learner(data, 0)

    class FollowPole(torch.nn.Module):
        def forward(self, state):
            lean = gain * (state[:, 2] + 0.5 * state[:, 3])
            return torch.stack([-lean, lean], dim=1)

    learner.model["actor"] = FollowPole()
    mean, missing = learner.score("test")
    assert low < mean <= high
    assert missing == pytest.approx(1 - mean / 500)
    assert data.sizes == {"valid": 20, "test": 50}


def test_the_pole_is_balanced_better_after_training():
    task, data = load("cartpole")
    trial = train_task(task, data, epochs=2)
    assert max(trial.score) > 5 * trial.score[0]
    assert trial.steps == 200
