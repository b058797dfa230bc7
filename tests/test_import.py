"""Promise: `import rmsprop` is light, docstring examples run, and the package works without a compiler."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import subprocess
import sys

import pytest

import rmsprop
from rmsprop.errors import MissingDependency

EXTRAS = {"torch", "jax", "optax", "keras", "tensorflow", "matplotlib", "PIL", "sklearn", "starlette", "uvicorn"}
EXTRAS |= {"h5py", "imageio_ffmpeg", "optuna", "flax"}


def run_script(text, **environment):
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


# ---- the import ------------------------------------------------------------------------------------------------------


def test_importing_rmsprop_loads_no_large_package_and_dir_lists_every_module():
    result = run_script("import sys, rmsprop; print(*dir(rmsprop)); print(*sys.modules)")
    assert result.returncode == 0, result.stderr
    names, loaded = (set(line.split()) for line in result.stdout.splitlines())
    assert "rmsprop" in loaded
    assert not loaded & (EXTRAS | {"scipy", "safetensors", "typer", "rich", "click", "pandas", "asyncio"})
    public = {module.name for module in pkgutil.iter_modules(rmsprop.__path__) if not module.name.startswith("_")}
    assert public - names == {"cli", "commands"}  # used through the command line only


def test_every_public_name_is_listed_and_documented():
    assert sorted(rmsprop.__all__) == rmsprop.__all__
    for name in rmsprop.__all__:
        assert getattr(rmsprop, name).__doc__
        assert name in dir(rmsprop)
    visible = {
        name
        for name, value in vars(rmsprop).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("rmsprop")
    }
    assert visible <= set(rmsprop.__all__)
    with pytest.raises(AttributeError, match="module 'rmsprop' has no attribute 'rmsporp'"):
        rmsprop.rmsporp  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("name", ["minimize", "tune"])
@pytest.mark.parametrize(
    "first",
    ["rmsprop.scipy_method", "import rmsprop.{0}", "from rmsprop.{0} import {0}", "rmsprop.{0}", "rmsprop.view"],
)
def test_minimize_and_tune_are_functions_whatever_was_imported_first(name, first):
    result = run_script(
        f"import rmsprop; {first.format(name)}; import rmsprop.{name}; print(rmsprop.{name}.__name__, dir(rmsprop))"
    )
    assert result.stdout.startswith(f"{name} ["), result.stderr


# ---- modules that are imported on first use --------------------------------------------------------------------------

WITHOUT = "import sys; sys.modules.update(dict.fromkeys({packages!r})); import inspect, rmsprop; "


def run_without(packages, text):
    return run_script(WITHOUT.format(packages=list(packages)) + text)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in rmsprop._NEEDS else name
        for name in sorted(rmsprop._MODULES)
    ],
)
def test_a_module_loads_on_first_access(name):
    result = run_script(f"import rmsprop; print(rmsprop.{name}.__name__)")
    assert result.stdout.split() == [f"rmsprop.{name}"], result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "package"), [("torch", "torch"), ("jax", "jax"), ("jax", "optax"), ("keras", "keras")]
)
@pytest.mark.parametrize(
    "access", ["rmsprop.{}", "import rmsprop.{}", "from rmsprop import {}", "hasattr(rmsprop, {!r})"]
)
def test_a_missing_framework_raises_with_the_pip_command(name, package, access):
    text = f"""
try:
    {access.format(name)}
except rmsprop.errors.MissingDependency as error:
    print(isinstance(error, ImportError), error)
"""
    result = run_without([package], text)
    assert result.stdout == f'True {package} is needed for rmsprop.{name}: pip install "rmsprop[{name}]"\n', (
        result.stderr
    )


def test_star_import_and_getmembers_work_without_any_extra():
    text = """
from rmsprop import *
members = dict(inspect.getmembers(rmsprop))
print(minimize is members["minimize"], tune is members["tune"], *sorted({"torch", "jax", "keras", "view"} & {*members}))
"""
    assert run_without(EXTRAS, text).stdout == "True True view\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("rmsprop.view.plot(run.trace, 'x.png')", 'matplotlib is needed for pictures: pip install "rmsprop[lab]"'),
        ("rmsprop.view.animate(run.trace, 'x.gif')", 'matplotlib is needed for pictures: pip install "rmsprop[lab]"'),
        ("rmsprop.doctor.watch(None)", 'torch is needed for rmsprop.torch: pip install "rmsprop[torch]"'),
        ("rmsprop.tune(lambda s: 0.0, trials=1)", 'optuna is needed for tuning: pip install "rmsprop[tune]"'),
    ],
)
def test_a_function_without_its_extra_raises_with_the_pip_command(call, message):
    text = f"run = rmsprop.minimize(lambda x: x @ x, [1.0], jac=lambda x: 2 * x, lr=0.1, steps=2, trace=True); {call}"
    last = run_without(EXTRAS, text).stderr.splitlines()[-1]
    assert last.startswith("rmsprop.errors.MissingDependency: ")
    assert message in last


# ---- the examples ----------------------------------------------------------------------------------------------------

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(rmsprop.__path__, "rmsprop.")
    if not module.name.endswith("__main__")
)


# Keras, TensorFlow and torch tensors do not know the copy argument that NumPy 2 gives __array__.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", ["rmsprop", *MODULES])
def test_docstring_examples_run(name, tmp_path, monkeypatch):
    try:
        module = importlib.import_module(name)
    except (MissingDependency, ModuleNotFoundError) as error:
        missing = getattr(error, "name", None) or str(error).partition(" ")[0]
        if missing.partition(".")[0] not in EXTRAS:
            raise
        pytest.skip(f"{name} needs {missing}")
    monkeypatch.chdir(tmp_path)
    failures, examples = doctest.testmod(module)
    assert failures == 0
    assert examples > 0 or name.partition(".")[2] not in ("rule", "numpy", "formula", "_tree", "_files")


# ---- without a compiler ----------------------------------------------------------------------------------------------

DIGEST = """
import hashlib, itertools, warnings, numpy as np
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    HIDE
    import rmsprop
    import rmsprop.numpy, rmsprop._step
    from rmsprop import Rule
digest = hashlib.sha256()
switches = itertools.product((False, True), ("none", "unit", "lr"), ("outside", "inside", "max"), (False, True))
for centered, buffer, eps_mode, bias_correction in switches:
    rule = Rule(centered=centered, buffer=buffer, eps_mode=eps_mode, bias_correction=bias_correction,
                momentum=0.9 if buffer != "none" else 0.0, weight_decay=0.01, weight_decay_mode="decoupled")
    for dtype, max_norm in itertools.product(("float32", "float64"), (None, 0.5)):
        rng = np.random.default_rng(3)
        params = [rng.standard_normal((5, 7)).astype(dtype), rng.standard_normal(20_000).astype(dtype)]
        optimizer = rmsprop.RMSprop(params, lr=0.01, dialect=rule, max_norm=max_norm)
        for _ in range(3):
            optimizer.step([rng.standard_normal(p.shape).astype(dtype) for p in params])
        digest.update(np.float64(optimizer.grad_norm).tobytes() if max_norm else b"")
        for array in (*params, *itertools.chain(*optimizer.buffers.values())): digest.update(array.tobytes())
print(rmsprop.is_compiled(), digest.hexdigest())
for warning in caught: print(warning.category.__name__, warning.message)
"""


def compute_digest(hide="", **environment):
    result = run_script(DIGEST.replace("HIDE", hide), **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_pure_python_gives_the_same_bits_without_a_warning_if_requested():
    if not rmsprop.is_compiled():
        pytest.skip("the compiled module is not installed")
    compiled, pure = compute_digest(), compute_digest(RMSPROP_PURE_PYTHON="1")
    assert len(compiled) == len(pure) == 1
    assert compiled[0].replace("True", "False") == pure[0]


def test_a_missing_compiled_module_warns_once():
    lines = compute_digest(hide="import sys; sys.modules['rmsprop._core'] = None")
    assert lines[0].startswith("False")
    assert lines[1:] == [
        "RuntimeWarning rmsprop runs without its compiled module: the same results, several times slower. To build it, "
        "install a C++17 compiler and reinstall: pip install --force-reinstall --no-cache-dir rmsprop"
    ]
