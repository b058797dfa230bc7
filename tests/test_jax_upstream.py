"""optax's own tests pass with this library's rmsprop in the place of optax's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("optax", reason="optax is not installed")
pytestmark = pytest.mark.peers

RUN = """
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


def test_optax_tests_pass_with_this_rmsprop_in_its_place():
    try:
        from optax._src import alias_test  # noqa: F401
    except ImportError as error:
        pytest.skip(f"optax ships no tests that run here: {error}")
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
