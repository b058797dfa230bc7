"""The jitted step of rmsprop.jax beside optax.rmsprop, with donation.

    python -m bench.jax_step [--quick]

The two of a row run in one process, a step each in turn; a figure is the ratio of medians. Absolute times are printed
for orientation only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import rmsprop.jax
from bench.timing import time_interleaved

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "eps outside": {"eps_in_sqrt": False},
    "momentum": {"momentum": 0.9},
    "bias correction": {"bias_correction": True},
    "centered": {"centered": True},
}
PROMISE = 1.02
"""At most this many times as long as optax's plain step, at 30 million float32 parameters."""


def stepper(tx: optax.GradientTransformation, size: int) -> Callable[[], None]:
    """Return a call that does one donated, jitted step and waits for it."""

    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1))
    grads = jax.random.normal(jax.random.key(0), (size,))
    params = jnp.ones(size)
    carried = [params, tx.init(params)]

    def call() -> None:
        carried[:] = jitted(*carried, grads)
        jax.block_until_ready(carried)

    return call


def measure(options: dict[str, Any], size: int, *, seconds: float) -> dict[str, float]:
    """Milliseconds of one step of both, and their ratio."""
    times = time_interleaved(
        {
            "rmsprop": stepper(rmsprop.jax.rmsprop(1e-3, **options), size),
            "optax": stepper(optax.rmsprop(1e-3, **options), size),
        },
        per_round=1,
        seconds=seconds,
        rounds=15,
    )
    return {
        "rmsprop_ms": 1e3 * times["rmsprop"],
        "optax_ms": 1e3 * times["optax"],
        "times as long as optax": times["rmsprop"] / times["optax"],
    }


def main(quick: bool = False) -> dict[str, Any]:
    """Measure every row, print the table and return it."""
    size = 3_000_000 if quick else 30_000_000
    print(f"{f'{size / 1e6:.0f} M float32, {jax.default_backend()}':26}{'rmsprop':>11}{'optax':>11}{'ratio':>8}")
    rows = {}
    for name, options in OPTIONS.items():
        rows[name] = row = measure(options, size, seconds=2 if quick else 10)
        print(f"{name:26}{row['rmsprop_ms']:8.2f} ms{row['optax_ms']:8.2f} ms{row['times as long as optax']:8.3f}")
    return {
        "parameters": size,
        "device": jax.default_backend(),
        "jax": jax.__version__,
        "optax": optax.__version__,
        "promise": PROMISE,
        "kept": rows["plain"]["times as long as optax"] <= PROMISE,
        "rows": rows,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--quick", action="store_true", help="a tenth of the parameters")
    main(parser.parse_args().quick)
