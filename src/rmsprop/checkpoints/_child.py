"""Readers that run C libraries, in a process of their own: a file that crashes it or never ends is only an error.

The child gets the request as JSON, limits its memory, and writes the snapshot to its standard output as a pickle of
arrays, which is read as carefully as any other file.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from rmsprop import errors
from rmsprop.checkpoints._bounds import RATIO, SLACK, raise_file_errors
from rmsprop.checkpoints._pickles import load_pickle
from rmsprop.checkpoints._shared import Options
from rmsprop.checkpoints._snapshot import Group, Parameter, Snapshot
from rmsprop.errors import FileError
from rmsprop.rule import Rule

__all__ = ["read_in_child", "read_safely", "serve"]

_STACKS = 2**25 * (os.cpu_count() or 1)
"""Bytes for the stacks of threads, of which large packages start some for each core."""
_PACKAGES = {
    "keras": ("h5py", 2**27),
    "pytorch": ("torch", 2**31),
    "tensorflow": ("tensorflow", 2**31 + _STACKS),
    "optax": ("orbax.checkpoint", 2**32 + _STACKS),
}
"""Module: the package that reads its files, and the bytes of memory that this package needs beside them."""
SECONDS = 60.0
RATE = 5e6
"""Bytes per second of the slowest disk: the time limit is `SECONDS` and the file's size over this."""
_START = (
    "import json, sys; request = json.load(sys.stdin); sys.path[:] = request['path']; "
    "from rmsprop.checkpoints._child import serve; serve(request)"
)


def read_safely(reader: ModuleType, path: Path, options: Options, *, size: int) -> Snapshot:
    """Read a checkpoint of `size` bytes, in a process of its own if a package reads it that is not loaded yet.

    A program that has loaded a package trusts its files; but not those of HDF5, which may never end.
    """
    package, room = _PACKAGES.get(_get_name(reader), ("", 0))
    if not package or (package in sys.modules and package != "h5py"):
        return reader.read(path, options)
    return read_in_child(reader, path, options, size=size, room=room)


def _get_name(reader: ModuleType) -> str:
    return reader.__name__.rpartition(".")[2]


def read_in_child(reader: ModuleType, path: Path, options: Options, *, size: int, room: int) -> Snapshot:
    """Read a checkpoint in another process; raise `FileError` if that crashes or reaches a limit."""
    name = _get_name(reader)
    limit = 2 * min(RATIO * size + SLACK, 8 * size + 2**30) + room
    request = {"path": sys.path, "reader": reader.__name__, "file": str(path), "options": options, "limit": limit}
    seconds = SECONDS + size / RATE
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _START],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=seconds,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FileError(f"{path}: not read by {name} within {seconds:.0f} s: corrupt, or made to never end") from None
    if done.returncode:
        end = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise FileError(f"{path}: corrupt: reading it by {name} ended in {end} ({lines[-1] if lines else 'no output'})")
    answer = load_pickle(done.stdout)
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["text"])
    for used in set(options) - set(answer["unused"]):
        del options[used]
    groups = [Group(**{**group, "rule": group["rule"] and Rule.from_json(group["rule"])}) for group in answer["groups"]]
    parameters = [Parameter(**parameter) for parameter in answer["parameters"]]
    return Snapshot(**answer["snapshot"], parameters=tuple(parameters), groups=tuple(groups))


def serve(request: Mapping[str, Any]) -> None:
    """Answer a request of `read_in_child`: the whole program of the child."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # some libraries print
    path, reader, options = Path(request["file"]), importlib.import_module(request["reader"]), request["options"]
    with contextlib.suppress(ImportError):  # Windows, where only the time is limited
        import resource

        # What the reader's library, not loaded yet, will allocate is part of the limit.
        resource.setrlimit(resource.RLIMIT_DATA, (_count_data() + request["limit"],) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer: dict[str, Any]
    try:
        with raise_file_errors(path, f"{_get_name(reader)} checkpoint"):
            fields = dict(vars(reader.read(path, options)))
        groups = [{**vars(group), "rule": group.rule and group.rule.to_json()} for group in fields.pop("groups")]
        parameters = [vars(parameter) for parameter in fields.pop("parameters")]
        answer = {"snapshot": fields, "parameters": parameters, "groups": groups, "unused": list(options)}
    except errors.RMSpropError as error:
        answer = {"error": type(error).__name__, "text": str(error)}
    with out:
        pickle.dump(answer, out, protocol=4)


def _count_data() -> int:
    """Return the bytes of data that this process has now; 0 if the system does not say."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    return 0
