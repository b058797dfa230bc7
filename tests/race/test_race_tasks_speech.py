"""The speech task: the utterances as published, standardized by the training part, and padding without effect."""

import math

import numpy as np
import pytest
from task_data import load

torch = pytest.importorskip("torch")

from rmsprop.race import get  # noqa: E402
from rmsprop.race.tasks import speech  # noqa: E402
from rmsprop.race.tasks._learner import Content  # noqa: E402


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


def test_the_splits_do_not_overlap_and_only_training_frames_standardize():
    _, data = load("speech")
    assert dict(data.sizes) == {"train": 216, "valid": 54, "test": 370}
    rows = {frames.numpy().tobytes() for part in data.content.splits.values() for frames in part.frames}
    assert len(rows) == 640
    assert np.bincount(data.content.splits["valid"].speakers).tolist() == [6] * 9
    train = data.content.splits["train"]
    spoken = np.concatenate([rows[:length] for rows, length in zip(train.frames.numpy(), train.lengths, strict=True)])
    np.testing.assert_allclose(spoken.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(spoken.std(axis=0), 1, rtol=1e-5)


def test_accuracy_and_loss_by_hand():
    part = speech.Utterances(torch.zeros(4, 3, 12), torch.tensor([3, 3, 2, 1]), torch.tensor([0, 1, 1, 2]))
    learner = speech.Learner(get("speech"), Content({"train": part, "valid": part, "test": part}), 0)
    with torch.no_grad():
        learner.model.output.weight.zero_()
        learner.model.output.bias.copy_(torch.eye(9)[1])
    # Always class 1: right about two of four.
    accuracy, loss = learner.score("test")
    assert accuracy == 0.5
    assert loss == pytest.approx(math.log(8 + math.e) - 0.5, rel=1e-6)


def test_padding_does_not_change_the_logits():
    torch.manual_seed(0)
    model = speech.SpeakerModel(2, 4, 3).eval()
    sound = torch.randn(1, 6, 2)
    longer = torch.cat([torch.cat([sound, torch.zeros(1, 5, 2)], dim=1), torch.randn(1, 11, 2)])
    alone, padded = model(sound, torch.tensor([6])), model(longer, torch.tensor([6, 11]))
    torch.testing.assert_close(padded[:1], alone)
