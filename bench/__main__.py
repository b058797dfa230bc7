"""Run the benches, print their tables, and write what they measured.

python -m bench [NAME ...] [--quick] [--json PATH]

Without a NAME every bench of speed and memory runs; local_minima and steady are studies, to be named. The JSON goes to
PATH, or to bench/results/, one file per run.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import pkgutil
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import bench
import rmsprop
from rmsprop import _step

NEEDS = {
    "doctor": "torch",
    "race_mnist": "torch",
    "jax_step": "jax",
    "keras_step": "tensorflow",
    "torch_step": "torch",
    "view": "matplotlib",
    "lab": "starlette",
    "local_minima": "pymoo",
}
"""The package a bench compares with, where that is an extra."""

STUDIES = {"local_minima", "steady"}
"""They take long, measure no speed, and run only when named."""

RESULTS = Path(__file__).parent / "results"


def names() -> list[str]:
    """The modules of this package that can be run."""
    found = [module.name for module in pkgutil.iter_modules(bench.__path__) if module.name != "__main__"]
    return [name for name in found if "def main(" in (Path(__file__).parent / f"{name}.py").read_text("utf-8")]


def machine() -> dict[str, Any]:
    return {
        "rmsprop": rmsprop.__version__,
        "compiled": rmsprop.is_compiled(),
        "instruction set": _step.core.isa() if rmsprop.is_compiled() else None,
        "threads": rmsprop.threads(),
        "cores": os.cpu_count(),
        "processor": processor(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def processor() -> str:
    """The processor's name; Python knows it on few systems."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def table(title: str, rows: list[dict[str, Any]]) -> Table:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    drawn = Table(title=title, title_justify="left")
    for column in columns:
        numeric = any(isinstance(row.get(column), (int, float)) for row in rows)
        drawn.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        drawn.add_row(*(text(row.get(column)) for column in columns))
    return drawn


def is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure ratios in one run.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(names())}; default: all but the studies"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes: about a minute")
    parser.add_argument("--json", type=Path, help="where to write the figures; default: bench/results/")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser.error(f"{unknown[0]!r} is no bench, expected one of {', '.join(names())}")

    console = Console(width=None if sys.stdout.isatty() else 120)
    report: dict[str, Any] = {"machine": machine(), "quick": options.quick}
    console.print("  ".join(f"{key} {value}" for key, value in report["machine"].items()))
    for name in options.names or [name for name in names() if name not in STUDIES]:
        package = NEEDS.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            console.print(f"[bold]{name}[/bold]: skipped, {package} is not installed")
            continue
        console.rule(f"[bold]{name}", align="left")
        report[name] = importlib.import_module(f"bench.{name}").main(options.quick)
        for title, rows in report[name].items():
            if is_table(rows):
                console.print(table(title, rows))
    path = options.json or RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}{'-quick' if options.quick else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
