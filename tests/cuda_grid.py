"""The GPU kernel without a GPU: its variants, compiled by NVRTC, and by a C++ compiler for a grid of loops."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from rmsprop import _step
from rmsprop.torch.cuda import Variant

CPP = Path(__file__).parent.parent / "cpp"
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
PARAMS = {
    "float32": ("Direct<float>",),
    "float64": ("Direct<double>",),
    "bfloat16": ("NearestBFloat16", "StochasticBFloat16", "CompensatedBFloat16"),
}


def list_variants() -> list[Variant]:
    formats = [
        ("double" if dtype == "float64" else "float", param, state)
        for dtype, params in PARAMS.items()
        for param in params
        for state in (("WideState<double>",) if dtype == "float64" else ("WideState<float>", "BFloat16State"))
    ]
    return [
        Variant(*names, centered, buffered)
        for names in formats
        for centered in (False, True)
        for buffered in (False, True)
    ]


@functools.cache
def compile_host(variant: Variant) -> ctypes.CDLL:
    """Return the same kernels as functions that loop over the blocks and threads of the grid."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    assert compiler, "the compiler that built rmsprop._core"
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "grid.so"
        source = CPP / "cuda" / "grid.hpp"
        flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-x", "c++", "-Wno-unused"]
        subprocess.run([compiler, *flags, *variant.list_defines(), "-o", library, source], check=True, timeout=120)
        return ctypes.CDLL(str(library))


def step(variant: Variant, plan: Any, grads: list[Any], args: Any, **numbers: int) -> None:
    """Step a plan of CPU arrays through the launch code and the simulated grid."""
    grid = compile_host(variant)

    def launch(rows: bytes, row_of_chunk: bytes, launches: list[tuple[int, bytes]]) -> None:
        for kernel in (grid.rmsprop_norm, grid.rmsprop_step) if args.max_norm else (grid.rmsprop_step,):
            for blocks, argument in launches:
                kernel(ctypes.c_char_p(rows), ctypes.c_char_p(row_of_chunk), ctypes.c_char_p(argument), blocks)

    _step.core.step_on_device(plan, grads, args, launch, **numbers)
