"""Try an installed wheel: `make wheel` runs this in an empty environment, and the release's workflow for each wheel.

Front ends whose framework is not installed have to say what to install; the lab's page has to be served.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import urllib.request

import numpy as np

import rmsprop
from rmsprop.errors import MissingDependency


def step_numpy():
    weight = np.array([0.2, 0.4, 0.6])
    rmsprop.RMSprop(weight, lr=0.01).step(np.array([-0.5, 0.3, 0.24]))
    return weight


def step_torch():
    import torch

    weight = torch.nn.Parameter(torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64))
    weight.grad = torch.tensor([-0.5, 0.3, 0.24], dtype=torch.float64)
    rmsprop.torch.RMSprop([weight], lr=0.01, alpha=0.9).step()
    return weight.detach().numpy()


def step_jax():
    import jax.numpy as jnp

    weight = jnp.array([0.2, 0.4, 0.6])
    transform = rmsprop.jax.rmsprop(0.01, decay=0.9)
    updates, _ = transform.update(jnp.array([-0.5, 0.3, 0.24]), transform.init(weight))
    return np.asarray(weight + updates)


def step_keras():
    import keras

    weight = keras.Variable([0.2, 0.4, 0.6])
    rmsprop.keras.RMSprop(0.01, rho=0.9).apply([keras.ops.array([-0.5, 0.3, 0.24])], [weight])
    return np.asarray(weight.value)


def read_page() -> str:
    """Start `rmsprop lab`, and return its page."""
    command = [sys.executable, "-m", "rmsprop", "lab", "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as lab:
        try:
            address = re.search(r"http://\S+", lab.stdout.readline())[0]
            with urllib.request.urlopen(address) as answer:
                return answer.read().decode()
        finally:
            lab.terminate()


def main() -> None:
    assert rmsprop.is_compiled(), "the compiled module is missing"
    for framework in ("numpy", "torch", "jax", "keras"):
        try:
            if framework != "numpy":
                importlib.import_module(f"rmsprop.{framework}")
        except MissingDependency as error:
            print(f"{framework}: {error}")
            continue
        np.testing.assert_allclose(globals()[f"step_{framework}"](), [0.23162278, 0.36837722, 0.56837722], rtol=1e-6)
        print(f"{framework}: one step as by hand")
    if importlib.util.find_spec("uvicorn"):
        assert "<title>RMSprop lab</title>" in read_page()
        print("lab: the page is served")


if __name__ == "__main__":
    main()
