"""`rmsprop race` from beginning to end: files, errors, interruptions, and going on after them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from rmsprop.race.display import Display
from rmsprop.race.record import Trial

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

MINI = ["race", "digits", "--quick", "--epochs", "2", "--seeds", "2", "--with", "sgd,rmsprop"]
ONE_EPOCH = ["race", "digits", "--quick", "--epochs", "1"]


def load(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def finished_race(tmp_path_factory, call):
    """A finished race: its folder, and what the command printed."""
    out = tmp_path_factory.mktemp("race")
    result = call(*MINI, "--out", str(out))
    assert result.exit_code == 0, result.output
    return out, result.output


def test_list_names_tasks_with_their_source_and_the_optimizers(run_ok):
    output = run_ok("race", "--list")
    for word in ("digits", "scikit-learn", "CC BY 4.0", "rmsprop", "adadelta"):
        assert word in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["race", "digitz"], "error: unknown task 'digitz': did you mean 'digits'? known: digits"),
        (["race"], "error: which task? one of: digits, "),
        (["race", "digits", "--with", "adma"], "error: unknown optimizer 'adma': did you mean 'adam'?"),
        (["race", "digits", "--with", ","], "error: --with names no optimizer"),
        (["race", "digits", "--seeds", "2000"], "error: seeds=2000, expected 1 to 1000"),
        ([*MINI, "--out", "file"], "error: "),
    ],
)
def test_a_refusal_is_one_line_and_comes_before_the_training(words, message, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    result = call(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert ("choose another --out" in result.stderr) == ("file" in words)


def test_a_number_out_of_its_range_is_refused_by_its_option(call):
    result = call("race", "digits", "--epochs", "0")
    assert result.exit_code == 2
    assert "--epochs" in result.output


@pytest.mark.slow
def test_a_race_writes_its_three_files_and_prints_what_it_wrote(finished_race):
    out, output = finished_race
    assert sorted(file.name for file in out.glob("[!.]*")) == ["curves.png", "report.html", "results.json"]
    *_, place, verdict = output.strip().splitlines()
    results = load(out)
    assert place == f"Report: {out / 'report.html'}"
    assert (verdict, results["complete"]) == (results["verdict"], True)
    assert "Time in step:" in output
    for line in results["table"]:
        assert f"{100 * line['mean']:.2f} % ± {100 * line['spread']:.2f}" in output


@pytest.mark.slow
def test_resuming_a_finished_race_only_redraws_it(finished_race, run_ok):
    out, _ = finished_race
    before = load(out)["trials"]
    (out / "report.html").unlink()
    assert "12 of 12 trials were done before" in run_ok("race", "digits", "--resume", "--out", str(out))
    assert (out / "report.html").exists()
    assert load(out)["trials"] == before


@pytest.mark.slow
@pytest.mark.parametrize(("trials", "has_report"), [(3, False), (10, True)])
def test_ctrl_c_keeps_what_is_done_and_resume_goes_on(
    tmp_path, monkeypatch, finished_race, trials, has_report, call, run_ok
):
    show, ended = Display.__call__, []

    def interrupt(self, event):
        show(self, event)
        ended.append(isinstance(event, Trial))
        if sum(ended) == trials:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Display, "__call__", interrupt)
        result = call(*MINI, "--out", str(tmp_path))
    assert result.exit_code == 130
    assert f": {trials} finished trials are " in result.output
    assert "--resume" in result.output
    assert (tmp_path / "report.html").exists() is has_report
    assert load(tmp_path)["complete"] is False

    assert f"{trials} of 12 trials were done before" in run_ok("race", "digits", "--resume", "--out", str(tmp_path))
    scores, expected = (
        [(row["optimizer"], row["scores"]) for row in load(at)["table"]] for at in (tmp_path, finished_race[0])
    )
    assert scores == expected


@pytest.mark.slow
def test_resume_adds_seeds_and_optimizers(tmp_path, run_ok):
    words = [*ONE_EPOCH, "--out", str(tmp_path)]
    assert "Nothing to resume" in run_ok(*words, "--seeds", "1", "--with", "rmsprop", "--resume")
    output = run_ok(*words, "--seeds", "2", "--with", "sgd", "--resume")
    assert "5 of 12 trials were done before" in output
    assert {row["optimizer"]: len(row["scores"]) for row in load(tmp_path)["table"]} == {"rmsprop": 2, "sgd": 2}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_signal_to_a_process_leaves_a_race_that_can_be_resumed(tmp_path):
    # A parent that runs in the background may have SIGINT ignored, which children inherit.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from rmsprop.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "race", "digits", "--with", "rmsprop", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (tmp_path / "results.json").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "finished trials are " in output
    assert "Traceback" not in output
    assert load(tmp_path)["trials"]
