"""Every owner's runs, wherever they come from: this process, another one, or a file."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from peers import owners
from peers.cases import APART, CASES, LIVE, Case
from peers.compare import Figures, figures
from peers.record import Path_, Paths, kept, recorded, run

BY_LABEL = {case.label: case for case in CASES}

TESTS = Path(__file__).parents[1]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")


def how(owner: str) -> str:
    """Say where an owner's runs come from."""
    apart = {name for names in APART.values() for name in names}
    return "live" if owner in LIVE or owner in apart else "recorded"


def version(owner: str) -> str:
    """Return the version of the owner that is compared with."""
    return owners.version(owner) if how(owner) == "live" else recorded(owner)[0]["version"]


def path_of(case: Case, dtype: str) -> Path_:
    """Return the run of a case.

    Raises:
        ModuleNotFoundError: The owner is not installed.
    """
    if case.owner in LIVE:
        owners.version(case.owner)
        return run(case, dtype)
    return _paths(case.owner)[case.label, dtype]


@functools.cache
def _paths(owner: str) -> Paths:
    for backend, names in APART.items():
        if owner in names:
            return _all_apart()[backend].result()
    return recorded(owner)[1]


@functools.cache
def _all_apart() -> dict[str, Future[Paths]]:
    """Run the other processes side by side."""
    with ThreadPoolExecutor(len(APART)) as pool:
        return {backend: pool.submit(_apart, backend) for backend in APART}


def _apart(backend: str) -> Paths:
    names = APART[backend]
    for name in names:
        owners.version(name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "runs.npz"
        done = subprocess.run(
            [sys.executable, "-m", "peers.record", ",".join(names), str(file)],
            capture_output=True,
            text=True,
            cwd=TESTS,
            env={**os.environ, **QUIET, **ONE_THREAD, "KERAS_BACKEND": backend},
            timeout=560,
        )
        if done.returncode:
            raise RuntimeError(f"{', '.join(names)}:\n{done.stderr[-4000:]}")
        return kept(names, file)


@functools.cache
def measured(label: str, dtype: str) -> Figures:
    """Measure a case, by its label."""
    case = BY_LABEL[label]
    return figures(case, path_of(case, dtype), dtype)
