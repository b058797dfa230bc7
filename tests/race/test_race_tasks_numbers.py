"""The tasks that read numbers: what was published, splits without overlap, metrics, gradients and returns by hand."""

import dataclasses
import math

import numpy as np
import pytest
from task_data import load, train_task

from rmsprop.race import data as task_data
from rmsprop.race import get

torch = pytest.importorskip("torch")

from rmsprop.race.tasks import digits, speech  # noqa: E402
from rmsprop.race.tasks._learner import Content  # noqa: E402
from rmsprop.race.tasks._split import split_at_random, split_evenly  # noqa: E402
from rmsprop.race.tasks.cartpole import GAMMA, compute_returns  # noqa: E402
from rmsprop.race.tasks.diamonds import Diamonds, make_features  # noqa: E402
from rmsprop.race.tasks.ratings import Ratings  # noqa: E402


def replace_splits(data, part):
    splits = {"train": part, "valid": part, "test": part}
    return dataclasses.replace(data, content=data.content._replace(splits=splits))


# --- digits


def test_the_splits_contain_every_image_once_and_every_digit_in_proportion():
    _, data = load("digits")
    images, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    ours = np.concatenate([np.column_stack([part.images * 16, part.labels]) for part in data.content.values()])
    assert np.array_equal(np.unique(ours, axis=0), np.unique(np.column_stack([images, labels]), axis=0))
    assert len(ours) == sum(data.sizes.values()) == 1797
    for name, share in (("train", 0.7), ("valid", 0.15), ("test", 0.15)):
        assert np.abs(np.bincount(data.content[name].labels) - share * np.bincount(labels)).max() <= 1, name


def test_an_even_split_depends_on_its_seed_alone():
    labels = np.tile(np.arange(5), 20)
    first, again, other = (split_evenly(labels, (0.5, 0.5), seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], again[name]) for name in ("train", "valid"))
    assert not np.array_equal(first["train"], other["train"])


def test_a_random_split_uses_each_example_once_and_a_part_of_it_the_first_ones():
    parts = list(split_at_random(101, (0.7, 0.15, 0.15), seed=3).values())
    assert sorted(np.concatenate(parts)) == list(range(101))
    assert [len(part) for part in parts] == [71, 15, 15]
    few = np.concatenate(list(split_at_random(101, (0.7, 0.15, 0.15), seed=3, keep=40).values()))
    assert few.tolist() == np.concatenate(parts)[:40].tolist()


def test_the_gradient_agrees_with_finite_differences():
    rng = np.random.default_rng(0)
    batch = digits.Examples(rng.random((7, 64)), rng.integers(0, 10, 7))
    empty = digits.Examples(np.zeros((1, 64), np.float32), np.zeros(1, np.intp))
    network = digits.Learner(get("digits"), {"train": empty}, seed=1)
    network.params = {name: array.astype(np.float64) for name, array in network.params.items()}
    _, grads = network.gradients(batch)
    for name, array in network.params.items():
        for index in [tuple(rng.integers(0, size) for size in array.shape) for _ in range(8)]:
            value, h = array[index], 1e-6
            array[index] = value + h
            above, _ = network.gradients(batch)
            array[index] = value - h
            below, _ = network.gradients(batch)
            array[index] = value
            assert grads[name][index] == pytest.approx((above - below) / (2 * h), rel=1e-6, abs=1e-9), (name, index)


def test_the_network_is_float32_and_begins_as_good_as_a_guess():
    task, data = load("digits")
    learner = task.learner(data, 0)
    _, grads = learner.gradients(next(learner.batches(1)))
    assert {array.dtype for array in (*learner.params.values(), *grads.values())} == {np.dtype(np.float32)}
    accuracy, loss = learner.score("test")
    assert accuracy < 0.4
    assert loss == pytest.approx(np.log(10), rel=0.5)


def test_rmsprop_reaches_the_target():
    task, data = load("digits")
    scores = [train_task(task, data, lr=0.01, seed=seed, epochs=30).score[-1] for seed in range(3)]
    assert np.mean(scores) >= task.metric.target == 0.96


def test_a_weight_or_gradient_that_is_not_finite_is_named():
    task, data = load("digits")
    learner = task.learner(data, 0)
    _, grads = learner.gradients(next(learner.batches(1)))
    assert learner.find_nonfinite(grads) == "the loss"
    grads["b1"][3] = np.inf
    assert learner.find_nonfinite(grads) == "the gradient of b1"
    learner.params["w2"][0, 0] = np.nan
    assert learner.find_nonfinite(grads) == "w2"
    # Of several weights the nearest to the loss.
    learner.params["w1"][0, 0] = np.nan
    assert learner.find_nonfinite(grads) == "w2"


# --- fashion and mnist

# Of the training labels 0 to 9, as published with the sets.
COUNTS = {"fashion": [6000] * 10, "mnist": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]}


@pytest.fixture(scope="module", params=list(COUNTS))
def full_task(request):
    return load(request.param)


def test_the_sizes_and_the_classes_are_the_published_ones(full_task):
    task, data = full_task
    assert data.sizes == {"train": 54_000, "valid": 6_000, "test": 10_000}
    train, valid = (torch.bincount(data.content.splits[name].labels) for name in ("train", "valid"))
    assert (train + valid).tolist() == COUNTS[task.name]
    assert ((valid / (train + valid)) - 0.1).abs().max() < 0.001


@pytest.mark.slow
def test_every_image_is_in_one_split_only(full_task):
    task, data = full_task
    ours = np.concatenate([data.content.splits[name].images.numpy() for name in ("train", "valid")])
    raw = np.frombuffer(task_data.read(task.name, "train-images-idx3-ubyte"), np.uint8, offset=16)
    key = np.random.default_rng(0).integers(1, 2**31, 784)
    assert np.array_equal(*(np.sort(part.reshape(-1, 784).astype(np.int64) @ key) for part in (ours, raw)))


def test_the_data_of_quick_are_a_small_part_with_all_classes(full_task):
    task, data = full_task
    _, short = load(task.name, short=True)
    assert all(0.03 < short.sizes[name] / data.sizes[name] < 0.05 for name in data.sizes)
    assert len(torch.bincount(short.content.splits["test"].labels)) == 10


@pytest.mark.slow
def test_image_accuracy_and_loss_by_hand(full_task):
    task, data = full_task
    learner = task.learner(data, 0)
    # All weights 0 and one bias: every image is given class 3, with a known probability.
    for param in learner.params:
        param.data.zero_()
    learner.params[-1].data[3] = np.log(2.0)
    with task.session():
        accuracy, loss = learner.score("test")
    assert accuracy == {"fashion": 0.1, "mnist": 0.101}[task.name]
    # Of eleven parts class 3 has two: -log(2/11) for its own images, -log(1/11) for the others.
    assert loss == pytest.approx(np.log(11) - accuracy * np.log(2), rel=1e-5)


# --- speech


def test_the_utterances_are_those_that_were_published():
    load("speech")
    frames, lengths, speakers = speech.read_utterances("TRAIN")
    # By the documentation of the data: 9 speakers, 30 utterances of each to train on, 370 to test, 7 to 29 frames.
    assert np.bincount(speakers).tolist() == [30] * 9
    _, test_lengths, test_speakers = speech.read_utterances("TEST")
    assert np.bincount(test_speakers).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert (min(*lengths, *test_lengths), max(*lengths, *test_lengths)) == (7, 29)
    assert frames.shape == (270, 29, 12)
    # The first utterance begins with these numbers in the published file.
    np.testing.assert_array_equal(frames[0, 0, :3], [1.860936, -0.207383, 0.261557])
    assert not frames[0, lengths[0] :].any()


def test_the_speech_splits_do_not_overlap_and_only_training_frames_standardize():
    _, data = load("speech")
    assert dict(data.sizes) == {"train": 216, "valid": 54, "test": 370}
    rows = {frames.numpy().tobytes() for part in data.content.splits.values() for frames in part.frames}
    assert len(rows) == 640
    assert np.bincount(data.content.splits["valid"].speakers).tolist() == [6] * 9
    train = data.content.splits["train"]
    spoken = np.concatenate([rows[:length] for rows, length in zip(train.frames.numpy(), train.lengths, strict=True)])
    np.testing.assert_allclose(spoken.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(spoken.std(axis=0), 1, rtol=1e-5)


def test_speech_accuracy_and_loss_by_hand():
    part = speech.Utterances(torch.zeros(4, 3, 12), torch.tensor([3, 3, 2, 1]), torch.tensor([0, 1, 1, 2]))
    learner = speech.Learner(get("speech"), Content({"train": part, "valid": part, "test": part}), 0)
    with torch.no_grad():
        learner.model["output"].weight.zero_()
        learner.model["output"].bias.copy_(torch.eye(9)[1])
    # Always class 1: right about two of four.
    accuracy, loss = learner.score("test")
    assert accuracy == 0.5
    assert loss == pytest.approx(math.log(8 + math.e) - 0.5, rel=1e-6)


def test_padding_frames_do_not_change_the_logits():
    torch.manual_seed(0)
    sound = torch.randn(1, 6, 12)
    longer = torch.cat([torch.cat([sound, torch.zeros(1, 5, 12)], dim=1), torch.randn(1, 11, 12)])
    alone = speech.Utterances(sound, torch.tensor([6]), torch.tensor([0]))
    padded = speech.Utterances(longer, torch.tensor([6, 11]), torch.tensor([0, 1]))
    learner = speech.Learner(get("speech"), Content({"train": padded}), 0)
    torch.testing.assert_close(learner.predict(padded)[:1], learner.predict(alone))


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


@pytest.mark.slow
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
