"""Every original's runs, wherever they come from: this process, another one, or a file."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from peers import frameworks
from peers.cases import APART, CASES, LIVE, Case
from peers.compare import Figures, figures
from peers.record import Path_, Paths, load_kept, load_recorded, run

BY_LABEL = {case.label: case for case in CASES}

TESTS = Path(__file__).parents[1]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")


def how(upstream: str) -> str:
    """Say where an original implementation's runs come from."""
    apart = {name for names in APART.values() for name in names}
    return "live" if upstream in LIVE or upstream in apart else "recorded"


def version(upstream: str) -> str:
    """Return the version of the original that is compared with."""
    return frameworks.version(upstream) if how(upstream) == "live" else load_recorded(upstream)[0]["version"]


def path_of(case: Case, dtype: str) -> Path_:
    """Return the run of a case.

    Raises:
        ModuleNotFoundError: The original is not installed.
    """
    if case.upstream in LIVE:
        frameworks.version(case.upstream)
        return run(case, dtype)
    return _paths(case.upstream)[case.label, dtype]


@functools.cache
def _paths(upstream: str) -> Paths:
    for backend, names in APART.items():
        if upstream in names:
            return _all_apart()[backend].result()
    return load_recorded(upstream)[1]


@functools.cache
def _all_apart() -> dict[str, Future[Paths]]:
    """Run the other processes side by side."""
    with ThreadPoolExecutor(len(APART)) as pool:
        return {backend: pool.submit(_apart, backend) for backend in APART}


def _apart(backend: str) -> Paths:
    names = APART[backend]
    for name in names:
        frameworks.version(name)
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
        return load_kept(names, file)


@functools.cache
def measure(label: str, dtype: str) -> Figures:
    """Measure a case, by its label."""
    case = BY_LABEL[label]
    return figures(case, path_of(case, dtype), dtype)
