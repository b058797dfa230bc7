"""The `rmsprop` command: help, errors in one line, and a benchmark from beginning to end."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

import rmsprop
from rmsprop.cli import COMMANDS, app
from rmsprop.errors import InputError
from rmsprop.race.display import Display
from rmsprop.race.run import TrialEnded
from rmsprop.select import SYNONYMS

MINI = ["race", "digits", "--quick", "--epochs", "2", "--seeds", "2", "--with", "sgd,rmsprop"]


def call(*words):
    return CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"}).invoke(app, list(words))


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    out = tmp_path_factory.mktemp("race")
    return out, call(*MINI, "--out", str(out))


def test_help_lists_the_commands_and_shows_examples():
    result = call("--help")
    assert result.exit_code == 0
    assert "rmsprop race digits" in result.output
    assert all(name in result.output for name in COMMANDS)


def test_without_a_command_the_help_is_shown():
    assert "Usage:" in call().output


def test_every_command_shows_an_example_of_itself():
    for name in COMMANDS:
        result = call(name, "--help")
        assert result.exit_code == 0
        assert f"\n    rmsprop {name} " in result.output


def test_the_version_is_the_packages():
    result = call("--version")
    assert result.exit_code == 0
    assert result.output.startswith(f"rmsprop {rmsprop.__version__}, Python ")


def test_an_unknown_command_suggests_the_nearest():
    result = call("rcae")
    assert result.exit_code == 2
    assert "Did you mean 'race'?" in result.output


def options_of(name):
    group = typer.main.get_command(app)
    return {option for parameter in group.get_command(None, name).params for option in parameter.opts}


@pytest.mark.parametrize(
    ("name", "foreign", "ours"),
    [
        (name, f"--{foreign.replace('_', '-')}", f"--{SYNONYMS[foreign].replace('_', '-')}")
        for name in COMMANDS
        for foreign in ("learning_rate", "alpha", "decay", "epsilon", "wd", "eps_in_sqrt")
        if f"--{SYNONYMS[foreign].replace('_', '-')}" in options_of(name)
    ],
)
@pytest.mark.parametrize("given", ["{} 0.1", "{}=0.1"])
def test_another_librarys_word_names_the_option(name, foreign, ours, given):
    result = call(name, "x", *given.format(foreign).split())
    assert result.exit_code == 2
    assert result.stderr == f"error: No such option: {foreign}. Did you mean {ours}?\n"


def test_a_foreign_word_without_an_option_here_is_refused_as_any_other():
    assert not {"--lr", "--alpha"} & options_of("race")
    result = call("race", "digits", "--learning-rate", "0.1")
    assert result.exit_code == 2
    assert "No such option: --learning-rate" in result.output
    assert "--lr" not in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["race", "digitz"], "error: unknown task 'digitz': did you mean 'digits'? known: digits"),
        (["race"], "error: which task? one of: digits, "),
        (["race", "digits", "--with", "adma"], "error: unknown optimizer 'adma': did you mean 'adam'?"),
        (["race", "digits", "--with", ","], "error: --with names no optimizer"),
        (["race", "digits", "--seeds", "2000"], "error: seeds=2000, expected 1 to 1000"),
    ],
)
def test_a_refusal_is_one_line_without_a_traceback(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_a_number_out_of_its_range_is_refused_by_its_option():
    result = call("race", "digits", "--epochs", "0")
    assert result.exit_code == 2
    assert "--epochs" in result.output


@pytest.mark.parametrize("words", [["--debug", "race", "digitz"], ["race", "digitz", "--debug"]])
def test_debug_shows_the_traceback(words):
    assert isinstance(call(*words).exception, InputError)


def test_a_refusal_is_red_on_a_terminal():
    result = CliRunner(env={"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "160"}).invoke(app, ["race", "digitz"])
    assert "\x1b[31m" in result.stderr


def test_help_and_list_load_nothing_heavy():
    program = """
import sys
from typer.testing import CliRunner
from rmsprop.cli import app
for words in (["--help"], ["race", "--help"], ["race", "--list"]):
    assert CliRunner().invoke(app, words).exit_code == 0
print({"matplotlib", "sklearn", "torch", "jax", "keras", "scipy"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "rmsprop", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("rmsprop ")


def test_list_names_tasks_with_their_source_and_the_optimizers():
    output = call("race", "--list").output
    for word in ("digits", "scikit-learn", "CC BY 4.0", "rmsprop", "adadelta"):
        assert word in output


def test_a_race_writes_its_three_files_and_ends_with_the_report_and_the_verdict(raced):
    out, result = raced
    assert result.exit_code == 0, result.output
    assert sorted(file.name for file in out.iterdir()) == ["curves.png", "report.html", "results.json"]
    *_, place, verdict = result.output.strip().splitlines()
    tree = json.loads((out / "results.json").read_text())
    assert place == f"Report: {out / 'report.html'}"
    assert verdict == tree["verdict"]
    assert tree["complete"] is True
    assert "Time in step:" in result.output


def test_the_table_printed_is_the_table_kept(raced):
    out, result = raced
    for line in json.loads((out / "results.json").read_text())["table"]:
        assert f"{100 * line['mean']:.2f} % ± {100 * line['spread']:.2f}" in result.output


def test_resuming_a_finished_race_only_redraws_it(raced):
    out, _ = raced
    before = json.loads((out / "results.json").read_text())["trials"]
    (out / "report.html").unlink()
    result = call("race", "digits", "--resume", "--out", str(out))
    assert result.exit_code == 0
    assert "12 of 12 trials were done before" in result.output
    assert (out / "report.html").exists()
    assert json.loads((out / "results.json").read_text())["trials"] == before


def test_resuming_under_other_rules_is_refused_and_changes_nothing(raced):
    out, _ = raced
    before = (out / "results.json").read_bytes()
    result = call("race", "digits", "--resume", "--epochs", "7", "--out", str(out))
    assert result.exit_code == 2
    assert "epochs=2, but epochs=7 was asked for" in result.stderr
    assert (out / "results.json").read_bytes() == before


def _impatient(monkeypatch, ends):
    """Press Ctrl-C after so many trials."""
    heard = []
    real = Display.__call__

    def listen(self, event):
        real(self, event)
        heard.append(isinstance(event, TrialEnded))
        if sum(heard) == ends:
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "__call__", listen)


@pytest.mark.parametrize(("ends", "reported"), [(3, False), (10, True)])
def test_ctrl_c_keeps_what_is_done_and_resume_goes_on(tmp_path, monkeypatch, raced, ends, reported):
    whole = json.loads((raced[0] / "results.json").read_text())
    with monkeypatch.context() as patch:
        _impatient(patch, ends)
        result = call(*MINI, "--out", str(tmp_path))
    assert result.exit_code == 130
    assert f"Interrupted: {ends} finished trials are in" in result.output
    assert "--resume" in result.output
    assert (tmp_path / "report.html").exists() is reported
    assert json.loads((tmp_path / "results.json").read_text())["complete"] is False

    result = call("race", "digits", "--resume", "--out", str(tmp_path))
    assert result.exit_code == 0
    assert f"{ends} of 12 trials were done before" in result.output
    tree = json.loads((tmp_path / "results.json").read_text())
    assert [(line["optimizer"], line["scores"]) for line in tree["table"]] == [
        (line["optimizer"], line["scores"]) for line in whole["table"]
    ]


def test_resume_adds_seeds_and_optimizers(tmp_path):
    pytest.importorskip("sklearn")
    words = ["race", "digits", "--quick", "--epochs", "1", "--out", str(tmp_path)]
    assert call(*words, "--seeds", "1", "--with", "rmsprop").exit_code == 0
    result = call(*words, "--seeds", "2", "--with", "sgd", "--resume")
    assert result.exit_code == 0, result.output
    assert "5 of 12 trials were done before" in result.output
    table = json.loads((tmp_path / "results.json").read_text())["table"]
    assert {line["optimizer"]: len(line["scores"]) for line in table} == {"rmsprop": 2, "sgd": 2}


def test_resume_without_an_earlier_race_begins_one(tmp_path):
    pytest.importorskip("sklearn")
    result = call(*MINI, "--resume", "--out", str(tmp_path / "new"))
    assert result.exit_code == 0
    assert "Nothing to resume" in result.output


def test_a_corrupt_file_is_not_resumed_and_a_new_race_sets_it_aside(tmp_path):
    pytest.importorskip("sklearn")
    (tmp_path / "results.json").write_text('{"format": 1, "sett')
    refused = call(*MINI, "--resume", "--out", str(tmp_path))
    assert refused.exit_code == 2
    assert "not the results of a benchmark" in refused.stderr
    result = call(*MINI, "--out", str(tmp_path))
    assert result.exit_code == 0
    assert (tmp_path / "results.previous-1.json").read_text() == '{"format": 1, "sett'


def test_an_out_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    result = call(*MINI, "--out", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert "choose another --out" in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_real_interrupt_of_a_real_process_leaves_a_race_that_can_be_resumed(tmp_path):
    pytest.importorskip("sklearn")
    # A parent that runs in the background may have SIGINT ignored, which children inherit.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from rmsprop.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "race", "digits", "--with", "rmsprop", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    file = tmp_path / "results.json"
    while not file.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "finished trials are in" in output
    assert "Traceback" not in output
    assert json.loads(file.read_text())["trials"]
