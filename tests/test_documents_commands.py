"""Promise: the commands, files, names and links of the documents exist."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import rmsprop
from pages import PAGES, ROOT, Piece, anchors, links, shell_lines, spans
from rmsprop import cli
from rmsprop.race import choice
from rmsprop.race import task as tasks

PROGRAMS = ("rmsprop", "make", "python", "torchrun", "pip")
QUICK = ("minimize", "compare", "dialects", "recipes")
"""The commands that are run and not only parsed: a second each, without their animations."""


def find_commands() -> list[Piece]:
    """Return the commands in indented blocks and in the text."""
    found = [line for page in PAGES for line in shell_lines(page) if line.text.split(" ")[0] in PROGRAMS]
    return found + [span for page in PAGES for span in spans(page) if span.text.split(" ")[0] in PROGRAMS]


def split(command: Piece) -> list[str]:
    return shlex.split(command.text, comments=True)


def list_cases(program: str, *, more_than: int = 1) -> list:
    """Return test parameters: the commands that begin with a program, each once, where they first stand."""
    first = {tuple(split(command)): command for command in reversed(find_commands()) if split(command)[0] == program}
    return [
        pytest.param(list(argv[1:]), id=f"{command.page}:{command.line} {shlex.join(argv)}")
        for argv, command in sorted(first.items(), key=lambda item: (item[1].page, item[1].line))
        if len(argv) > more_than
    ]


def get_subcommand(name: str):
    """Return the parser of `rmsprop NAME`."""
    group = typer.main.get_command(cli.app)
    found = group.get_command(None, name)
    assert found is not None, f"no command {name!r}, expected one of {', '.join(cli.COMMANDS)}"
    return found


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", list_cases("rmsprop"))
def test_every_rmsprop_command_parses(argv):
    name, *rest = argv
    if not rest:
        get_subcommand(name)
        return
    read = get_subcommand(name).make_context(name, list(rest)).params
    task = read.get("task")
    if task and task != "TASK":
        assert {part for part in task.split(",") if part} <= {*tasks.names(), "all"}
    if task and read.get("baselines"):
        choice.parse(read["baselines"])


@pytest.mark.parametrize("argv", [case for case in list_cases("rmsprop", more_than=2) if case.values[0][0] in QUICK])
def test_the_quick_commands_run(argv, tmp_path, monkeypatch):
    if {"--plot", "--animate"} & set(argv):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed: the command draws")
    if "--animate" in argv:
        at = argv.index("--animate")
        argv = argv[:at] + argv[at + 2 :]
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(cli.app, argv)
    assert ran.exit_code == 0, ran.output
    if "--plot" in argv:
        assert (tmp_path / argv[argv.index("--plot") + 1]).stat().st_size > 0


@pytest.mark.parametrize("page", PAGES)
def test_every_option_in_the_text_exists(page):
    known = {
        word
        for name in cli.COMMANDS
        for option in get_subcommand(name).params
        for word in (*option.opts, *option.secondary_opts)
    }
    known |= {"--quick"}  # of the benches
    named = {re.split(r"[ =]", span.text)[0] for span in spans(page) if span.text.startswith("--")}
    assert named - known == set()


# ---- the other programs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", list_cases("make"))
def test_every_make_target_exists(argv):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    for word in argv:
        variable = word.partition("=")[0]
        assert word in targets or ("=" in word and f"$({variable})" in makefile), word


@pytest.mark.parametrize("argv", list_cases("python"))
def test_every_python_command_refers_to_existing_files(argv):
    if argv[0] == "-c":
        compile(argv[1], "the document", "exec")
        return
    if argv[:2] == ["-m", "bench"]:
        benches = {
            path.stem for path in (ROOT / "bench").glob("*.py") if "def main(" in path.read_text(encoding="utf-8")
        }
        assert set(argv[2:]) <= {*benches, "--quick"}
        return
    if argv[0] == "-m":
        assert importlib.util.find_spec(argv[1]) is not None
        return
    program = (ROOT / argv[0]).read_text(encoding="utf-8")
    for word in argv[1:]:
        assert not word.startswith("--") or f'"{word}"' in program, f"{word} is no option of {argv[0]}"


@pytest.mark.parametrize("argv", list_cases("torchrun"))
def test_every_file_given_to_torchrun_exists(argv):
    files = [word for word in argv if word.endswith(".py")]
    assert files
    assert all((ROOT / word).is_file() for word in files)


@pytest.mark.parametrize("argv", list_cases("pip"))
def test_every_extra_in_a_pip_command_is_declared(argv):
    asked = re.findall(r"^(?:rmsprop|\.)(?:\[(.*)\])?$", argv[-1])
    assert argv[0] == "install"
    assert asked, argv
    extras = set(importlib.metadata.metadata("rmsprop").get_all("Provides-Extra"))
    assert {extra for extra in asked[0].split(",") if extra} <= extras


def test_indented_blocks_hold_commands_or_a_directory_tree():
    for page in PAGES:
        if page == "docs/why/races.md":  # has a sample of generated text
            continue
        for line in shell_lines(page):
            first = line.text.split(" ")[0]
            assert first in {"", *PROGRAMS} or (ROOT / first).is_dir(), str(line)


# ---- files, names, links ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_every_file_in_the_text_exists(page):
    for span in spans(page):
        if re.fullmatch(r"[\w*-]+(/[\w*-]+)*/([\w*-]+\.(py|cpp|hpp|md|sh))?", span.text):
            bases = (ROOT, ROOT / "src" / "rmsprop")
            runs = span.text.startswith("runs/")  # what a command writes
            assert runs or any(list(base.glob(span.text)) for base in bases), str(span)


@pytest.mark.parametrize("page", PAGES)
def test_every_dotted_name_in_the_text_exists(page):
    """Read off the sources: importing every framework for this would take longer than it is worth."""
    for span in spans(page):
        for name in re.findall(r"\brmsprop(?:\.[A-Za-z_]\w*)+", span.text):
            module, rest = Path(rmsprop.__file__).parent, name.split(".")[1:]
            while rest and ((module / rest[0]).is_dir() or (module / f"{rest[0]}.py").is_file()):
                module /= rest.pop(0)
            file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
            source = file.read_text(encoding="utf-8")
            assert not rest or re.search(rf"\b{rest[0]}\b", source), f"{span}: {module.name} has no {rest[0]}"


def test_every_environment_variable_in_the_text_is_read_by_the_library():
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(rmsprop.__file__).parent.rglob("*.py"))
    for page in PAGES:
        for span in spans(page):
            for variable in re.findall(r"\bRMSPROP_[A-Z_]+", span.text):
                assert f'"{variable}"' in sources, str(span)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_exists(page):
    for link in links(page):
        if link.text.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.text.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), str(link)
        if anchor:
            assert target.suffix == ".md", str(link)
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), str(link)


def test_the_documents_have_something_to_check():
    for find in (spans, links):
        assert sum(len(find(page)) for page in PAGES) > 20
    assert all(list_cases(program) for program in PROGRAMS)
