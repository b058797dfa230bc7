"""The results folder: written whole or not at all, read with suspicion."""

import errno
import json
import os

import pytest

from racing import ValleyTask, curves, run
from rmsprop.errors import FileError, RMSpropError
from rmsprop.race import Folder, Results


@pytest.fixture(scope="module")
def document():
    return run(ValleyTask()).to_json({})


def test_results_come_back_as_they_were_written(document):
    results = run(ValleyTask())
    again = Results.from_json(results.to_json({}), where="memory")
    assert again.trials == results.trials
    assert again.settings == results.settings
    assert curves(again) == curves(Results.from_json(document, where="memory"))


def test_results_of_an_earlier_version_are_read(document):
    old = document.replace('"optimizer": ', '"rival": ').replace('"optimizers": ', '"rivals": ')
    assert old != document
    assert Results.from_json(old, where="memory") == Results.from_json(document, where="memory")


def _without(document, *path):
    tree = json.loads(document)
    node = tree
    for step in path[:-1]:
        node = node[step]
    del node[path[-1]]
    return json.dumps(tree)


def _changed(document, value, *path):
    tree = json.loads(document)
    node = tree
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda text: text[: len(text) // 2], "is not a race's results"),
        (lambda text: "", "is not a race's results"),
        (lambda text: "[1, 2]", "is not a race's results"),
        (lambda text: "\ufffd\x00", "is not a race's results"),
        (lambda text: _changed(text, 99, "format"), "format 99, expected 1"),
        (lambda text: _without(text, "settings"), "'settings' is missing"),
        (lambda text: _without(text, "settings", "grid"), "grid"),
        (lambda text: _changed(text, "x", "trials"), "is not a race's results"),
        (lambda text: _without(text, "trials", 0, "score"), "'score' is missing"),
        (lambda text: _changed(text, [1.0], "trials", 0, "score"), "curves of different lengths"),
        (lambda text: _changed(text, float("nan"), "trials", 0, "step_seconds"), "not finite"),
        (lambda text: _changed(text, "one", "trials", 0, "seconds"), "not finite"),
        (lambda text: _changed(text, "adamm", "trials", 0, "optimizer"), "unknown optimizer 'adamm'"),
        (lambda text: _changed(text, "final?", "trials", 0, "phase"), "unknown phase"),
    ],
)
def test_a_file_that_is_no_race_is_named_and_refused(tmp_path, document, spoil, reason):
    file = tmp_path / "results.json"
    file.write_text(spoil(document), encoding="utf-8")
    with pytest.raises(FileError, match=reason) as caught:
        Folder(tmp_path).load()
    assert str(file) in str(caught.value)
    assert "race without --resume" in str(caught.value)


def test_a_folder_without_results_holds_no_race(tmp_path):
    assert Folder(tmp_path / "new").load() is None


def test_a_written_file_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path):
    folder = Folder(tmp_path)
    for content in ("one", b"two"):
        folder.write("results.json", content)
    assert (tmp_path / "results.json").read_text() == "two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    folder.write("results.json", "old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rmsprop.race.folder.os.fsync", full)
    with pytest.raises(FileError, match="the disk is full: free some space and add --resume"):
        folder.write("results.json", "new")
    assert (tmp_path / "results.json").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_ctrl_c_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    folder.write("results.json", "old")

    def interrupted(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr("rmsprop.race.folder.os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        folder.write("results.json", "new")
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["old"]


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RMSpropError, match="choose another --out"):
        Folder(tmp_path / "file" / "runs")


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    def forbidden(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("rmsprop.race.folder.tempfile.TemporaryFile", forbidden)
    with pytest.raises(FileError, match="no permission to write there: choose another --out"):
        Folder(tmp_path)


def test_an_earlier_race_is_set_aside_and_its_report_removed(tmp_path):
    folder = Folder(tmp_path)
    assert folder.set_aside() is None
    for name in ("results.json", "report.html", "curves.png"):
        folder.write(name, name)
    assert folder.set_aside() == tmp_path / "results.previous-1.json"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.previous-1.json"]
    assert (tmp_path / "results.previous-1.json").read_text() == "results.json"


def test_nothing_set_aside_is_ever_replaced(tmp_path):
    folder = Folder(tmp_path)
    for content in ("one", "two", "three"):
        folder.write("results.json", content)
        folder.set_aside()
    (tmp_path / "results.previous-2.json").unlink()
    folder.write("results.json", "four")
    folder.set_aside()
    kept = {entry.name: entry.read_text() for entry in tmp_path.iterdir()}
    assert kept == {f"results.previous-{n}.json": text for n, text in ((1, "one"), (3, "three"), (4, "four"))}


def test_a_setting_that_was_not_asked_for_is_not_written_so_that_earlier_versions_read_the_file(document):
    assert set(json.loads(document)["settings"]) == {
        "task", "optimizers", "seeds", "tuning_seeds", "epochs", "grid", "device", "short",
    }  # fmt: skip


def test_the_environments_of_later_trials_come_back(document):
    results = Results.from_json(document, where="memory")
    assert results.later == []
    results.ran_in(results.environment | {"torch": "0.1", "python": "2.7"})
    again = Results.from_json(results.to_json({}), where="memory")
    assert again.environments == results.environments
    assert [environment["python"] for environment in again.environments] == [results.environment["python"], "2.7"]


def test_a_report_can_be_read_by_others_than_its_owner(tmp_path):
    file = Folder(tmp_path).write("report.html", "x")
    assert os.stat(file).st_mode & 0o044 == 0o044
