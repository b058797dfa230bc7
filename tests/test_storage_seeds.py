"""Promise: the random bits of a rounding follow seed, step, tensor and place, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
core = pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from rmsprop import Rule  # noqa: E402
from rmsprop.torch import state as torch_state  # noqa: E402
from storage_helpers import (  # noqa: E402
    BLOCK,
    ISAS,
    restore_isa,  # noqa: F401
    stepped,
    words,
    written,
)

PARALLEL = 70_001
"""A length from which the kernel uses the threads it is given, and no multiple of a block."""


def everything_stochastic(**options):
    """A step that rounds parameter, code, mean and momentum stochastically; all bits together."""
    rng = np.random.default_rng(8)
    rule = Rule(rho=0.9, eps=1e-4, centered=True, buffer="unit", momentum=0.9)

    def draw():
        return torch.from_numpy(rng.standard_normal(PARALLEL).astype("float32"))

    param, grad = draw().bfloat16(), draw().bfloat16()
    mean, buffer = draw().bfloat16(), draw().bfloat16()
    codes, maxima = torch_state._encode(draw() ** 2)
    stepped(rule, param, grad, [mean, codes, buffer, maxima], rounding="stochastic", lr=0.01, **options)
    arrays = {
        "param": words(param),
        "mean": words(mean),
        "buffer": words(buffer),
        "code": codes.numpy(),
        "maxima": maxima.numpy(),
    }
    return {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize("isa", ISAS)
def test_the_same_seed_gives_the_same_bits_whatever_the_threads_and_instructions(isa):
    core.set_isa("baseline")
    expected = everything_stochastic(seed=9, threads=1)
    core.set_isa(isa)
    for threads in (1, 2, 3, 7):
        assert everything_stochastic(seed=9, threads=threads) == expected, threads


def test_another_seed_step_or_tensor_gives_other_bits():
    base = everything_stochastic(seed=9)
    for change in ({"seed": 10}, {"seed": 9, "step": 2}, {"seed": 9, "first": 1}, {"seed": 2**62}):
        other = everything_stochastic(**change)
        for name in ("param", "mean", "buffer", "code"):
            assert other[name] != base[name], (name, change)


def test_neighbouring_seeds_tensors_and_blocks_are_not_correlated():
    n = 64 * BLOCK
    x = torch.full((n,), 1.0 + 2.0**-8)  # half way between two bfloat16: up or down like a coin
    rows = []
    for options in [{"seed": s} for s in range(4)] + [{"first": f} for f in (1, 2, 3)] + [{"step": s} for s in (2, 3)]:
        up = written(x, torch.bfloat16, rounding="stochastic", **options).float() > 1.0
        rows.append(up.double().numpy() * 2 - 1)
    rows = np.array(rows)
    correlation = rows @ rows.T / n
    off = correlation[~np.eye(len(rows), dtype=bool)]
    assert np.abs(off).max() < 5 / np.sqrt(n)
    blocks = rows[0].reshape(64, BLOCK)
    between = (blocks @ blocks.T / BLOCK)[~np.eye(64, dtype=bool)]
    assert np.abs(between).max() < 5.5 / np.sqrt(BLOCK)
    shifted = [float(rows[0][:-k] @ rows[0][k:]) / (n - k) for k in range(1, 40)]
    assert np.abs(shifted).max() < 5 / np.sqrt(n - 40)
