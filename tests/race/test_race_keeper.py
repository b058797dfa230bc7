"""What a race leaves on the disk: nothing is lost to a refusal, a second start, Ctrl-C or a full disk."""

import errno
import io
import itertools

import pytest
from rich.console import Console

from racing import one, pretend
from rmsprop.errors import FileError, RMSpropError
from rmsprop.race import Folder, conduct
from rmsprop.race.conduct import Wanted


@pytest.fixture(autouse=True)
def valleys(monkeypatch):
    pretend(monkeypatch)


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("absent", {}),
        ("corrupt", {}),
        ("broken", {}),
        ("valley", {"device": "cuda"}),
        ("valley", {"threads": 2}),
        ("valley", {"seeds": 1001}),
        ("placed", {"device": ""}),
        ("placed", {"device": "cuda", "resume": True}),
    ],
)
def test_what_is_refused_leaves_the_folder_alone(tmp_path, name, wanted):
    one("placed", tmp_path)
    before = _files(tmp_path)
    assert "report.html" in before
    with pytest.raises((RMSpropError, OSError)):
        one(name, tmp_path, **wanted)
    assert _files(tmp_path) == before


def test_a_race_broken_off_before_its_first_trial_leaves_the_folder_alone(tmp_path, monkeypatch):
    one("valley", tmp_path)
    before = _files(tmp_path)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("rmsprop.race.run.train", interrupted)
    outcome, text = one("valley", tmp_path)
    assert (outcome.complete, outcome.interrupted) == (False, True)
    assert f"Broken off before a trial was finished: {tmp_path} is as it was." in text
    assert _files(tmp_path) == before


def test_a_new_race_sets_the_earlier_one_aside_with_its_first_trial(tmp_path):
    for _ in range(3):
        _, text = one("valley", tmp_path)
    assert f"The earlier results are kept as {tmp_path / 'results.previous-2.json'}." in text
    assert sorted(_files(tmp_path)) == [
        "curves.png", "report.html", "results.json", "results.previous-1.json", "results.previous-2.json",
    ]  # fmt: skip


def _disk(monkeypatch, full):
    """Every write asks `full` whether the disk is."""

    def sync(handle):
        if full():
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rmsprop.race.folder.os.fsync", sync)
    monkeypatch.setattr("rmsprop.race.folder.SECONDS_BETWEEN_SAVES", -1.0)


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path, monkeypatch):
    tries = itertools.count()
    _disk(monkeypatch, lambda: next(tries) in (1, 2))
    outcome, text = one("valley", tmp_path)
    assert outcome.complete
    assert text.count("Not saved, and the race goes on: ") == 1
    assert Folder(tmp_path).load().trials == outcome.results.trials
    assert {"report.html", "curves.png"} <= set(_files(tmp_path))


def test_a_disk_that_stays_full_keeps_what_was_saved_and_says_what_was_not(tmp_path, monkeypatch):
    tries = itertools.count()
    _disk(monkeypatch, lambda: next(tries) >= 3)
    console = Console(file=io.StringIO(), width=120, color_system=None)
    with pytest.raises(FileError, match=r"the disk is full.*Not written: 2 of 5 finished trials, and the report"):
        conduct.one("valley", Wanted(optimizers=("rmsprop",)), tmp_path, console)
    # What was measured is shown all the same, and the saved part can be resumed.
    assert "RMSprop ran alone" in console.file.getvalue()
    assert len(Folder(tmp_path).load().trials) == 3
    _disk(monkeypatch, lambda: False)
    outcome, text = one("valley", tmp_path, resume=True)
    assert outcome.complete
    assert "Going on: 3 of 5 trials were done before." in text


def test_a_disk_that_is_full_for_the_pictures_alone_says_that_every_trial_is_kept(tmp_path, monkeypatch):
    tries = itertools.count()
    _disk(monkeypatch, lambda: next(tries) >= 6)
    with pytest.raises(FileError, match=r"Every trial is in .*results\.json; the report is not whole"):
        one("valley", tmp_path)
    assert len(Folder(tmp_path).load().trials) == 5
