"""The tasks that listen, in miniature and on their real data: what they load and measure, and that they learn."""

import io
import math
import shutil
import wave

import numpy as np
import pytest

from rmsprop.errors import FileError, MissingDependency

torch = pytest.importorskip("torch", reason="torch is not installed")

from taskchecks import Promises, needed, refuses_without_data, short, whole  # noqa: E402

from rmsprop.race.tasks import _voices, digits_speech, speech  # noqa: E402
from torch_helpers import one_thread  # noqa: E402, F401

NAMES = ("speech", "digits-speech")


@pytest.fixture(scope="module", params=NAMES)
def loaded(request):
    needed(request.param)
    task = short(request.param)
    return task, whole(request.param)


class TestEveryTask(Promises):
    pass


@pytest.mark.parametrize("name", NAMES)
def test_missing_data_are_said_with_the_package(name, tmp_path, monkeypatch):
    refuses_without_data(name, tmp_path, monkeypatch)


# --- speech


def test_the_utterances_are_those_that_were_published():
    needed("speech")
    frames, lengths, speakers = speech.utterances("TRAIN")
    # By the documentation of the data: 9 speakers, 30 utterances of each to train on, 370 to test, 7 to 29 frames.
    assert np.bincount(speakers).tolist() == [30] * 9
    _, others, heard = speech.utterances("TEST")
    assert np.bincount(heard).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert min(lengths.min(), others.min()) == 7
    assert max(lengths.max(), others.max()) == 29
    assert frames.shape == (270, 29, 12)
    # The first utterance begins with these numbers in the published file.
    np.testing.assert_array_equal(frames[0, 0, :3], [1.860936, -0.207383, 0.261557])
    assert not frames[0, lengths[0] :].any()


def test_the_splits_of_the_speakers_do_not_overlap():
    needed("speech")
    data = whole("speech")
    assert dict(data.sizes) == {"train": 216, "valid": 54, "test": 370}
    rows = {
        name: {part.frames[k].numpy().tobytes() for k in range(len(part.classes))}
        for name, part in data.content.items()
    }
    assert sum(map(len, rows.values())) == 640
    assert len(set.union(*rows.values())) == 640
    assert np.bincount(data.content["valid"].classes).tolist() == [6] * 9


def test_only_the_training_frames_say_what_a_unit_is():
    needed("speech")
    train = whole("speech").content["train"]
    heard = np.concatenate(
        [frames[:length] for frames, length in zip(train.frames.numpy(), train.lengths, strict=True)]
    )
    np.testing.assert_allclose(heard.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(heard.std(axis=0), 1, rtol=1e-5)


def test_accuracy_counts_the_sounds_recognised():
    part = speech.Examples(torch.zeros(4, 3, 2), torch.tensor([3, 3, 2, 1]), torch.tensor([0, 1, 1, 2]))
    learner = speech.Listener({"train": part, "valid": part, "test": part}, 0, shape=(2, 4, 3))
    with torch.no_grad():
        learner.model.output.weight.zero_()
        learner.model.output.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    accuracy, loss = learner.score("test")
    # Always class 1: right about two of four.
    assert accuracy == 0.5
    right, wrong = math.log(2 + math.e) - 1, math.log(2 + math.e)
    assert loss == pytest.approx((2 * right + 2 * wrong) / 4, rel=1e-6)


@pytest.mark.parametrize("filters", [0, 5])
def test_what_comes_after_a_sound_s_end_does_not_matter(filters):
    from rmsprop.race.tasks._models import Recogniser

    torch.manual_seed(0)
    model = Recogniser(2, 4, 3, filters).eval()
    sound = torch.randn(1, 6, 2)
    longer = torch.cat([torch.cat([sound, torch.zeros(1, 5, 2)], dim=1), torch.randn(1, 11, 2)])
    alone, padded = model(sound, torch.tensor([6])), model(longer, torch.tensor([6, 11]))
    torch.testing.assert_close(padded[:1], alone)


# --- digits-speech


def tone(hertz, *, rate=8000, seconds=0.5, before=0.2):
    time = np.arange(int(rate * seconds)) / rate
    silence = np.zeros(int(rate * before))
    return np.concatenate([silence, 0.5 * np.sin(2 * np.pi * hertz * time), silence])


def wav(samples, *, rate=8000, channels=1):
    raw = io.BytesIO()
    with wave.open(raw, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return raw.getvalue()


def test_bands_overlap_so_that_every_frequency_between_counts_once():
    filters = _voices.bands()
    assert filters.shape == (_voices.BANDS, 129)
    frequency = np.fft.rfftfreq(256, 1 / 8000)
    # Neighbouring triangles cross at one half, so they add up to one between the first and the last peak.
    peaks = filters.argmax(axis=1)
    between = filters[:, peaks[0] + 1 : peaks[-1]]
    np.testing.assert_allclose(between.sum(axis=0), 1, atol=1e-12)
    assert np.all(np.diff(frequency[peaks]) >= 0)


def test_a_tone_is_loudest_in_the_band_where_its_mel_lies():
    # mel(1000 Hz) is 1000; the centres lie evenly between mel(100 Hz) and mel(4000 Hz), which are no centres.
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (100, 4000))
    expected = round((1000 - low) / (high - low) * (_voices.BANDS + 1)) - 1
    power = np.abs(np.fft.rfft(tone(1000, before=0)[:256] * np.hanning(256))) ** 2
    assert int((_voices.bands() @ power).argmax()) == expected


def test_silence_around_a_sound_is_not_heard():
    noise = 1e-5 * np.random.default_rng(0).normal(size=len(tone(1000)))
    frames = _voices.heard(tone(1000) + noise, 8000)
    # Half a second of 10 ms frames; windows of 25 ms see the tone a little before it begins and after it ends.
    assert 50 <= len(frames) <= 53
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-5)


def test_loudness_does_not_matter():
    samples = tone(700) * np.linspace(0.2, 1, len(tone(700)))
    np.testing.assert_allclose(_voices.heard(samples, 8000), _voices.heard(samples / 7, 8000), atol=1e-4)


def test_another_sampling_rate_is_brought_to_that_of_the_telephone():
    slow, fast = _voices.heard(tone(700), 8000), _voices.heard(tone(700, rate=22050), 22050)
    assert abs(len(slow) - len(fast)) <= 1


def test_a_wave_file_is_read_though_its_header_lies_about_the_length():
    samples = tone(440)
    raw = bytearray(wav(samples))
    # What a program writes that does not know how long its output will be.
    raw[4:8] = (0x7FFFF024).to_bytes(4, "little")
    raw[40:44] = (0x7FFFF000).to_bytes(4, "little")
    read, rate = _voices.sound(bytes(raw))
    assert rate == 8000
    np.testing.assert_allclose(read, samples, atol=1e-4)


@pytest.mark.parametrize("raw", [b"", b"RIFF", b"no sound at all", wav(tone(440), channels=2)])
def test_what_is_no_such_sound_is_refused(raw):
    with pytest.raises(FileError, match=r"not a sound that can be read|one channel of 16 bits"):
        _voices.sound(raw)


def test_the_recordings_are_the_ten_digits_in_order():
    needed("digits-speech")
    recordings = _voices.human()
    assert recordings.digits.tolist() == list(range(10))
    # A spoken digit takes between a third of a second and a second; frames are 10 ms apart.
    assert recordings.lengths.min() > 33
    assert recordings.lengths.max() <= _voices.LONGEST


def test_voices_of_the_validation_are_not_trained_on():
    needed("digits-speech")
    made = _voices.synthetic()
    data = whole("digits-speech")
    assert dict(data.sizes) == {"train": 640, "valid": 160, "test": 10}
    assert np.bincount(made.digits).tolist() == [80] * 10
    assert np.bincount(made.variants).tolist() == [80] * 10
    train = {frames.tobytes() for frames in data.content["train"].frames.numpy()}
    assert not train & {frames.tobytes() for frames in data.content["valid"].frames.numpy()}
    assert np.bincount(data.content["valid"].classes).tolist() == [16] * 10


def test_clips_are_disturbed_in_training_and_stay_silent_after_their_end():
    needed("digits-speech")
    learner = digits_speech.TASK.learner(whole("digits-speech"), 0)
    for batch in learner.batches(1):
        silent = torch.arange(batch.frames.shape[1]) >= batch.lengths[:, None]
        assert not batch.frames[silent].any()
        # A gap of bands is missing in most clips: whole columns of zeros.
        assert (batch.frames == 0).all(dim=1).any(dim=1).float().mean() > 0.5


@pytest.mark.parametrize("by", [-2, -1, 0, 1, 2])
def test_bands_that_are_moved_do_not_come_back_at_the_other_end(by):
    bands = torch.arange(_voices.BANDS, dtype=torch.float32)
    (moved,) = digits_speech._moved(bands.expand(1, 1, -1), by)[0]
    assert moved.tolist() == (bands - by).clamp(0, _voices.BANDS - 1).tolist()


def test_clips_are_made_once_and_made_again_if_they_are_damaged(tmp_path, monkeypatch):
    needed("digits-speech")
    monkeypatch.setenv("RMSPROP_DATA", str(tmp_path))
    monkeypatch.setattr(_voices, "DIGITS", ("zero", "one"))
    monkeypatch.setattr(_voices, "VARIANTS", ("m1",))
    monkeypatch.setattr(_voices, "ACCENTS", ("en-us",))
    first = _voices.synthetic()
    (kept,) = (tmp_path / "espeak-ng").iterdir()
    written = kept.stat().st_mtime_ns
    assert all(np.array_equal(a, b) for a, b in zip(first, _voices.synthetic(), strict=True))
    assert kept.stat().st_mtime_ns == written
    kept.write_bytes(b"damaged")
    assert all(np.array_equal(a, b) for a, b in zip(first, _voices.synthetic(), strict=True))
    assert kept.stat().st_size > 100


def test_a_synthesiser_that_fails_or_is_absent_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RMSPROP_DATA", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match="espeak-ng"):
        _voices.synthetic()
    broken = tmp_path / "espeak-ng"
    broken.write_bytes(b"no program")
    broken.chmod(0o755)
    with pytest.raises(FileError, match=r"espeak-ng does not speak: .*Exec format error"):
        _voices.synthetic()
    mute = tmp_path / "espeak-ng"
    mute.write_text("#!/bin/sh\necho 'no such voice' >&2\nexit 1\n")
    mute.chmod(0o755)
    with pytest.raises(FileError, match=r"espeak-ng does not speak 'zero' as en-us\+m1: no such voice"):
        _voices.synthetic()
    assert not list(tmp_path.rglob("*.npz"))
    assert shutil.which("espeak-ng") == str(mute)
