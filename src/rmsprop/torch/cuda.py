"""The kernel for NVIDIA GPUs: compiled by NVRTC from the sources in the wheel, once, and kept on disk.

A variant is one combination of formats and switches. Its cubin is named by the sources, the compiler's version and the
architecture, so that a new version of any of them never meets an old file.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from rmsprop import _step
from rmsprop._files import write_atomically
from rmsprop.errors import InputError, MissingDependency

__all__ = ["Variant", "compile_variant", "load_cubin"]

_DIGEST = hashlib.sha256().digest_size


class Variant(NamedTuple):
    """What the kernel is compiled for: types of cpp/kernel/storage.hpp, and the arrays that the rule touches."""

    type: str
    param: str
    state: str
    centered: bool
    buffered: bool

    def list_defines(self) -> list[str]:
        """Return the macros that cpp/cuda/grid.hpp reads."""
        values = {**self._asdict(), "centered": int(self.centered), "buffered": int(self.buffered)}
        return [f"-DRMSPROP_{name.upper()}={value}" for name, value in values.items()]


def load_cubin(variant: Variant, architecture: str, folder: Path | None = None) -> bytes:
    """Return the machine code of a variant, from disk where it was compiled before.

    A file that is cut or changed is compiled again. A folder that cannot be written costs the compile time in every
    process, nothing else.

    Args:
        variant: What to compile.
        architecture: "sm_90" for compute capability 9.0.
        folder: Where cubins are kept; None: rmsprop/cuda in the user's cache folder.

    Raises:
        MissingDependency: NVRTC or cuda-bindings is not installed.
        InputError: An architecture that this NVRTC does not know.
    """
    if folder is None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rmsprop" / "cuda"
    key = repr((variant, architecture, _call(_nvrtc().nvrtcVersion()), _hash_sources()))
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()}.cubin"
    with contextlib.suppress(OSError):
        saved = path.read_bytes()
        if hashlib.sha256(saved[_DIGEST:]).digest() == saved[:_DIGEST]:
            return saved[_DIGEST:]
    cubin = compile_variant(variant, architecture)[1]
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary:
            temporary.write_bytes(hashlib.sha256(cubin).digest() + cubin)
    return cubin


def compile_variant(variant: Variant, architecture: str) -> tuple[str, bytes]:
    """Return (PTX, cubin) of a variant; takes about a second. Raises as `load_cubin`."""
    nvrtc = _nvrtc()
    known = [f"sm_{number}" for number in _call(nvrtc.nvrtcGetSupportedArchs())]
    if architecture not in known:
        version = ".".join(map(str, _call(nvrtc.nvrtcVersion())))
        raise InputError(
            f"a GPU of architecture {architecture}: NVRTC {version} compiles for {', '.join(known)}; "
            "install the PyTorch build that supports this GPU"
        )
    sources = _find_sources()
    options = [
        f"--gpu-architecture={architecture}",
        "--std=c++17",
        "--fmad=false",  # the CPU's bits
        "--device-as-default-execution-space",
        f"-I{sources}/cuda",
        f"-I{sources}/cuda/std",
        *variant.list_defines(),
    ]
    program = _call(nvrtc.nvrtcCreateProgram(b'#include "grid.hpp"\n', b"rmsprop.cu", 0, [], []))

    def read(size: Any, get: Any) -> bytes:
        buffer = bytearray(_call(size(program)))
        _call(get(program, buffer))
        return bytes(buffer)

    try:
        (result,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        if result:
            raise RuntimeError(read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).decode())
        ptx = read(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX).decode()
        return ptx, read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


@functools.cache
def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc

        _call(nvrtc.nvrtcVersion())  # finds the library
    except (ImportError, RuntimeError) as error:
        raise MissingDependency(
            "NVRTC is needed for the GPU kernel; PyTorch's CUDA builds bring it: "
            "pip install cuda-bindings nvidia-cuda-nvrtc, of the CUDA version of PyTorch"
        ) from error
    return nvrtc


def _call(result: tuple[Any, ...]) -> Any:
    """Return what a function of cuda.bindings returns beside its error code."""
    error, *values = result
    if error:
        raise RuntimeError(f"NVRTC: {error!r}")
    return values[0] if len(values) == 1 else tuple(values)


def _find_sources() -> Path:
    return Path(_step.core.__file__).parent / "_sources"


@functools.cache
def _hash_sources() -> str:
    files = sorted(path for path in _find_sources().rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
