"""Run an original implementation over the course and keep what it did.

`python -m peers.record NAME` writes tests/peers/NAME.json, a few steps of every case, for those that the tests cannot
import; `python -m peers.record NAME,NAME FILE.npz` writes every step, for the tests that wait for it.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peers import course, frameworks
from peers.cases import RECORDED, Case, of

Path_ = dict[str, np.ndarray]
"""What a run leaves: "steps" (int array) and the value of each array after these steps, a row each."""

Paths = dict[tuple[str, str], Path_]
"""By the label of a case and the dtype."""

HERE = Path(__file__).parent


def run(case: Case, dtype: str, steps: Sequence[int] = range(1, course.STEPS + 1)) -> Path_:
    """Run one case; return the parameters and the state after the steps asked for."""
    options = {k: np.float64(v) if case.doubles and type(v) is float else v for k, v in case.options.items()}
    rows: list[dict[str, np.ndarray]] = []
    for t, snapshot in enumerate(frameworks.RUNS[case.upstream][0](options, dtype), start=1):
        if t in steps:
            rows.append({name: _array(value, dtype) for name, value in snapshot.items()})
    return {"steps": np.array(steps), **{name: np.stack([row[name] for row in rows]) for name in rows[0]}}


def _array(value: Any, dtype: str) -> np.ndarray:
    array = np.array(value.detach().numpy() if hasattr(value, "detach") else value)
    if array.dtype != dtype:
        raise TypeError(f"the original keeps {array.dtype}, expected {dtype}")
    return array.reshape(-1)


def record(upstream: str) -> dict[str, Any]:
    """Return what the file of a recorded original holds."""
    runs = []
    for case in of(upstream):
        for dtype in case.dtypes:
            # One step from the original's own state is what float32 is judged by; in float64 it is the whole way.
            path = run(case, dtype, course.KEPT)
            names = ("steps", "param") if dtype == "float64" else tuple(path)
            runs.append({"options": case.options, "dtype": dtype} | {name: _numbers(path[name]) for name in names})
    return {
        "upstream": upstream,
        "distribution": frameworks.RUNS[upstream][1],
        "version": frameworks.version(upstream),
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
    """Numbers with as many digits as tell them from their neighbors in their own dtype."""
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
    """Write every step of every case of some original implementations; `load_kept` reads it."""
    arrays = {
        f"{upstream}/{i}/{dtype}/{name}": rows
        for upstream in names
        for i, case in enumerate(of(upstream))
        for dtype in case.dtypes
        for name, rows in run(case, dtype).items()
    }
    np.savez(file, **arrays)


def load_kept(names: Sequence[str], file: str | Path) -> Paths:
    """Read what `keep` wrote."""
    paths: Paths = {(case.label, dtype): {} for upstream in names for case in of(upstream) for dtype in case.dtypes}
    with np.load(file) as arrays:
        for key in arrays.files:
            upstream, i, dtype, name = key.split("/")
            paths[of(upstream)[int(i)].label, dtype][name] = arrays[key]
    return paths


def load_recorded(upstream: str) -> tuple[dict[str, Any], Paths]:
    """Read the file of a recorded original: what it says of itself, and the runs."""
    head = json.loads((HERE / f"{upstream}.json").read_text(encoding="utf-8"))
    paths: Paths = {}
    for entry in head.pop("runs"):
        label, dtype = Case(upstream, upstream, entry.pop("options"), {}).label, entry.pop("dtype")
        paths[label, dtype] = {name: np.array(rows, int if name == "steps" else dtype) for name, rows in entry.items()}
    return head, paths


def main(words: list[str]) -> None:
    upstream, *file = words
    if file:
        keep(upstream.split(","), file[0])
        return
    if upstream not in RECORDED:
        raise SystemExit(f"{upstream}: expected one of {', '.join(RECORDED)}")
    target = HERE / f"{upstream}.json"
    target.write_text(_rows(json.dumps(record(upstream))) + "\n", encoding="utf-8")
    print(f"{target.name}: {frameworks.version(upstream)}, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
