"""The step of rmsprop.keras beside Keras's own RMSprop, on one backend.

    KERAS_BACKEND=tensorflow python -m bench.keras_step [--quick]

The two of a row run in one process, in turn; a figure is the ratio of medians. Milliseconds are for orientation only.
Rows: eager `apply`, on TensorFlow also inside `tf.function` with and without `jit_compile`, for 6 and for 40 variables.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import rmsprop.keras
from bench.timing import time_interleaved

OPTIONS: dict[str, dict[str, Any]] = {"plain": {}, "momentum": {"momentum": 0.9}, "centered": {"centered": True}}
SHAPES = {
    "6 variables, 27 k": [(64, 128), (128,), (128, 128), (128,), (128, 10), (10,)],
    "40 variables, 2.6 M": [(256, 256)] * 40,
}
PROMISE = 1.05
"""At most this many times as long as Keras's optimizer."""


def make_step(optimizer: Any, shapes: list[tuple[int, ...]], mode: str) -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    variables = [keras.Variable(rng.normal(size=s).astype("float32")) for s in shapes]
    grads = [keras.ops.convert_to_tensor(rng.normal(size=s).astype("float32")) for s in shapes]
    optimizer.build(variables)

    def step() -> None:
        optimizer.apply(grads, variables)

    if mode == "eager":
        return lambda: (step(), keras.ops.convert_to_numpy(variables[-1]))
    import tensorflow as tf

    return tf.function(step, jit_compile=mode == "tf.function, XLA")


def main(quick: bool = False) -> dict[str, Any]:
    backend = keras.backend.backend()
    modes = ["eager", *(["tf.function", "tf.function, XLA"] if backend == "tensorflow" else [])]
    rows = []
    for size, shapes in SHAPES.items():
        for mode in modes:
            for name, options in OPTIONS.items():
                candidates = {
                    "rmsprop": make_step(rmsprop.keras.RMSprop(1e-3, **options), shapes, mode),
                    "keras": make_step(keras.optimizers.RMSprop(1e-3, **options), shapes, mode),
                }
                times = time_interleaved(candidates, per_round=3, seconds=1 if quick else 4)
                rows.append(
                    {
                        "variables": size, "mode": mode, "options": name, "ms": 1e3 * times["rmsprop"],
                        "keras ms": 1e3 * times["keras"], "ratio": times["rmsprop"] / times["keras"],
                        "promised, at most": PROMISE,
                    }
                )  # fmt: skip
    return {f"rmsprop.keras beside Keras on {backend}": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    for title, table in main(parser.parse_args().quick).items():
        print(title)
        for row in table:
            print("  ".join(f"{value:.3f}" if isinstance(value, float) else value for value in row.values()))
