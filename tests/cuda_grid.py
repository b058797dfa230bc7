"""The GPU kernel without a GPU: its variants, compiled by NVRTC, and by a C++ compiler for a grid of loops."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from rmsprop import _step

CPP = Path(__file__).parent.parent / "cpp"
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
PARAMS = {
    "float32": ("Direct<float>",),
    "float64": ("Direct<double>",),
    "bfloat16": ("NearestBFloat16", "StochasticBFloat16", "CompensatedBFloat16"),
}


def list_variants() -> list[tuple[str, ...]]:
    """Return (type, parameter's format, state's format, centered, buffered) of every variant."""
    formats = [
        ("double" if dtype == "float64" else "float", param, state)
        for dtype, params in PARAMS.items()
        for param in params
        for state in (("WideState<double>",) if dtype == "float64" else ("WideState<float>", "BFloat16State"))
    ]
    return [(*names, centered, buffered) for names in formats for centered in "01" for buffered in "01"]


def define(variant: tuple[str, ...]) -> list[str]:
    names = ("TYPE", "PARAM", "STATE", "CENTERED", "BUFFERED")
    return [f"-DRMSPROP_{name}={value}" for name, value in zip(names, variant)]


def compile_device(variant: tuple[str, ...], architecture: str) -> tuple[str, bytes]:
    """Return (PTX, cubin)."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is in requirements/test.txt")

    def check(result: tuple[Any, ...]) -> Any:
        assert result[0] == nvrtc.nvrtcResult.NVRTC_SUCCESS, result[0]
        return result[1] if len(result) == 2 else None

    def read(size: Any, get: Any) -> bytes:
        buffer = bytearray(check(size(program)))
        check(get(program, buffer))
        return bytes(buffer)

    program = check(nvrtc.nvrtcCreateProgram(b'#include "grid.hpp"\n', b"rmsprop.cu", 0, [], []))
    options = [
        f"--gpu-architecture={architecture}",
        "--std=c++17",
        "--fmad=false",
        "--device-as-default-execution-space",
        f"-I{CPP}/cuda",
        f"-I{CPP}/cuda/std",
        *define(variant),
    ]
    encoded = [option.encode() for option in options]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
    assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS, read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
    ptx = read(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX).decode()
    return ptx, read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)


@functools.cache
def compile_host(variant: tuple[str, ...]) -> ctypes.CDLL:
    """Return the same kernels as functions that loop over the blocks and threads of the grid."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    assert compiler, "the compiler that built rmsprop._core"
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "grid.so"
        flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-x", "c++", "-Wno-unused"]
        subprocess.run(
            [compiler, *flags, *define(variant), "-o", library, CPP / "cuda" / "grid.hpp"], check=True, timeout=120
        )
        return ctypes.CDLL(str(library))


def step(variant: tuple[str, ...], plan: Any, grads: list[Any], args: Any, **numbers: int) -> None:
    """Step a plan of CPU arrays through the launch code and the simulated grid."""
    grid = compile_host(variant)

    def launch(rows: bytes, row_of_chunk: bytes, launches: list[tuple[int, bytes]]) -> None:
        for kernel in (grid.rmsprop_norm, grid.rmsprop_step) if args.max_norm else (grid.rmsprop_step,):
            for blocks, argument in launches:
                kernel(ctypes.c_char_p(rows), ctypes.c_char_p(row_of_chunk), ctypes.c_char_p(argument), blocks)

    _step.core.step_on_device(plan, grads, args, launch, **numbers)
