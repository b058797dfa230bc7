"""Readers that run C libraries, in a process of their own: a file that crashes it or never ends is an error, not more.

The child gets the request as JSON and limits its memory. It writes the snapshot to its standard output as an npz file,
which is read without pickle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rmsprop import errors
from rmsprop.checkpoints._bounds import RATIO, SLACK, raise_file_errors
from rmsprop.checkpoints._reader import Options
from rmsprop.checkpoints._snapshot import Group, Parameter, Snapshot
from rmsprop.errors import FileError
from rmsprop.rule import Rule

__all__ = ["read_in_child", "serve"]

SECONDS = 60.0
RATE = 5e6
"""Bytes per second of the slowest disk: the time limit is `SECONDS` and the file's size over this."""
_START = (
    "import json, sys; request = json.load(sys.stdin); sys.path[:] = request['path']; "
    "from rmsprop.checkpoints._child import serve; serve(request)"
)


def read_in_child(reader: ModuleType, path: Path, options: Options, *, size: int) -> Snapshot:
    """Read a checkpoint of `size` bytes in another process; a `FileError` if that crashes or reaches a limit."""
    name = reader.__name__.rpartition(".")[2]
    limit = 2 * min(RATIO * size + SLACK, 8 * size + 2**30) + reader.ROOM
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
    return _unpack(done.stdout)


def serve(request: Mapping[str, Any]) -> None:
    """Answer a request of `read_in_child`: the whole program of the child."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # some libraries print
    path, reader = Path(request["file"]), importlib.import_module(request["reader"])
    with contextlib.suppress(ImportError):  # Windows, where only the time is limited
        import resource

        # What the reader's library, not loaded yet, will allocate is part of the limit.
        resource.setrlimit(resource.RLIMIT_DATA, (_count_data() + request["limit"],) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    slots, *rest = request["options"]
    try:
        with raise_file_errors(path, f"{reader.__name__.rpartition('.')[2]} checkpoint"):
            arrays = _pack(reader.read(path, Options(None if slots is None else tuple(slots), *rest)))
    except errors.RMSpropError as error:
        arrays = {"error": _encode([type(error).__name__, str(error)])}
    with out:
        np.savez(out, **arrays)


def _count_data() -> int:
    """Return the bytes of data that this process has now; 0 if the system does not say."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _encode(value: Any) -> Any:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _pack(snapshot: Snapshot) -> dict[str, Any]:
    fields = {field.name: getattr(snapshot, field.name) for field in dataclasses.fields(Snapshot)}
    fields["parameters"] = [
        {"name": p.name, "step": p.step, "shape": p.shape, "dtype": p.dtype} for p in snapshot.parameters
    ]
    fields["groups"] = [{**vars(g), "rule": g.rule and g.rule.to_json()} for g in snapshot.groups]
    arrays = {f"{i}/{name}": array for i, p in enumerate(snapshot.parameters) for name, array in p.arrays.items()}
    return {"fields": _encode(fields), **arrays}


def _unpack(data: bytes) -> Snapshot:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        if "error" in file:
            name, text = json.loads(file["error"].tobytes())
            raise getattr(errors, name)(text)
        fields = json.loads(file["fields"].tobytes())
        arrays: dict[str, dict[str, Any]] = {}
        for key in file.files:
            number, _, name = key.partition("/")
            arrays.setdefault(number, {})[name] = file[key]
    for i, p in enumerate(fields["parameters"]):
        shape = None if p["shape"] is None else tuple(p["shape"])
        fields["parameters"][i] = Parameter(**{**p, "shape": shape}, **arrays.get(str(i), {}))
    groups = [Group(**{**g, "rule": g["rule"] and Rule.from_json(g["rule"])}) for g in fields["groups"]]
    sequences = {"parameters": tuple(fields["parameters"]), "groups": tuple(groups), "notes": tuple(fields["notes"])}
    return Snapshot(**{**fields, **sequences})
