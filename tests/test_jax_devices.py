"""rmsprop.jax on several devices: pmap and sharded arrays do what one device does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("optax", reason="optax is not installed")
pytestmark = pytest.mark.slow

PREAMBLE = """
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import rmsprop.jax

assert jax.device_count() == 4
tx = rmsprop.jax.rmsprop(lambda t: 0.1 / (1 + t), momentum=0.9, centered=CENTERED)
rng = np.random.default_rng(0)
grads = [rng.normal(size=(8, 6)).astype("float32") for _ in range(5)]
params = jnp.ones((8, 6))

def step(params, state, grad):
    updates, state = tx.update(grad, state, params)
    return optax.apply_updates(params, updates), state

expected, state = params, tx.init(params)
for grad in grads:
    expected, state = jax.jit(step)(expected, state, grad)
"""

PMAP = """
parts = params.reshape(4, 2, 6)
state = jax.pmap(tx.init)(parts)
run = jax.pmap(step)
for grad in grads:
    parts, state = run(parts, state, grad.reshape(4, 2, 6))
np.testing.assert_allclose(np.asarray(parts).reshape(8, 6), expected, rtol=1e-6, atol=1e-6)
assert state.count.tolist() == [5] * 4
"""

SHARDED = """
mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("x", "y"))
sharding = NamedSharding(mesh, PartitionSpec("x", "y"))
spread = jax.device_put(params, sharding)
state = tx.init(spread)
arrays = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
assert arrays and all(leaf.sharding.is_equivalent_to(sharding, 2) for leaf in arrays)
run = jax.jit(step, donate_argnums=(0, 1))
for grad in grads:
    spread, state = run(spread, state, jax.device_put(grad, sharding))
assert spread.sharding.is_equivalent_to(sharding, 2)
assert all(leaf.sharding.is_equivalent_to(sharding, 2) for leaf in jax.tree.leaves(state) if leaf.ndim)
np.testing.assert_allclose(spread, expected, rtol=1e-6, atol=1e-6)
text = run.lower(spread, state, jax.device_put(grads[0], sharding)).compile().as_text()
assert not any(word in text for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute"))
"""


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("program", [PMAP, SHARDED], ids=["pmap", "sharded"])
def test_four_devices_do_what_one_does_and_need_no_talk(program, centered):
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    code = PREAMBLE.replace("CENTERED", str(centered)) + program
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
