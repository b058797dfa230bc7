"""Promise: a conversion replaces only what it should, and a hostile input costs little memory."""

from __future__ import annotations

import os
import pathlib
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from test_checkpoints_crafted import RAW, make_weights, write_keras, write_weights
from typer.testing import CliRunner

import rmsprop
from checkpointing import RECORDED, TO_NAMES, save_fresh
from rmsprop import checkpoints
from rmsprop._files import write_atomically
from rmsprop.checkpoints import _child, native, pytorch
from rmsprop.cli import app
from rmsprop.errors import FileError, InputError

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("orbax.checkpoint", reason="orbax is not installed")


def write_text(path, content="new"):
    with write_atomically(path) as temporary:
        temporary.write_text(content)


def convert_to_optax(target, **options):
    return checkpoints.convert(RECORDED / "timm.pt", target, to="optax", names=TO_NAMES, **options)


def test_a_link_is_followed_and_a_mode_is_kept(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file)
    write_text(link)
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_device_and_a_fifo_are_written_to_and_stay(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE)
    write_text(fifo)
    assert reader.communicate(timeout=60)[0] == b"new"
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    rmsprop.RMSprop({"w": np.ones(3)}, lr=0.1).save("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_dangling_link_is_not_replaced_without_force(tmp_path):
    link = tmp_path / "out.msgpack"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="exists; nothing was written"):
        convert_to_optax(link)
    convert_to_optax(link, force=True)
    assert link.is_symlink()
    assert (tmp_path / "elsewhere").is_file()


def test_temporary_files_of_killed_saves_are_removed_after_a_day(tmp_path):
    old = [tmp_path / f".{name}.0123456789ab.part" for name in ("a", "b")]
    young, other, kept = tmp_path / ".c.0123456789ab.part", tmp_path / "notes.part", tmp_path / ".a.0123456789ab.old"
    old[0].write_text("")
    (old[1] / "inside").mkdir(parents=True)
    for path in (young, other, kept):
        path.write_text("")
    for path in (*old, other, kept):
        os.utime(path, (time.time() - 90_000,) * 2)
    write_text(tmp_path / "a")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a", young, other, kept])


def test_force_replaces_an_orbax_folder_and_no_other(tmp_path):
    project, folder = tmp_path / "project", tmp_path / "state"
    (project / ".git").mkdir(parents=True)
    for path in (project, folder):
        if path is folder:
            convert_to_optax(path)
            convert_to_optax(path, force=True)
            (path / ".git").mkdir()
        with pytest.raises(InputError, match="a folder that holds more than an Orbax checkpoint"):
            convert_to_optax(path, force=True)
        assert (path / ".git").is_dir()
    (tmp_path / "empty").mkdir()
    convert_to_optax(tmp_path / "empty", force=True)
    assert checkpoints.read(tmp_path / "empty").format == "optax"


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("to", ["torch", "paddle", "rmsprop"])
def test_a_full_disk_is_an_error_of_one_line(to, tmp_path):
    words = ["convert", str(RECORDED / "timm.pt"), "/dev/full", "--force", "--lr", "0.1"]
    words += ["--like", str(save_fresh(tmp_path / "a", rmsprop.Rule()))] if to == "rmsprop" else ["--to", to]
    if to != "torch":
        (tmp_path / "names.json").write_text('{"0": "w", "1": "b"}')
        words += ["--map", str(tmp_path / "names.json")]
    result = CliRunner(env={"COLUMNS": "1000", "NO_COLOR": "1"}).invoke(app, words)
    assert result.exit_code == 2, result.output or result.exception
    assert "/dev/full: could not be written (No space left on device)" in result.stderr


@pytest.mark.parametrize(
    "content", [None, "[" * 100_000, '{"a": ' * 900 + "1" + "}" * 900, '{"0": {"to": "w", "transpose": [0, "x"]}}']
)
def test_a_file_that_is_not_a_names_map_raises(content, tmp_path):
    names = tmp_path / "names.json"
    os.mkfifo(names) if content is None else names.write_text(content)
    for given in (names, "/dev/zero"):
        with pytest.raises((FileError, InputError), match=r"names\.json|/dev/zero"):
            checkpoints.convert(RECORDED / "timm.pt", tmp_path / "out.pt", to="torch", names=given)


def test_a_reader_that_crashes_or_never_ends_is_an_error(tmp_path, monkeypatch):
    file = write_weights(tmp_path / "a.weights.h5", lambda file, group: None)
    options = {"slots": ["velocity"], "schedule": False}
    assert checkpoints.read(file, **options).step == 3
    with pytest.raises(InputError, match=r"^at: .*does not need this option"):
        checkpoints.read(file, **options, at="g")
    (tmp_path / "h5py.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FileError, match=r"a\.weights\.h5: corrupt: reading it by keras ended in SIGSEGV"):
        checkpoints.read(file, **options)
    monkeypatch.setattr(_child, "SECONDS", 0.0)
    (tmp_path / "h5py.py").write_text("while True: pass")
    with pytest.raises(FileError, match=r"a\.weights\.h5: not read by keras within 0 s"):
        checkpoints.read(file, **options)


def test_a_snapshot_from_another_process_is_complete(tmp_path):
    for file in (save_fresh(tmp_path / "a", rmsprop.Rule(rho=0.9, momentum=0.9, buffer="unit")), RECORDED / "timm.pt"):
        snapshot = checkpoints.read(file)
        reader = native if snapshot.format == "rmsprop" else pytorch
        other = _child.read_in_child(reader, file, {}, size=10**6, room=2**31)
        assert repr(other) == repr(snapshot)


MEMORY = """
import re, resource, sys
import rmsprop.checkpoints  # and nothing large: a child counts as much as its parent had when it started it
def peak(): return int(re.search("VmHWM: *(\\d+)", open("/proc/self/status").read().replace("\\t", " "))[1]) / 1024
before = peak()
for path in sys.argv[1:]:
    try:
        rmsprop.checkpoints.read(path)
    except rmsprop.errors.FileError:
        pass
    else:
        raise SystemExit(f"{path}: was read")
print(peak() - before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of a process is read from /proc")
def test_a_hostile_file_costs_at_most_200_megabytes(tmp_path):
    files = [tmp_path / name for name in RAW if name.endswith(("pdopt", "msgpack"))]
    for file in files:
        file.write_bytes(RAW[file.name])
    zeros = np.zeros(2**26, "f4")
    declare = lambda file, group: group.create_dataset("3", (2**32,), "f4")  # noqa: E731
    compress = lambda file, group: group.create_dataset("3", data=zeros, compression="gzip")  # noqa: E731
    files += [
        write_keras(tmp_path / "zeros.keras", "{}", b"\0" * 2**29),
        write_keras(tmp_path / "brackets.keras", "[" + "[]," * 1_300_000 + "1]", make_weights(tmp_path)),
        write_keras(tmp_path / "long.keras", " " * 2**28, make_weights(tmp_path)),
        write_weights(tmp_path / "b.weights.h5", declare),
        write_weights(tmp_path / "c.weights.h5", compress),
    ]
    command = [sys.executable, "-c", MEMORY, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr + done.stdout
    own, child = map(float, done.stdout.split())
    assert own < 200
    assert child < 200
