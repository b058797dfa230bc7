"""Diamonds, ratings and the pole: published counts, metrics by hand, and returns by their formula."""

import dataclasses
import sys

import numpy as np
import pytest

from rmsprop.errors import FileError, MissingDependency
from rmsprop.race import data as sources
from rmsprop.race import get
from rmsprop.race.record import Job
from rmsprop.race.tasks.cartpole import GAMMA, returns
from rmsprop.race.tasks.diamonds import Stones, features
from rmsprop.race.tasks.ratings import Votes, movielens
from rmsprop.race.trial import train

torch = pytest.importorskip("torch")


def _loaded(name):
    task = get(name)
    try:
        return task, task.load()
    except MissingDependency as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def diamonds():
    return _loaded("diamonds")


@pytest.fixture(scope="module")
def ratings():
    return _loaded("ratings")


@pytest.fixture(scope="module")
def cartpole():
    return _loaded("cartpole")


def test_the_diamonds_are_all_there_and_each_in_one_part(diamonds):
    _, data = diamonds
    assert sum(data.sizes.values()) == 53_940
    x, y = features(sources.read("diamonds", "diamonds.csv").decode())
    assert x.shape == (53_940, 27)
    # As published with ggplot2: 326 to 18,823 dollars, 0.2 to 5.01 carat.
    assert (np.exp(y.min()), np.exp(y.max())) == (pytest.approx(326), pytest.approx(18823))
    assert (x[:, 0].min(), x[:, 0].max()) == (0.2, 5.01)
    prices = np.concatenate([part.prices.numpy() for part in data.content.values()]).astype(float)
    scale = np.polyfit(np.sort(prices), np.sort(y), 1)
    assert np.polyval(scale, np.sort(prices)) == pytest.approx(np.sort(y), abs=1e-5)


def test_the_copies_among_the_diamonds_are_as_many_as_the_note_says(diamonds):
    task, data = diamonds
    rows = {
        name: [x.tobytes() + y.tobytes() for x, y in zip(part.features.numpy(), part.prices.numpy(), strict=True)]
        for name, part in data.content.items()
    }
    train = set(rows["train"])
    copies = sum(row in train for row in rows["test"])
    assert f"{copies} of the {len(rows['test']):,} test rows are exact copies" in task.notes[0]


def test_each_stone_has_one_grade_of_each_kind(diamonds):
    x, _ = features(sources.read("diamonds", "diamonds.csv").decode())
    for begin, end in ((7, 12), (12, 19), (19, 27)):
        assert (x[:, begin:end].sum(1) == 1).all()


def test_the_features_are_standardised_by_the_training_part_alone(diamonds):
    _, data = diamonds
    train_part = data.content["train"].features.double()
    assert train_part.mean(0).abs().max() < 1e-5
    assert (train_part.std(0, unbiased=False) - 1).abs().max() < 1e-5
    assert data.content["test"].features.double().mean(0).abs().max() > 1e-4


def test_r2_by_hand(diamonds):
    task, data = diamonds
    part = Stones(torch.zeros(4, 27), torch.tensor([0.0, 2.0, 4.0, 6.0]))
    small = dataclasses.replace(data, content={"train": part, "valid": part, "test": part})
    learner = task.learner(small, 0)
    for param in learner.params:
        param.data.zero_()
    learner.params[-1].data.fill_(4.0)
    # Errors 16, 4, 0, 4 make 6 on average; the variance is 5.
    assert learner.score("test") == (pytest.approx(1 - 6 / 5), pytest.approx(6.0))


def test_diamonds_reach_the_target_in_half_the_budget(diamonds):
    task, data = diamonds
    with dataclasses.replace(task, threads=1).session():
        trial = train(task, data, Job(phase="final", optimizer="rmsprop", lr=0.001, seed=0), epochs=4)
    assert trial.score[-1] >= task.metric.target == 0.98


def test_the_ratings_are_those_of_movielens(ratings):
    _, data = ratings
    assert sum(data.sizes.values()) == 100_004
    assert (data.content.users, data.content.films) == (671, 9066)
    pairs = torch.cat([part.users * 10_000 + part.films for part in data.content.splits.values()])
    assert len(pairs.unique()) == 100_004


def test_ratings_are_centered_on_the_mean_of_the_training_part(ratings):
    _, data = ratings
    assert abs(float(data.content.splits["train"].ratings.double().mean())) < 1e-5
    stars = torch.cat([part.ratings for part in data.content.splits.values()])
    assert float(stars.max() - stars.min()) == 4.5


def test_rmse_by_hand(ratings):
    task, data = ratings
    part = Votes(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([1.0, -2.0]))
    splits = {"train": part, "valid": part, "test": part}
    learner = task.learner(dataclasses.replace(data, content=data.content._replace(splits=splits)), 0)
    users, films = learner.params
    users.data.zero_()
    films.data.zero_()
    users.data[0, 0], films.data[1, 0] = 0.5, 0.25
    users.data[1, 3], films.data[1, 3] = 2.0, 0.5
    # Predicted: 0.5 + 0.25 and 0.25 + 2 x 0.5; wrong by 0.25 and by 3.25.
    error = (0.25**2 + 3.25**2) / 2
    assert learner.score("test") == (pytest.approx(error**0.5), pytest.approx(error))


def test_without_rdata_the_extra_is_named(monkeypatch, ratings):
    monkeypatch.setitem(sys.modules, "rdata", None)
    with pytest.raises(MissingDependency, match=r'rdata is needed for the ratings.*pip install "rmsprop\[race\]"'):
        movielens(b"", b"")


def test_a_base_without_the_ratings_is_refused(ratings):
    index = sources.read("ratings", "Rdata.rdx")
    with pytest.raises(FileError, match="do not hold movielens"):
        movielens(index, b"")
    with pytest.raises(FileError, match="do not hold movielens"):
        movielens(b"junk", b"")


def test_returns_go_on_over_a_cut_and_end_with_a_fall():
    def column(*numbers):
        return np.array(numbers)[:, None]

    rewards, later = column(1.0, 1.0, 1.0, 1.0).astype(np.float32), column(10.0, 20.0, 30.0, 40.0)
    fallen, ended = column(False, True, False, False), column(False, True, True, False)
    last = 1 + GAMMA * 40
    expected = [1 + GAMMA * 1, 1, 1 + GAMMA * 30, last]
    assert returns(rewards, later, fallen, ended).ravel() == pytest.approx(expected)


def test_a_restart_teaches_nothing(cartpole):
    task, data = cartpole
    learner = task.learner(data, 0)
    for _ in range(30):
        played = learner._play()
        restarted = ~played.counts
        assert (played.rewards[restarted] == 0).all()
        assert (played.rewards[played.counts] == 1).all()
        # A restart follows an end, and begins near the middle.
        assert (played.counts[1:] == ~played.ended[:-1]).all()
        assert (np.abs(played.after[restarted]) <= 0.05).all()
    assert restarted.shape == (8, 8)


def test_an_untrained_player_falls_soon_and_the_games_are_always_the_same(cartpole):
    task, data = cartpole
    mean, missing = task.learner(data, 0).score("test")
    assert 8 <= mean < 200
    assert missing == pytest.approx(1 - mean / 500)
    assert task.learner(data, 0).score("test")[0] == mean
    assert data.sizes == {"valid": 20, "test": 50}


def test_a_player_who_leans_with_the_pole_scores_its_length(cartpole):
    task, data = cartpole
    learner = task.learner(data, 0)

    class Lean(torch.nn.Module):
        def forward(self, state):
            lean = state[:, 2] + 0.5 * state[:, 3]
            return torch.stack([-lean, lean], dim=1)

    learner.model["actor"] = Lean()
    mean, _ = learner.score("test")
    assert 400 < mean <= 500


def test_the_pole_is_balanced_better_after_training(cartpole):
    task, data = cartpole
    with task.session():
        trial = train(task, data, Job(phase="final", optimizer="rmsprop", lr=0.002, seed=0), epochs=2)
    assert max(trial.score) > 5 * trial.score[0]
    assert trial.steps == 200


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(MissingDependency, match=r'gymnasium is needed for .*: pip install "rmsprop\[race\]"'):
        get("cartpole").load()
