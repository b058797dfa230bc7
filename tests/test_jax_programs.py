"""Promise: rmsprop.jax works on several devices, in the examples and in optax's own tests; each in its own process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("optax", reason="optax is not installed")
pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"
FOUR_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}


def run_python(*arguments, **environment):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- several devices -------------------------------------------------------------------------------------------------

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
def test_four_devices_match_one_without_communication(program, centered):
    run_python("-c", PREAMBLE.replace("CENTERED", str(centered)) + program, **FOUR_DEVICES)


# ---- examples --------------------------------------------------------------------------------------------------------


def test_the_jax_example_matches_optax():
    losses = re.findall(r"loss (\S+) -> (\S+)", run_python(EXAMPLES / "jax_drop_in.py"))
    assert len(losses) == 3
    assert losses[0][0] == losses[1][0]
    assert float(losses[1][1]) == pytest.approx(float(losses[0][1]), rel=0.05)
    assert all(float(after) < 0.2 * float(before) for before, after in losses)


def test_the_keras_example_resumes_after_saving():
    pytest.importorskip("keras", reason="keras is not installed")
    pytest.importorskip("torch", reason="torch is not installed")
    text = run_python(EXAMPLES / "keras_drop_in.py", KERAS_BACKEND="torch")
    assert "init='ones', buffer='lr', momentum=0.5" in text
    first, saved, last = (float(loss) for loss in re.findall(r"\d\.\d{4}", text))
    assert first > saved > last


# ---- optax's own tests -----------------------------------------------------------------------------------------------

RUN_OPTAX_TESTS = """
import unittest
import optax
from optax._src import alias
import rmsprop.jax

alias.rmsprop = optax.rmsprop = rmsprop.jax.rmsprop
from optax._src import alias_test, float64_test, sharding_test

def tests(suite):
    for item in suite:
        yield from tests(item) if isinstance(item, unittest.TestSuite) else [item]

chosen = unittest.TestSuite()
for module in (alias_test, float64_test, sharding_test):
    for test in tests(unittest.defaultTestLoader.loadTestsFromModule(module)):
        method = getattr(test, test._testMethodName)
        if "rmsprop" in test.id() + repr(getattr(method, "__x_params_repr__", "")):
            chosen.addTest(test)
result = unittest.TextTestRunner(verbosity=2).run(chosen)
print("ran", result.testsRun, "skipped", len(result.skipped))
raise SystemExit(not result.wasSuccessful() or result.testsRun < 30)
"""


@pytest.mark.peers
def test_the_tests_of_optax_pass():
    try:
        from optax._src import alias_test  # noqa: F401
    except ImportError as error:
        pytest.skip(f"optax ships no tests that run here: {error}")
    run_python("-c", RUN_OPTAX_TESTS, **FOUR_DEVICES)
