"""Each original optimizer over the course: a generator that yields its parameters and state after every step.

The state is named in this library's words: mean_sq, mean_grad, momentum_buf, as far as the original keeps them, with
the sign that subtracts it from the parameter. An original implementation is imported when it runs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from peers.course import GRADS, LRS, START

Options = dict[str, Any]
Snapshot = dict[str, np.ndarray]
ALONE = Path(sys.prefix) / "alone"
"""Packages without those they depend on: timm, whose torchvision does not import beside the CPU build of torch."""


def _torch_family(make: Callable[..., Any], options: Options, dtype: str, words: dict[str, str]) -> Iterator[Any]:
    import torch

    param = torch.nn.Parameter(torch.tensor(START, dtype=getattr(torch, dtype)))
    optimizer = make([param], lr=LRS[0], **options)
    for grad, lr in zip(GRADS, LRS):
        optimizer.param_groups[0]["lr"] = float(lr)
        param.grad = torch.tensor(grad, dtype=param.dtype)
        optimizer.step()
        state = _flat(optimizer.state[param])
        yield {"param": param} | {ours: state[theirs] for ours, theirs in words.items() if theirs in state}


def _flat(state: dict[Any, Any]) -> dict[str, Any]:
    """The state without the nesting of HeavyBall."""
    flat = {}
    for key, value in state.items():
        flat |= _flat(value) if isinstance(value, dict) else {key: value}
    return flat


TORCH_WORDS = {"mean_sq": "square_avg", "mean_grad": "grad_avg", "momentum_buf": "momentum_buffer"}


def torch(options: Options, dtype: str) -> Iterator[Snapshot]:
    from torch.optim import RMSprop

    return _torch_family(RMSprop, options, dtype, TORCH_WORDS)


def timm(options: Options, dtype: str) -> Iterator[Snapshot]:
    if not (ALONE / "timm").is_dir():
        raise ModuleNotFoundError(f"no timm in {ALONE}: `make test` puts it there", name="timm")
    upstream = import_alone(ALONE / "timm" / "optim", "rmsprop_tf").RMSpropTF
    return _torch_family(upstream, options, dtype, TORCH_WORDS)


def sb3(options: Options, dtype: str) -> Iterator[Snapshot]:
    (folder,) = importlib.util.find_spec("stable_baselines3").submodule_search_locations
    upstream = import_alone(Path(folder) / "common" / "sb2_compat", "rmsprop_tf_like").RMSpropTFLike
    return _torch_family(upstream, options, dtype, TORCH_WORDS)


def import_alone(folder: Path, module: str) -> Any:
    """Import one file of a package and its neighbors, without the package: timm wants torchvision, sb3 TensorBoard."""
    name = f"alone_{folder.name}"
    if name not in sys.modules:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    return importlib.import_module(f"{name}.{module}")


def bitsandbytes(options: Options, dtype: str) -> Iterator[Snapshot]:
    from bitsandbytes.optim import RMSprop

    return _torch_family(RMSprop, {"optim_bits": 32, **options}, dtype, {"mean_sq": "state1"})


def heavyball(options: Options, dtype: str) -> Iterator[Snapshot]:
    import heavyball as hb

    # Compiling needs a C++ compiler at run time, and says nothing about the formula.
    hb.utils.compile_mode = None
    return _torch_family(hb.RMSprop, options, dtype, {"mean_sq": "scale_by_exp_avg_sq_exp_avg_sq_0"})


def optax(options: Options, dtype: str) -> Iterator[Snapshot]:
    import jax
    import optax as upstream

    with jax.enable_x64(dtype == "float64"):
        table = jax.numpy.asarray(LRS, dtype)
        transformation = upstream.rmsprop(lambda count: table[count], **options)
        param = jax.numpy.asarray(START, dtype)
        state = transformation.init(param)
        update = jax.jit(transformation.update)
        for grad in jax.numpy.asarray(GRADS, dtype):
            updates, state = update(grad, state)
            param = upstream.apply_updates(param, updates)
            kept = {key: value for part in state for key, value in part._asdict().items()}
            snapshot = {"param": param, "mean_sq": kept["nu"]}
            snapshot |= {"mean_grad": kept["mu"]} if "mu" in kept else {}
            yield snapshot | ({"momentum_buf": -kept["trace"]} if "trace" in kept else {})


def jax(options: Options, dtype: str, *, name: str = "rmsprop") -> Iterator[Snapshot]:
    import jax as upstream
    from jax.example_libraries import optimizers

    with upstream.enable_x64(dtype == "float64"):
        table = upstream.numpy.asarray(LRS, dtype)
        init, update, params_of = getattr(optimizers, name)(lambda i: table[i], **options)
        state = init(upstream.numpy.asarray(START, dtype))
        update = upstream.jit(update)
        for t, grad in enumerate(upstream.numpy.asarray(GRADS, dtype)):
            state = update(t, grad, state)
            kept = dict(zip(("param", "mean_sq", "momentum_buf"), upstream.tree.leaves(state)))
            yield {**kept, "param": params_of(state)}


def jax_momentum(options: Options, dtype: str) -> Iterator[Snapshot]:
    return jax(options, dtype, name="rmsprop_momentum")


def keras3(options: Options, dtype: str) -> Iterator[Snapshot]:
    import keras

    keras.config.set_floatx(dtype)
    variable = keras.Variable(START, dtype=dtype)
    optimizer = keras.optimizers.RMSprop(LRS[0], **options)
    kept = {"mean_sq": "_velocities", "mean_grad": "_average_gradients", "momentum_buf": "_momentums"}
    for grad, lr in zip(GRADS, LRS):
        optimizer.learning_rate = float(lr)
        optimizer.apply([keras.ops.convert_to_tensor(grad, dtype)], [variable])
        state = {ours: getattr(optimizer, theirs, None) for ours, theirs in kept.items()}
        yield {"param": variable.numpy()} | {ours: held[0].numpy() for ours, held in state.items() if held}


def tf_keras(options: Options, dtype: str) -> Iterator[Snapshot]:
    import tensorflow as tf
    import tf_keras as upstream

    variable = tf.Variable(START, dtype=dtype)
    optimizer = upstream.optimizers.RMSprop(LRS[0], **options)
    kept = {"mean_sq": "_velocities", "mean_grad": "_average_gradients", "momentum_buf": "_momentums"}
    for grad, lr in zip(GRADS, LRS):
        optimizer.learning_rate = float(lr)
        optimizer.apply_gradients([(tf.constant(grad, dtype), variable)])
        state = {ours: getattr(optimizer, theirs, None) for ours, theirs in kept.items()}
        yield {"param": variable.numpy()} | {ours: held[0].numpy() for ours, held in state.items() if held}


SLOTS = {"mean_sq": "rms", "mean_grad": "mg", "momentum_buf": "momentum"}


def tf_keras_legacy(options: Options, dtype: str) -> Iterator[Snapshot]:
    import tensorflow as tf
    import tf_keras as upstream

    variable = tf.Variable(START, dtype=dtype)
    optimizer = upstream.optimizers.legacy.RMSprop(LRS[0], **options)
    for grad, lr in zip(GRADS, LRS):
        optimizer.learning_rate = float(lr)
        optimizer.apply_gradients([(tf.constant(grad, dtype), variable)])
        slots = {ours: slot for ours, slot in SLOTS.items() if slot in optimizer.get_slot_names()}
        yield {"param": variable.numpy()} | {k: optimizer.get_slot(variable, slot).numpy() for k, slot in slots.items()}


def tensorflow1(options: Options, dtype: str) -> Iterator[Snapshot]:
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        variable = tf1.get_variable("w", initializer=START.astype(dtype), use_resource=True)
        grad_, lr_ = tf1.placeholder(dtype, START.shape), tf1.placeholder(dtype, ())
        optimizer = tf1.train.RMSPropOptimizer(lr_, **options)
        train = optimizer.apply_gradients([(grad_, variable)])
        slots = {k: optimizer.get_slot(variable, slot) for k, slot in SLOTS.items()}
        fetched = {"param": variable} | {k: slot for k, slot in slots.items() if slot is not None}
        session.run(tf1.global_variables_initializer())
        for grad, lr in zip(GRADS, LRS):
            session.run(train, {grad_: grad, lr_: lr})
            yield session.run(fetched)


def paddle(options: Options, dtype: str) -> Iterator[Snapshot]:
    import paddle as upstream

    upstream.set_device("cpu")
    param = upstream.create_parameter(START.shape, dtype)
    param.set_value(START.astype(dtype))
    optimizer = upstream.optimizer.RMSProp(float(LRS[0]), parameters=[param], **options)
    kept = {"mean_sq": "mean_square", "momentum_buf": "momentum"}
    kept |= {"mean_grad": "mean_grad"} if options.get("centered") else {}
    for grad, lr in zip(GRADS, LRS):
        optimizer.set_lr(float(lr))
        (param * upstream.to_tensor(grad.astype(dtype))).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
        state = optimizer.state_dict()
        yield {"param": param.numpy()} | {k: state[f"{param.name}_{theirs}_0"].numpy() for k, theirs in kept.items()}


def mlx(options: Options, dtype: str) -> Iterator[Snapshot]:
    import mlx.core as mx
    import mlx.optimizers as upstream

    mx.set_default_device(mx.cpu)
    params = {"w": mx.array(START.astype(dtype), dtype=getattr(mx, dtype))}
    optimizer = upstream.RMSprop(float(LRS[0]), **options)
    for grad, lr in zip(GRADS, LRS):
        optimizer.learning_rate = float(lr)
        params = optimizer.apply_gradients({"w": mx.array(grad.astype(dtype), dtype=params["w"].dtype)}, params)
        mx.eval(params, optimizer.state)
        yield {"param": params["w"], "mean_sq": optimizer.state["w"]["v"]}


RUNS: dict[str, tuple[Callable[..., Iterator[Snapshot]], str]] = {
    "torch": (torch, "torch"),
    "timm": (timm, "timm"),
    "sb3": (sb3, "stable_baselines3"),
    "optax": (optax, "optax"),
    "jax": (jax, "jax"),
    "jax-momentum": (jax_momentum, "jax"),
    "keras3-tensorflow": (keras3, "keras"),
    "keras3-jax": (keras3, "keras"),
    "keras3-torch": (keras3, "keras"),
    "tf-keras": (tf_keras, "tf_keras"),
    "tf-keras-legacy": (tf_keras_legacy, "tf_keras"),
    "tensorflow1": (tensorflow1, "tensorflow"),
    "paddle": (paddle, "paddlepaddle"),
    "mlx": (mlx, "mlx"),
    "bitsandbytes": (bitsandbytes, "bitsandbytes"),
    "heavyball": (heavyball, "heavyball"),
}
"""An original implementation's run and the distribution that it comes from."""


def version(upstream: str) -> str:
    """Return the version that is installed, without the label of a build: 2.13.0."""
    path = [str(ALONE)] if upstream == "timm" else sys.path
    found = next(iter(importlib.metadata.distributions(name=RUNS[upstream][1], path=path)), None)
    if found is None:
        raise ModuleNotFoundError(f"{RUNS[upstream][1]} is not installed", name=RUNS[upstream][1])
    return found.version.split("+")[0]
