"""The results folder: files are written atomically, corrupt ones are refused, and earlier results are kept."""

import contextlib
import errno
import functools
import itertools
import json
import operator
import os
import socket
import subprocess
import sys

import filelock
import pytest

from rmsprop._files import lock_folder
from rmsprop.errors import FileError, RMSpropError
from rmsprop.race import Folder, Results
from small_tasks import ValleyTask, collect_curves, run_command, run_race


@pytest.fixture(scope="module")
def document():
    return run_race(ValleyTask()).to_json({})


@pytest.fixture
def disk(monkeypatch):
    """Return a function: `disk(is_full)` lets every write ask `is_full()`, and saves after each trial."""

    def replace_fsync(is_full):
        def fsync(handle):
            if is_full():
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("rmsprop._files.os.fsync", fsync)
        monkeypatch.setattr("rmsprop.race.folder.SECONDS_BETWEEN_SAVES", -1.0)

    return replace_fsync


def read_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_results_are_read_as_they_were_written(document):
    results = run_race(ValleyTask())
    again = Results.from_json(results.to_json({}), where="memory")
    assert again.trials == results.trials
    assert again.settings == results.settings
    assert collect_curves(again) == collect_curves(Results.from_json(document, where="memory"))


def test_results_of_earlier_versions_are_read(document):
    old = document.replace('"optimizer": ', '"rival": ').replace('"optimizers": ', '"rivals": ')
    assert old != document
    assert Results.from_json(old, where="memory") == Results.from_json(document, where="memory")


def test_settings_that_were_not_asked_for_are_not_written_so_that_earlier_versions_read_the_file(document):
    assert set(json.loads(document)["settings"]) == {
        "task", "optimizers", "seeds", "tuning_seeds", "epochs", "grid", "device", "short",
    }  # fmt: skip


def test_the_environments_of_later_trials_are_kept(document):
    results = Results.from_json(document, where="memory")
    assert results.later == []
    trial = next(iter(results.trials.values()))
    results.add(trial, results.environment | {"torch": "0.1", "python": "2.7"})
    again = Results.from_json(results.to_json({}), where="memory")
    assert again.environments == results.environments
    assert [environment["python"] for environment in again.environments] == [results.environment["python"], "2.7"]


DELETED = object()


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("format",), 99, "format 99, expected 1"),
        (("settings",), DELETED, "'settings' is missing"),
        (("settings", "grid"), DELETED, "grid"),
        (("trials",), "x", "not the results of a benchmark"),
        (("trials", 0, "score"), DELETED, "missing .* 'score'"),
        (("trials", 0, "score"), [1.0], "curves of different lengths"),
        (("trials", 0, "step_seconds"), float("nan"), "a number is not finite"),
        (("trials", 0, "seconds"), "one", "a number is not finite"),
        (("trials", 0, "lr"), "fast", "a number is not finite"),
        (("trials", 0, "train_seconds"), "one", "a number is not finite"),
        (("trials", 0, "optimizer"), "adamm", "unknown optimizer 'adamm'"),
        (("trials", 0, "phase"), "final?", "unknown phase"),
    ],
)
def test_a_changed_document_raises_and_says_what_is_wrong(document, path, value, reason):
    tree = json.loads(document)
    *steps, last = path
    node = functools.reduce(operator.getitem, steps, tree)
    node[last] = value
    if value is DELETED:
        del node[last]
    with pytest.raises(FileError, match=reason):
        Results.from_json(json.dumps(tree), where="memory")


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"\xff\x00", b'{"format": 1, "set'])
def test_a_file_that_is_not_a_benchmark_raises_and_names_the_file(tmp_path, content):
    file = tmp_path / "results.json"
    file.write_bytes(content)
    with pytest.raises(FileError, match=r"not the results of a benchmark .* without --resume a new") as caught:
        Folder(tmp_path).load()
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (OSError(errno.ENOSPC, "No space left"), FileError, "the disk is full: free some space and add --resume"),
        (PermissionError(errno.EACCES, "Permission denied"), FileError, "no permission to write there: choose another"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, error, expected, message):
    folder = Folder(tmp_path)
    for content in ("older", b"old"):
        folder.write("results.json", content)

    def fail(handle):
        raise error

    monkeypatch.setattr("rmsprop._files.os.fsync", fail)
    with pytest.raises(expected, match=message):
        folder.write("results.json", "new")
    assert read_files(tmp_path) == {"results.json": b"old"}


def test_a_folder_that_cannot_be_made_raises_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RMSpropError, match="choose another --out"):
        Folder(tmp_path / "file" / "runs")


def test_a_second_benchmark_in_a_folder_raises_and_changes_nothing(tmp_path, command_tasks):
    run_command("valley", tmp_path)
    before = read_files(tmp_path)
    for options in ({}, {"resume": True}):
        with lock_folder(tmp_path), pytest.raises(FileError, match="another process writes there; wait until it ends"):
            run_command("valley", tmp_path, **options)
    assert read_files(tmp_path) == before
    run_command("valley", tmp_path, resume=True)


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    program = "import sys, time\nfrom pathlib import Path\nfrom rmsprop._files import lock_folder\n"
    program += "with lock_folder(Path(sys.argv[1])): print('locked', flush=True); time.sleep(100)"
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "locked\n"
    with pytest.raises(FileError, match="another process writes there"), lock_folder(tmp_path):
        pass
    other.kill()
    other.communicate()
    with lock_folder(tmp_path):
        pass


def test_a_lock_without_flock_is_ignored_if_its_process_has_ended(tmp_path, monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid, is_free in ((ended.pid, True), (os.getppid(), False)):
        (tmp_path / ".lock").write_text(f"{pid}\n{socket.gethostname()}\n")
        monkeypatch.setattr(filelock, "FileLock", filelock.SoftFileLock)
        with contextlib.nullcontext() if is_free else pytest.raises(FileError, match="another"), lock_folder(tmp_path):
            pass


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    message = r"cannot lock a file \(No locks available\): choose an --out on a disk"
    with pytest.raises(FileError, match=message), lock_folder(tmp_path):
        pass


def test_earlier_results_are_renamed_to_a_new_name_and_their_report_is_removed(tmp_path):
    folder = Folder(tmp_path)
    assert folder.set_aside() is None
    for content in ("one", "two", "three"):
        for name in ("results.json", "report.html", "curves.png"):
            folder.write(name, content)
        folder.set_aside()
    (tmp_path / "results.previous-2.json").unlink()
    folder.write("results.json", "four")
    assert folder.set_aside() == tmp_path / "results.previous-4.json"
    assert read_files(tmp_path) == {
        f"results.previous-{number}.json": content for number, content in ((1, b"one"), (3, b"three"), (4, b"four"))
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("absent", {}),
        ("corrupt", {}),
        ("broken", {}),
        ("valley", {"device": "cuda"}),
        ("valley", {"threads": 2}),
        ("valley", {"seeds": 1001}),
        ("device", {"device": ""}),
        ("device", {"device": "cuda", "resume": True}),
    ],
)
def test_a_benchmark_that_cannot_start_leaves_the_folder_unchanged(tmp_path, command_tasks, name, options):
    run_command("device", tmp_path)
    before = read_files(tmp_path)
    assert "report.html" in before
    with pytest.raises((RMSpropError, OSError)):
        run_command(name, tmp_path, **options)
    assert read_files(tmp_path) == before


def test_an_interruption_before_the_first_trial_leaves_the_folder_unchanged(tmp_path, command_tasks, monkeypatch):
    run_command("valley", tmp_path)
    before = read_files(tmp_path)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("rmsprop.race.run.train", interrupt)
    outcome, text = run_command("valley", tmp_path)
    assert outcome.status == "interrupted"
    assert f"Interrupted before a trial was finished: {tmp_path} is unchanged." in text
    assert read_files(tmp_path) == before


def test_a_new_benchmark_renames_the_earlier_results_and_says_so(tmp_path, command_tasks):
    for _ in range(3):
        _, text = run_command("valley", tmp_path)
    assert f"The earlier results are kept as {tmp_path / 'results.previous-2.json'}." in text
    assert sorted(read_files(tmp_path)) == [
        "curves.png", "report.html", "results.json", "results.previous-1.json", "results.previous-2.json",
    ]  # fmt: skip


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path, command_tasks, disk):
    writes = itertools.count()
    disk(lambda: next(writes) in (1, 2))
    outcome, text = run_command("valley", tmp_path)
    assert outcome.status == "complete"
    assert text.count("Not saved, training continues: ") == 1
    assert Folder(tmp_path).load().trials == outcome.results.trials
    assert {"report.html", "curves.png"} <= set(read_files(tmp_path))


def test_a_disk_that_stays_full_keeps_what_was_saved_and_the_benchmark_can_be_resumed(tmp_path, command_tasks, disk):
    writes = itertools.count()
    disk(lambda: next(writes) >= 3)
    with pytest.raises(FileError, match=r"the disk is full.*Not written: 2 of 5 finished trials, and the report"):
        run_command("valley", tmp_path)
    assert len(Folder(tmp_path).load().trials) == 3
    disk(lambda: False)
    outcome, text = run_command("valley", tmp_path, resume=True)
    assert outcome.status == "complete"
    assert "Resuming: 3 of 5 trials were done before." in text


def test_a_disk_that_is_too_full_for_the_report_keeps_all_trials(tmp_path, command_tasks, disk):
    writes = itertools.count()
    disk(lambda: next(writes) >= 6)
    with pytest.raises(FileError, match=r"All trials are in .*results\.json; the report is incomplete"):
        run_command("valley", tmp_path)
    assert len(Folder(tmp_path).load().trials) == 5
