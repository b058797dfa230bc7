"""Proof on a GPU: bits against the CPU, torch's own suite, compute-sanitizer, and the speed table.

    make gpu                                                       on a machine with a CUDA GPU, below 8 minutes
    python -m bench.gpu --device cpu --quick --out FOLDER          a dry run: the same program on the CPU

Times are medians of CUDA events around rounds that take turns (one by one for the size that fills the memory), beside
those of a copy in the same run. Memory is the peak of torch's allocator during a step beyond what was allocated before.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import rmsprop
from bench import torch_step
from rmsprop.errors import InputTypeError
from rmsprop.torch import RMSprop

ROOT = Path(__file__).parent.parent
SUITE = "torchs_numbers or right_direction or without_gradients or zero_gradients or never_written"
"""The tests of torch's optimizer table that hold for any device."""
FORMATS: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "float32": (torch.float32, {}),
    "float64": (torch.float64, {}),
    "bfloat16": (torch.bfloat16, {}),
    "float16": (torch.float16, {}),
    "complex64": (torch.complex64, {}),
    "bfloat16 stochastic": (torch.bfloat16, {"param_rounding": "stochastic"}),
    "bfloat16 compensated": (torch.bfloat16, {"param_rounding": "compensated"}),
    "float32, bfloat16 state": (torch.float32, {"state_dtype": "bfloat16"}),
    "bfloat16 stochastic, 8-bit state": (torch.bfloat16, {"param_rounding": "stochastic", "state_dtype": "8bit"}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "centered": {"centered": True},
    "everything": {"centered": True, "momentum": 0.9, "weight_decay": 0.1, "maximize": True},
    "clipped": {"max_norm": 0.5},
    **{name: {"dialect": name} for name in ("tensorflow1", "keras3", "sb3")},
    "corrected decay": {"dialect": rmsprop.Rule(weight_decay=0.1, weight_decay_mode="decoupled_corrected")},
    "bias correction": {"dialect": rmsprop.Rule(bias_correction=True)},
    "Nesterov": {"dialect": rmsprop.Rule(buffer="lr", momentum=0.9, nesterov="post")},
}
EDGES = [(), (1,), (7,), (255,), (256,), (257,), (33, 31), (70_001,)]


def list_resnet_shapes() -> list[tuple[int, ...]]:
    """Return the shapes of a ResNet-50: 161 tensors, 25,557,032 parameters."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
    width = 64
    for planes, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            convolutions = [(planes, width, 1, 1), (planes, planes, 3, 3), (4 * planes, planes, 1, 1)]
            if block == 0:
                convolutions.append((4 * planes, width, 1, 1))
            for shape in convolutions:
                shapes += [shape, shape[:1], shape[:1]]
            width = 4 * planes
    return [*shapes, (1000, 2048), (1000,)]


def list_gpt2_shapes() -> list[tuple[int, ...]]:
    """Return the shapes of GPT-2: 148 tensors, 124,439,808 parameters."""
    n = 768
    block: list[tuple[int, ...]] = [(n,), (n,), (n, 3 * n), (3 * n,), (n, n), (n,), (n,), (n,)]
    block += [(n, 4 * n), (4 * n,), (4 * n, n), (n,)]
    return [(50257, n), (1024, n), *(12 * block), (n,), (n,)]


def list_sizes(quick: bool) -> dict[str, list[tuple[int, ...]]]:
    small = dict(torch_step.SHAPES)
    one = small.pop("30 M")
    if quick:
        return {"RL network": small["RL network"]}
    large = {"ResNet-50": list_resnet_shapes(), "GPT-2": list_gpt2_shapes(), "30 M": one, "1 B": [(1_000_000_000,)]}
    return {**small, **large}


# ---- bits ------------------------------------------------------------------------------------------------------------


def compare_with_cpu(device: str) -> list[dict[str, Any]]:
    """Step the same parameters on the CPU and on the device; return a row for each format and option."""
    rows = []
    for format_name, (dtype, form) in FORMATS.items():
        for name, options in OPTIONS.items():
            row: dict[str, Any] = {"format": format_name, "options": name}
            try:
                mine, other = (run_steps(place, dtype, {**form, **options}) for place in ("cpu", device))
            except InputTypeError as error:
                row["error"] = str(error)
            else:
                row["same bits"] = all(torch.equal(a, b) for a, b in zip(mine, other))
                pairs = [(torch.view_as_real(a), torch.view_as_real(b)) if a.is_complex() else (a, b)
                         for a, b in zip(mine, other)]  # fmt: skip
                row["largest difference"] = max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
            rows.append(row)
    return rows


def run_steps(device: str, dtype: torch.dtype, options: dict[str, Any], steps: int = 3) -> list[torch.Tensor]:
    """Return parameters and state, on the CPU, after some steps."""
    generator = torch.Generator().manual_seed(0)

    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.complex64 if dtype.is_complex else None).to(dtype)

    params = [torch.nn.Parameter(draw(shape).to(device)) for shape in EDGES]
    optimizer = RMSprop(params, 0.01, seed=1, **options)
    for _ in range(steps):
        for param, shape in zip(params, EDGES):
            param.grad = draw(shape).to(device)
        optimizer.step()
    states = [value for p in params for _, value in sorted(optimizer.state[p].items())]
    return [t.detach().cpu() for t in (*params, *states)]


# ---- torch's suite and the sanitizer ---------------------------------------------------------------------------------


def run_suite(device: str) -> dict[str, Any]:
    """Run torch's optimizer table on the device."""
    if importlib.util.find_spec("pytest") is None:
        return {"error": "pytest is not installed"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", SUITE]
    command.append("tests/pytorch/test_torch_optimizer_table.py")
    return run_command(command, {"RMSPROP_TEST_DEVICE": device})


def run_sanitizer(device: str) -> dict[str, Any]:
    """Run one format's comparison under compute-sanitizer."""
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None or device == "cpu":
        return {"error": "needs a GPU" if device == "cpu" else "compute-sanitizer is not installed"}
    step = f"from bench import gpu; import torch; gpu.run_steps({device!r}, torch.float32, {{'max_norm': 0.5}}, 1)"
    return run_command([sanitizer, "--error-exitcode", "1", sys.executable, "-c", step], {})


def run_command(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Run a command; return its exit code and the last line that it printed."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=180, check=False
    )
    return {"exit code": done.returncode, "last line": (done.stdout.strip().splitlines() or [""])[-1]}


# ---- speed and memory ------------------------------------------------------------------------------------------------


Step = Callable[[], Any]


def list_candidates(shapes: list[tuple[int, ...]], device: str, quick: bool) -> dict[str, Callable[[], Step]]:
    """Return functions that make the steps to measure, each with parameters of its own."""

    def make(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
        params = [torch.nn.Parameter(torch.randn(shape, device=device, dtype=dtype)) for shape in shapes]
        for param in params:
            param.grad = torch.randn_like(param)
        return params

    def copy() -> Step:
        source = torch.ones(sum(math.prod(shape) for shape in shapes), device=device)
        return functools.partial(torch.empty_like(source).copy_, source)

    def clip_and_step() -> Step:
        params = make()
        optimizer = theirs(params, foreach=True)

        def step() -> None:
            torch.nn.utils.clip_grad_norm_(params, 1.0, foreach=True)
            optimizer.step()

        return step

    theirs = torch.optim.RMSprop
    found: dict[str, Callable[[], Step]] = {
        "copy": copy,
        "rmsprop": lambda: RMSprop(make()).step,
        "torch foreach": lambda: theirs(make(), foreach=True).step,
        "rmsprop, clipped": lambda: RMSprop(make(), max_norm=1.0).step,
        "torch foreach + clip_grad_norm_": clip_and_step,
        "fused Adagrad": lambda: torch.optim.Adagrad(make(), fused=True).step,
        "fused Adam": lambda: torch.optim.Adam(make(), fused=True).step,
    }
    if device != "cpu":
        found["rmsprop, capturable"] = lambda: RMSprop(make(), capturable=True).step
        found["torch foreach, capturable"] = lambda: theirs(make(), foreach=True, capturable=True).step
    if not quick:
        found["torch.compile"] = lambda: torch.compile(theirs(make(), foreach=True).step)
    for name in ("bfloat16 stochastic", "bfloat16 stochastic, 8-bit state"):
        dtype, form = FORMATS[name]
        found[f"rmsprop, {name}"] = lambda dtype=dtype, form=form: RMSprop(make(dtype), **form).step
    return found


def measure(shapes: list[tuple[int, ...]], device: str, quick: bool) -> dict[str, Any]:
    """Return the seconds and the peak memory of a step of each candidate, and of a copy of one array of that size."""
    count = sum(math.prod(shape) for shape in shapes)
    candidates = list_candidates(shapes, device, quick)
    rounds, repeat = (3, 2) if quick else (15, 1 if count > 1e8 else 10)
    peaks: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for names in [list(candidates)] if count < 5e8 else [[name] for name in candidates]:
        steps = {}
        for name in names:
            step = candidates[name]()
            try:
                peaks[name] = measure_peak(step, device)
            except InputTypeError:  # no kernel for the device
                continue
            steps[name] = step
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                times[name].append(time_steps(step, repeat, device))
        seconds |= {name: statistics.median(values) for name, values in times.items()}
        steps = {}  # frees the memory before the next
    return {"parameters": count, "seconds": seconds, "peak bytes": peaks, "copied bytes/s": 8 * count / seconds["copy"]}


def measure_peak(step: Step, device: str) -> int:
    """Step twice to create the state, then return the most bytes that a step allocates; 0 on the CPU."""
    step()
    step()
    if device == "cpu":
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def time_steps(step: Step, repeat: int, device: str) -> float:
    """Return the seconds of one step, by CUDA events where there are any."""
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(repeat):
            step()
        return (time.perf_counter() - start) / repeat
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(repeat):
        step()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / repeat


def measure_sizes(device: str, quick: bool) -> dict[str, Any]:
    """Measure every size that fits the memory."""
    results: dict[str, Any] = {}
    for name, shapes in list_sizes(quick).items():
        try:
            results[name] = measure(shapes, device, quick)
        except torch.OutOfMemoryError as error:
            results[name] = {"error": str(error).splitlines()[0]}
        if device != "cpu":
            torch.cuda.empty_cache()
    return results


# ---- the page --------------------------------------------------------------------------------------------------------


def write_page(results: dict[str, Any]) -> str:
    """Return the page docs/reference/gpu.md."""
    lines = ["# GPU", "", f"What `make gpu` found on {results['machine']}.", "", "## Bits", ""]
    bits = results["bits"]
    same, failed = (sum(key in row and row[key] is not False for row in bits) for key in ("same bits", "error"))
    lines += [
        f"Of {len(bits)} pairs of a format and an option, {same} have the CPU's bits and {failed} raise an error."
    ]
    lines += ["", "| format | options | largest difference |", "|---|---|---|"]
    for row in bits:
        if not row.get("same bits"):
            lines.append(f"| {row['format']} | {row['options']} | {row.get('largest difference', 'raises')} |")
    lines += ["", "## Tests", ""]
    for name in ("suite", "sanitizer"):
        found = results[name]
        lines.append(f"* {name}: {found.get('error') or found['last line']}")
    lines += ["", "## Time of a step, as a multiple of this library's", ""]
    for name, row in results["speed"].items():
        if "error" in row:
            lines += [f"{name}: {row['error']}", ""]
            continue
        seconds, own = row["seconds"], row["seconds"]["rmsprop"]
        bandwidth = row["copied bytes/s"]
        lines += [f"{name}, {row['parameters']:,} parameters; a copy moves {bandwidth / 1e9:.0f} GB/s:", ""]
        lines += ["| | time | peak bytes |", "|---|---|---|"]
        lines += [f"| {key} | {s / own:.2f} | {row['peak bytes'][key]} |" for key, s in seconds.items()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def run_all(device: str, quick: bool) -> dict[str, Any]:
    """Run every part; return what was found."""
    machine = "the CPU, a dry run" if device == "cpu" else torch.cuda.get_device_name()
    found: dict[str, Any] = {"machine": f"{machine}, torch {torch.__version__}"}
    parts: dict[str, Callable[[], Any]] = {
        "bits": lambda: compare_with_cpu(device),
        "suite": lambda: {"error": "not in a quick run"} if quick else run_suite(device),
        "sanitizer": lambda: run_sanitizer(device),
        "speed": lambda: measure_sizes(device, quick),
    }
    for name, part in parts.items():
        start = time.perf_counter()
        found[name] = part()
        print(f"{name}: on {machine}, {time.perf_counter() - start:.0f} s", flush=True)
    return found


def run_from_command_line(argv: list[str] | None = None) -> int:
    """Parse the arguments, run, write the page and the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--quick", action="store_true", help="the smallest size, without torch's suite and compiler")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "reference", help="folder of gpu.md and gpu.json")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("bench.gpu needs a CUDA GPU and a torch built for it; --device cpu --out FOLDER is a dry run")
        return 2
    results = run_all(args.device, args.quick)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (args.out / "gpu.md").write_text(write_page(results), encoding="utf-8")
    same = all(row.get("same bits", True) for row in results["bits"])
    failed = not same or results["suite"].get("exit code") or results["sanitizer"].get("exit code")
    print(f"{'FAILED' if failed else 'passed'}; written: {args.out / 'gpu.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_from_command_line())
