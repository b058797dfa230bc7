"""Run an owner over the course and keep what it did.

`python -m peers.record OWNER` writes tests/peers/OWNER.json, a few steps of every case, for owners that the tests
cannot import; `python -m peers.record OWNER,OWNER FILE.npz` writes every step, for the tests that wait for it.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peers import course, owners
from peers.cases import RECORDED, Case, of

Path_ = dict[str, np.ndarray]
"""What a run leaves: "steps" (int array) and, for each array of the owner, its value after these steps, a row each."""

Paths = dict[tuple[str, str], Path_]
"""By the label of a case and the dtype."""

HERE = Path(__file__).parent


def run(case: Case, dtype: str, steps: Sequence[int] = range(1, course.STEPS + 1)) -> Path_:
    """Run one case; return the parameters and the state after the steps asked for."""
    options = {k: np.float64(v) if case.doubles and type(v) is float else v for k, v in case.options.items()}
    rows: list[dict[str, np.ndarray]] = []
    for t, snapshot in enumerate(owners.RUNS[case.owner][0](options, dtype), start=1):
        if t in steps:
            rows.append({name: _array(value, dtype) for name, value in snapshot.items()})
    return {"steps": np.array(steps), **{name: np.stack([row[name] for row in rows]) for name in rows[0]}}


def _array(value: Any, dtype: str) -> np.ndarray:
    array = np.array(value.detach().numpy() if hasattr(value, "detach") else value)
    if array.dtype != dtype:
        raise TypeError(f"the owner keeps {array.dtype}, expected {dtype}")
    return array.reshape(-1)


def record(owner: str) -> dict[str, Any]:
    """Return what the file of a recorded owner holds."""
    runs = []
    for case in of(owner):
        for dtype in case.dtypes:
            # One step from the owner's own state is what float32 is judged by; in float64 it is the whole way.
            path = run(case, dtype, course.KEPT)
            names = ("steps", "param") if dtype == "float64" else tuple(path)
            runs.append({"options": case.options, "dtype": dtype} | {name: _numbers(path[name]) for name in names})
    return {
        "owner": owner,
        "distribution": owners.RUNS[owner][1],
        "version": owners.version(owner),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "course": {
            "seed": course.SEED,
            "steps": course.STEPS,
            "size": course.SIZE,
            "digest": course.digest(),
            "lrs": course.LRS.tolist(),
        },
        "runs": runs,
    }


def _numbers(rows: np.ndarray) -> Any:
    """Numbers with as many digits as tell them from their neighbours in their own dtype."""
    if rows.dtype != np.float32:
        return rows.tolist()
    numbers = [[float(str(x)) for x in row] for row in rows]
    if not np.array_equal(np.array(numbers, np.float32), rows):
        raise ValueError("a float32 that its shortest digits do not give back")
    return numbers


def _rows(text: str) -> str:
    """One row of numbers a line."""
    return text.replace('], "', '],\n  "').replace("], [", "],\n   [").replace('}, {"options"', '},\n {"options"')


def keep(names: Sequence[str], file: str | Path) -> None:
    """Write every step of every case of some owners; `kept` reads it."""
    arrays = {
        f"{owner}/{i}/{dtype}/{name}": rows
        for owner in names
        for i, case in enumerate(of(owner))
        for dtype in case.dtypes
        for name, rows in run(case, dtype).items()
    }
    np.savez(file, **arrays)


def kept(names: Sequence[str], file: str | Path) -> Paths:
    """Read what `keep` wrote."""
    paths: Paths = {(case.label, dtype): {} for owner in names for case in of(owner) for dtype in case.dtypes}
    with np.load(file) as arrays:
        for key in arrays.files:
            owner, i, dtype, name = key.split("/")
            paths[of(owner)[int(i)].label, dtype][name] = arrays[key]
    return paths


def recorded(owner: str) -> tuple[dict[str, Any], Paths]:
    """Read the file of a recorded owner: what it says of itself, and the runs."""
    head = json.loads((HERE / f"{owner}.json").read_text(encoding="utf-8"))
    paths: Paths = {}
    for entry in head.pop("runs"):
        label, dtype = Case(owner, owner, entry.pop("options"), {}).label, entry.pop("dtype")
        paths[label, dtype] = {name: np.array(rows, int if name == "steps" else dtype) for name, rows in entry.items()}
    return head, paths


def main(words: list[str]) -> None:
    owner, *file = words
    if file:
        keep(owner.split(","), file[0])
        return
    if owner not in RECORDED:
        raise SystemExit(f"{owner}: expected one of {', '.join(RECORDED)}")
    target = HERE / f"{owner}.json"
    target.write_text(_rows(json.dumps(record(owner))) + "\n", encoding="utf-8")
    print(f"{target.name}: {owners.version(owner)}, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
