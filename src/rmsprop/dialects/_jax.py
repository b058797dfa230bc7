"""Rows of JAX and of the functional libraries: optax, Trax, autograd, flax, MLX, Julia."""

from __future__ import annotations

from rmsprop.dialects._model import Dialect
from rmsprop.dialects._remarks import CENTERED_NAN
from rmsprop.rule import Rule

__all__ = ["ROWS"]

_OUTSIDE = Rule(rho=0.9, eps=1e-8, eps_mode="outside")
_INSIDE = Rule(rho=0.9, eps=1e-8, eps_mode="inside")

ROWS = (
    Dialect(
        name="optax",
        title="optax.rmsprop",
        rule=_INSIDE,
        source="google-deepmind/optax, optax/_src/alias.py, optax/_src/transform.py, 0.2.8",
        evidence="V",
        offers=("rho", "eps", "eps_mode", "init", "centered", "momentum", "nesterov", "bias_correction"),
        choices={"eps_mode": ("inside", "outside")},
        momentum_buffer="lr",
        words={
            "lr": "learning_rate",
            "rho": "decay",
            "eps_mode": "eps_in_sqrt",
            "init": "initial_scale",
            "mean_sq": "nu",
            "mean_grad": "mu",
            "momentum_buf": "trace",
        },
        bugs=(
            "centered with bias_correction: the first corrected variance is exactly 0, NaN at step 1",
            CENTERED_NAN + ": step 133 of a constant gradient",
            "bias_correction with initial_scale above 0 inflates the start instead of removing it",
            "nesterov without momentum is ignored",
        ),
        differs=(
            "centered with bias_correction: the first step divides by the magnitude of the gradient",
            "bias_correction with a start above zero, and nesterov without momentum, raise",
        ),
        complex="abs2",
        buffer_when="momentum",
        notes=(
            "trace holds minus the buffer of this library, lr inside",
            "momentum=0.0 keeps a trace, momentum=None does not: buffer='lr' says so here",
            "before 2024-07 eps was always inside and there was no bias correction",
        ),
    ),
    Dialect(
        name="jax",
        title="jax.example_libraries.optimizers.rmsprop",
        aliases=("jax-example-libraries", "stax"),
        rule=_INSIDE,
        source="jax-ml/jax, jax/example_libraries/optimizers.py, 0.10.2",
        evidence="V",
        refuses={"momentum": "the plain rmsprop has none: rmsprop_momentum is the dialect 'jax-momentum'"},
        words={"lr": "step_size", "rho": "gamma", "mean_sq": "avg_sq_grad"},
        notes=("before 2019-07 mean_sq started at one, before 2019-10 eps was outside the root",),
    ),
    Dialect(
        name="jax-momentum",
        title="jax.example_libraries.optimizers.rmsprop_momentum",
        aliases=("rmsprop-momentum",),
        rule=_INSIDE.replace(buffer="lr", momentum=0.9),
        source="jax-ml/jax, jax/example_libraries/optimizers.py, 0.10.2",
        evidence="V",
        offers=("rho", "eps", "momentum"),
        momentum_buffer="lr",
        words={"lr": "step_size", "rho": "gamma", "mean_sq": "avg_sq_grad", "momentum_buf": "mom"},
        buffer_when="always",
    ),
    Dialect(
        name="mlx",
        title="mlx.optimizers.RMSprop",
        rule=_OUTSIDE.replace(rho=0.99),
        source="ml-explore/mlx, python/mlx/optimizers/optimizers.py, 0.32.4",
        evidence="V",
        nonzero={"eps": "MLX refuses an eps of 0"},
        words={"lr": "learning_rate", "rho": "alpha", "mean_sq": "v"},
        notes=("lr is a float32 number and is cast to the gradient's dtype; run on CPU, in float64 too",),
    ),
    Dialect(
        name="optimisers-jl",
        title="Optimisers.jl RMSProp (Julia)",
        aliases=("optimisers.jl", "optimisers", "julia"),
        rule=_OUTSIDE,
        lr=1e-3,
        source="FluxML/Optimisers.jl, src/rules.jl, 0.4.8",
        evidence="S",
        offers=("rho", "eps", "centered"),
        words={"lr": "eta", "eps": "epsilon", "mean_sq": "quad", "mean_grad": "lin"},
        differs=(
            "in float16 it raises eps to at least 1e-7; here 16-bit arrays are computed in float32 with eps as given",
        ),
        complex="abs2",
    ),
    Dialect(
        name="flux",
        title="Flux RMSProp up to 0.14 (Julia)",
        aliases=("flux.jl",),
        rule=_OUTSIDE,
        lr=1e-3,
        source="FluxML/Flux.jl, src/optimise/optimisers.jl, up to 0.14",
        evidence="S",
        words={"lr": "eta", "eps": "epsilon", "mean_sq": "acc"},
        complex="abs2",
    ),
    Dialect(
        name="trax",
        title="Trax RMSProp",
        rule=_OUTSIDE.replace(init="ones"),
        lr=1e-3,
        source="google/trax, trax/optimizers/rms_prop.py",
        evidence="S",
        words={"lr": "learning_rate", "rho": "gamma", "mean_sq": "avg_sq_grad"},
    ),
    Dialect(
        name="autograd",
        title="HIPS autograd rmsprop",
        aliases=("hips",),
        rule=_OUTSIDE.replace(init="ones"),
        lr=0.1,
        source="HIPS/autograd, autograd/misc/optimizers.py",
        evidence="S",
        words={"lr": "step_size", "rho": "gamma", "mean_sq": "avg_sq_grad"},
    ),
    Dialect(
        name="flax",
        title="flax.optim.RMSProp (removed)",
        aliases=("flax.optim",),
        rule=_OUTSIDE,
        source="google/flax, flax/optim/rmsprop.py, before its removal",
        evidence="S",
        offers=("rho", "eps", "centered"),
        words={"lr": "learning_rate", "rho": "beta2", "mean_sq": "v", "mean_grad": "mg"},
    ),
)
