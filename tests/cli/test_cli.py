"""The `rmsprop` command: help, examples, and errors in one line."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import rmsprop
from rmsprop.cli import COMMANDS, app, main
from rmsprop.errors import InputError
from rmsprop.select import SYNONYMS

FULL = Path("/dev/full")
"""A device whose disk is always full."""


def rmsprop_process(*words, **options):
    return subprocess.run([sys.executable, "-m", "rmsprop", *words], text=True, check=False, **options)


def test_help_lists_the_commands_and_shows_examples(call, run_ok):
    output = run_ok("--help")
    assert "rmsprop race digits" in output
    assert all(name in output for name in COMMANDS)
    assert "Usage:" in call().output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_examples_of_itself(name, run_ok):
    assert f"\n    rmsprop {name} " in run_ok(name, "--help")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["minimize", "compare", "dialects", "recipes"])
def test_the_examples_in_the_help_run(name, run_ok, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(rf"^ *rmsprop ({name}.*)$", run_ok(name, "--help"), flags=re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        run_ok(*shlex.split(example), *(["--size", "400x300", "--seconds", "0.1"] if "--animate" in example else []))


def test_the_version_is_the_packages(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rmsprop", "--version"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"rmsprop {rmsprop.__version__}, Python ")


@pytest.mark.parametrize(
    "words", [["--help"], ["race", "--help"], ["race", "--list"], ["minimize", "--help"], ["dialects"], ["recipes"]]
)
def test_help_and_lists_load_nothing_heavy(words):
    program = f"""
import sys
from typer.testing import CliRunner
from rmsprop.cli import app
assert CliRunner().invoke(app, {words}).exit_code == 0
print({{"matplotlib", "PIL", "sklearn", "torch", "jax", "keras", "scipy"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Errors


def test_an_unknown_command_suggests_the_nearest(call):
    result = call("rcae")
    assert result.exit_code == 2
    assert "Did you mean 'race'?" in result.output


def find_options(name):
    group = typer.main.get_command(app)
    return {option for parameter in group.get_command(None, name).params for option in parameter.opts}


FOREIGN = ("learning_rate", "alpha", "decay", "epsilon", "wd", "eps_in_sqrt")
SPELLINGS = {f"--{word.replace('_', '-')}": f"--{SYNONYMS[word].replace('_', '-')}" for word in FOREIGN}


@pytest.mark.parametrize(
    ("name", "foreign", "ours"),
    [(name, foreign, ours) for name in COMMANDS for foreign, ours in SPELLINGS.items() if ours in find_options(name)],
)
@pytest.mark.parametrize("given", ["{} 0.1", "{}=0.1"])
def test_another_librarys_word_names_the_option(name, foreign, ours, given, call):
    result = call(name, "x", *given.format(foreign).split())
    assert result.exit_code == 2
    assert result.stderr == f"error: No such option: {foreign}. Did you mean {ours}?\n"


def test_another_librarys_word_without_an_option_here_is_unknown_as_any_other(call):
    result = call("race", "digits", "--learning-rate", "0.1")
    assert result.exit_code == 2
    assert "No such option: --learning-rate" in result.output
    assert "--lr" not in result.output


def test_a_refusal_is_one_red_line_without_a_traceback(call):
    result = call("recipes", "a2d")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: unknown recipe 'a2d', did you mean 'a2c'")
    assert result.stderr.count("\n") == 1
    assert "\x1b[31m" in call("recipes", "a2d", NO_COLOR=None, FORCE_COLOR="1", TERM="xterm").stderr


@pytest.mark.parametrize("words", [["--debug", "race", "digitz"], ["race", "digitz", "--debug"]])
def test_debug_shows_the_traceback(words, call):
    assert isinstance(call(*words).exception, InputError)


FULL_DISK = "error: No space left on device; --debug shows where\n"


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["dialects"], ["recipes"], ["--version"], ["--help"]])
def test_output_to_a_full_disk_is_an_error_in_one_line(words, monkeypatch, capsys):
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        monkeypatch.setattr(sys, "argv", ["rmsprop", *words])
        with pytest.raises(SystemExit) as caught:
            main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == FULL_DISK


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_process_with_a_full_disk_prints_nothing_more_at_its_end():
    with FULL.open("w") as full:
        result = rmsprop_process("dialects", stdout=full, stderr=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (2, FULL_DISK)


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_file_on_a_full_disk_is_an_error_in_one_line(call, tmp_path):
    (tmp_path / "run.csv").symlink_to(FULL)
    words = ["minimize", "x^2", "--start", "1", "--steps", "3", "--csv", str(tmp_path / "run.csv")]
    result = call(*words)
    assert result.exit_code == 2
    assert result.stderr == FULL_DISK
    assert isinstance(call(*words, "--debug").exception, OSError)


def test_a_file_that_cannot_be_written_is_named(call, tmp_path):
    (tmp_path / "run.csv").mkdir()
    result = call("minimize", "x^2", "--start", "1", "--steps", "3", "--csv", str(tmp_path / "run.csv"))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {tmp_path / 'run.csv'}: ")
    assert result.stderr.count("\n") == 1


def test_control_characters_are_escaped(call, run_ok, tmp_path):
    output = run_ok("minimize", "x^2", "--start", "1", "--steps", "3", "--csv", str(tmp_path / "a\x1b[2Jb.csv"))
    assert "a\\x1b[2Jb.csv\n" in output
    assert "\x1b" not in output
    assert "a\\x1b[2Jb.txt: suffix" in call("minimize", "x^2", "--csv", "a\x1b[2Jb.txt").stderr


def test_a_terminal_without_unicode_gets_ascii():
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = rmsprop_process("minimize", "ravine", env=env, capture_output=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.isascii()
    assert "loss     ?" in result.stdout
