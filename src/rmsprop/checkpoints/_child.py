"""Readers that run C libraries, in a process of their own: a file that crashes or spins costs an error, and no more.

The child gets the request as JSON, limits its memory, and writes the snapshot to its standard output as an npz file,
which is read without pickle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop import errors
from rmsprop.checkpoints._archive import RATIO, SLACK, raise_file_errors
from rmsprop.checkpoints._snapshot import Group, Parameter, Snapshot
from rmsprop.errors import FileError
from rmsprop.rule import Rule

__all__ = ["read_in_child", "serve"]

SECONDS = 60.0
RATE = 5e6
"""Bytes a second that the slowest disk reads: the time limit is `SECONDS` and the file's size over this."""
ROOM = 2**27
"""Bytes beside those of the file: for libraries that are loaded on the way."""


def read_in_child(family: str, path: Path, told: Mapping[str, Any], *, size: int, room: int = ROOM) -> Snapshot:
    """Read a checkpoint in another process.

    Args:
        family: One of `_convert.FAMILIES`.
        path: The file. Read.
        told: The reader's options.
        size: Bytes of the file.
        room: Bytes that the reader's library needs beside those of the file.

    Raises:
        FileError: The reader crashed, or needed more than its time or memory.
        RMSpropError: What the reader itself refused.
    """
    limit = 2 * min(RATIO * size + SLACK, 8 * size + 2**30) + room
    request = {"path": sys.path, "family": family, "file": str(path), "told": dict(told), "limit": limit}
    start = (
        "import json, sys; request = json.load(sys.stdin); sys.path[:] = request['path']; "
        "from rmsprop.checkpoints._convert import FAMILIES; from rmsprop.checkpoints._child import serve; "
        "serve(request, FAMILIES)"
    )
    seconds = SECONDS + size / RATE
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", start],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=seconds,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FileError(f"{path}: not read as {family} within {seconds:.0f} s: corrupt, or crafted to spin") from None
    if done.returncode:
        name = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise FileError(f"{path}: corrupt: reading it as {family} ended in {name} ({lines[-1] if lines else 'silent'})")
    return _unpacked(done.stdout)


def serve(request: Mapping[str, Any], families: Mapping[str, Any]) -> None:
    """Answer a request of `read_in_child`: the child's whole program."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries that print
    with contextlib.suppress(ImportError):  # Windows, where the time limit alone holds
        import resource

        # The libraries are not loaded yet: their code is no data, and what they allocate is in the limit.
        resource.setrlimit(resource.RLIMIT_DATA, (_data() + request["limit"],) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path, family = Path(request["file"]), request["family"]
    try:
        with raise_file_errors(path, f"{family} checkpoint"):
            arrays = _packed(families[family].read(path, **request["told"]))
    except errors.RMSpropError as error:
        arrays = {"error": _text([type(error).__name__, str(error)])}
    with out:
        np.savez(out, **arrays)


def _data() -> int:
    """Return the bytes of data that this process has now; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _text(value: Any) -> Any:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _packed(snapshot: Snapshot) -> dict[str, Any]:
    fields = {field.name: getattr(snapshot, field.name) for field in dataclasses.fields(Snapshot)}
    fields["parameters"] = [
        {"name": p.name, "step": p.step, "shape": p.shape, "dtype": p.dtype} for p in snapshot.parameters
    ]
    fields["groups"] = [{**vars(g), "rule": None if g.rule is None else g.rule.to_json()} for g in snapshot.groups]
    arrays = {f"{i}/{name}": array for i, p in enumerate(snapshot.parameters) for name, array in p.arrays.items()}
    return {"fields": _text(fields), **arrays}


def _unpacked(data: bytes) -> Snapshot:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        if "error" in file:
            name, text = json.loads(file["error"].tobytes())
            raise getattr(errors, name)(text)
        fields = json.loads(file["fields"].tobytes())
        arrays: dict[str, dict[str, Any]] = {}
        for key in file.files:
            number, _, name = key.partition("/")
            if name:
                arrays.setdefault(number, {})[name] = file[key]
    for i, parameter in enumerate(fields["parameters"]):
        shape = parameter["shape"]
        parameter |= {"shape": None if shape is None else tuple(shape), **arrays.get(str(i), {})}
    fields["parameters"] = tuple(Parameter(**parameter) for parameter in fields["parameters"])
    fields["groups"] = tuple(
        Group(**{**group, "rule": None if group["rule"] is None else Rule.from_json(group["rule"])})
        for group in fields["groups"]
    )
    return Snapshot(**{**fields, "notes": tuple(fields["notes"])})
