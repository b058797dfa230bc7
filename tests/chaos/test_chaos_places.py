"""Promise: a full disk, a read-only folder, a second program and odd surroundings never end in a traceback."""

import os

import pytest
from chaos_programs import PRINTERS, SHORT

from rmsprop import checkpoints
from rmsprop.race import Folder

pytestmark = pytest.mark.timeout(600)


def choose(*names):
    """Return the names as parameters; `make test` runs a few of them too."""
    few = "convert", "convert to orbax", "dialects", "minimize"
    return [pytest.param(name, marks=pytest.mark.slow if name in few else pytest.mark.chaos) for name in names]


def list_files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("kind", ["full", "ro"])
@pytest.mark.parametrize("name", choose(*SHORT))
def test_a_full_or_read_only_folder_is_named_and_unchanged(mount, name, kind):
    starter = mount(kind)
    before = list_files(starter.folder)
    code, _, errors = starter.run(*SHORT[name])
    assert code == 2
    assert "\nerror: " in f"\n{errors}"
    assert list_files(starter.folder) == before


@pytest.mark.parametrize("name", choose(*PRINTERS))
def test_a_full_disk_behind_the_output_is_one_line(starter, name):
    with open("/dev/full", "w") as full:
        code, _, errors = starter.run(*PRINTERS[name], stdout=full)
    assert code
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("name", choose(*PRINTERS, *SHORT))
def test_a_reader_that_is_gone_is_no_traceback(starter, name):
    reader, writer = os.pipe()
    os.close(reader)
    code, *_ = starter.run(*{**PRINTERS, **SHORT}[name], stdout=writer)
    os.close(writer)
    assert code


@pytest.mark.parametrize("name", choose(*PRINTERS, *SHORT))
def test_a_narrow_terminal_in_ascii_shows_everything(starter, name):
    env = {"COLUMNS": "40", "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    code, output, errors = starter.run(*{**PRINTERS, **SHORT}[name], env=env)
    assert code == 0, errors
    assert output.isascii()
    assert output.strip()


@pytest.mark.chaos
@pytest.mark.parametrize("name", SHORT)
def test_two_at_once_both_end_and_what_is_left_is_whole(starter, name):
    programs = [starter.start(*SHORT[name]) for _ in range(2)]
    ends = [(*program.communicate(timeout=200), program.returncode) for program in programs]
    assert min(code for _, _, code in ends) == 0, ends
    for _, errors, code in ends:
        assert "Traceback" not in errors
        assert code == 0 or (code == 2 and "another process writes there" in errors), errors
    out = starter.folder / "out"
    if name == "race":
        assert len(Folder(out).load().trials) == 6
    if name.startswith("convert"):
        assert checkpoints.read(starter.folder / SHORT[name][2]).elements == 5000
    assert not [path for path in starter.folder.rglob("*") if path.suffix in (".part", ".old")]


@pytest.mark.slow
def test_without_a_terminal_nothing_is_colored(starter):
    code, output, _ = starter.run(*SHORT["minimize"])
    assert code == 0
    assert "\x1b" not in output
