"""The options that each original implementation is run with, in its names and in those of this library."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, Literal

KEPT_IN_FLOAT32 = ("rho", "eps", "momentum")


@dataclasses.dataclass(frozen=True)
class Case:
    """One run of an original implementation.

    Attributes:
        upstream: A name of `frameworks.RUNS`.
        dialect: Its name in this library.
        options: The original's options, in its names.
        ours: The same in this library's names.
        doubles: Options that are Python floats reach the original as NumPy float64.
        rounded: Switches of the rule that the original keeps in float32, also in a float64 run; here they are rounded.
        fresh: What the original forms in float32 in a float32 run, where this library forms it in double and rounds it
            once: 1 - rho ("once") or 1 - rho**t ("each step").
        raw: The original keeps uncorrected averages, here they are kept corrected.
        first: The first step to compare; the ones before show a bug of the original. From the second on, steps
            are compared one by one, each from the original's state.
        dtypes: What the original can do.
        why: The reason of every exception above.
    """

    upstream: str
    dialect: str
    options: dict[str, Any]
    ours: dict[str, Any]
    doubles: bool = False
    rounded: tuple[str, ...] = ()
    fresh: Literal["", "once", "each step"] = ""
    raw: bool = False
    first: int = 1
    dtypes: tuple[str, ...] = ("float64", "float32")
    why: str = ""

    @property
    def label(self) -> str:
        """The original and its options, in short."""
        given = " ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.upstream} {given}".rstrip() + " (doubles)" * self.doubles


def _cross(**axes: list[tuple[dict, dict]]) -> Iterator[tuple[dict, dict]]:
    """Every combination of one entry per axis; an entry is (the original's options, this library's)."""
    for entries in itertools.product(*axes.values()):
        theirs, ours = {}, {}
        for entry in entries:
            theirs |= entry[0]
            ours |= entry[1]
        yield theirs, ours


def _same(**options: Any) -> tuple[dict, dict]:
    return options, options


OFF: tuple[dict, dict] = ({}, {})
MOMENTUM = [OFF, _same(momentum=0.9)]
CENTERED = [OFF, _same(centered=True)]
DECAY = [OFF, _same(weight_decay=0.01)]


def _torch() -> Iterator[Case]:
    upward = [OFF, _same(maximize=True)]
    for theirs, ours in _cross(momentum=MOMENTUM, centered=CENTERED, decay=DECAY, maximize=upward):
        yield Case("torch", "torch", theirs, ours)
    yield Case("torch", "torch", {"alpha": 0.95, "eps": 1e-5}, {"rho": 0.95, "eps": 1e-5})


def _timm() -> Iterator[Case]:
    places = [
        OFF,
        *DECAY[1:],
        (
            {"weight_decay": 0.01, "decoupled_decay": True},
            {"weight_decay": 0.01, "weight_decay_mode": "decoupled"},
        ),
        (
            {"weight_decay": 0.01, "decoupled_decay": True, "corrected_weight_decay": True},
            {"weight_decay": 0.01, "weight_decay_mode": "decoupled_corrected"},
        ),
    ]
    momentum = [*MOMENTUM, ({"momentum": 0.9, "lr_in_momentum": False}, {"momentum": 0.9, "buffer": "unit"})]
    for theirs, ours in _cross(momentum=momentum, centered=CENTERED, decay=places):
        yield Case("timm", "timm", theirs, ours)
    yield Case("timm", "timm", {"alpha": 0.95, "eps": 1e-3}, {"rho": 0.95, "eps": 1e-3})


def _sb3() -> Iterator[Case]:
    for theirs, ours in _cross(momentum=MOMENTUM, centered=CENTERED, decay=DECAY):
        yield Case("sb3", "sb3", theirs, ours)
    yield Case("sb3", "sb3", {"alpha": 0.95, "eps": 1e-5}, {"rho": 0.95, "eps": 1e-5})


def _optax() -> Iterator[Case]:
    eps = [OFF, ({"eps_in_sqrt": False}, {"eps_mode": "outside"})]
    momentum = [*MOMENTUM, ({"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "nesterov": "post"})]
    start = [OFF, ({"initial_scale": 0.5}, {"init": 0.5}), _same(bias_correction=True)]
    for theirs, ours in _cross(eps=eps, centered=CENTERED, momentum=momentum, start=start):
        corrected = "bias_correction" in theirs
        first_is_wrong = corrected and "centered" in theirs
        why = (
            "the first corrected variance is 0: optax divides by eps or by a root of rounding noise"
            if first_is_wrong
            else ""
        )
        yield Case(
            "optax", "optax", theirs, ours, raw=corrected, fresh="each step" if corrected else "",
            first=2 if first_is_wrong else 1, why=why,
        )  # fmt: skip
    yield Case("optax", "optax", {"decay": 0.95, "eps": 1e-3}, {"rho": 0.95, "eps": 1e-3})


def _jax() -> Iterator[Case]:
    for theirs, ours in (OFF, ({"gamma": 0.95, "eps": 1e-3}, {"rho": 0.95, "eps": 1e-3})):
        yield Case("jax", "jax", theirs, ours)
        yield Case("jax-momentum", "jax-momentum", theirs, ours)
    yield Case("jax-momentum", "jax-momentum", *_same(momentum=0.5))


def _keras() -> Iterator[Case]:
    for backend in ("tensorflow", "jax", "torch"):
        # On TensorFlow a Python number meets a float64 variable as float32; 2**-7 is the same number in both.
        decay = [OFF, _same(weight_decay=2.0**-7)] if backend == "tensorflow" else DECAY
        for theirs, ours in _cross(momentum=MOMENTUM, centered=CENTERED, decay=decay):
            yield Case(f"keras3-{backend}", "keras3", theirs, ours)
        yield Case(f"keras3-{backend}", "keras3", {"rho": 0.95, "epsilon": 1e-3}, {"rho": 0.95, "eps": 1e-3})
    yield Case(
        "keras3-tensorflow", "keras3", *_same(weight_decay=0.01), rounded=("weight_decay",),
        why="on the TensorFlow backend Keras takes weight_decay through float32",
    )  # fmt: skip


def _tf_keras() -> Iterator[Case]:
    exact = [OFF, _same(weight_decay=2.0**-7)]
    for theirs, ours in _cross(momentum=MOMENTUM, centered=CENTERED, decay=exact):
        yield Case("tf-keras", "tf-keras", theirs, ours)
    yield Case("tf-keras", "tf-keras", {"rho": 0.95, "epsilon": 1e-3}, {"rho": 0.95, "eps": 1e-3})
    yield Case(
        "tf-keras", "tf-keras", *_same(weight_decay=0.01), rounded=("weight_decay",),
        why="tf_keras takes weight_decay through float32",
    )  # fmt: skip


def _slots(upstream: str, rho: str, numbers: dict[str, Any]) -> Iterator[Case]:
    """TensorFlow 1 and tf_keras's legacy optimizer: fused kernels, Python floats that become float32."""
    ours_of = {rho: "rho", "epsilon": "eps"}
    rounded = KEPT_IN_FLOAT32 if upstream == "tensorflow1" else ("rho", "momentum")
    chosen = (numbers, {ours_of[k]: v for k, v in numbers.items()})
    for theirs, ours in [*_cross(momentum=MOMENTUM, centered=CENTERED), chosen]:
        # NumPy's float64 stays what it is; what the optimizer takes as its default is a Python float.
        given = {rho: 0.9, "epsilon": 1e-10 if upstream == "tensorflow1" else 1e-7, "momentum": 0.0, **theirs}
        yield Case(upstream, upstream, given, ours, doubles=True, fresh="once")
        yield Case(
            upstream, upstream, theirs, ours, fresh="once", rounded=rounded,
            why="Python floats become float32 tensors, also for float64 variables",
        )  # fmt: skip


def _legacy() -> Iterator[Case]:
    yield from _slots("tf-keras-legacy", "rho", {"rho": 0.95, "epsilon": 1e-3})
    yield Case(
        "tf-keras-legacy", "tf-keras-legacy", {"epsilon": 0.0}, {"eps": 1e-7}, fresh="once",
        rounded=("rho", "momentum"), why="epsilon=0 silently becomes 1e-7",
    )  # fmt: skip


def _paddle() -> Iterator[Case]:
    why = "rho, epsilon and momentum are C++ floats, also in a float64 run"
    for theirs, ours in _cross(momentum=MOMENTUM, centered=CENTERED, decay=DECAY):
        yield Case("paddle", "paddle", theirs, ours, fresh="once", rounded=KEPT_IN_FLOAT32, why=why)
    # Exact in float32: nothing is rounded.
    theirs = {"rho": 0.875, "epsilon": 2.0**-20, "momentum": 0.75}
    yield Case("paddle", "paddle", theirs, {"rho": 0.875, "eps": 2.0**-20, "momentum": 0.75})


def _mlx() -> Iterator[Case]:
    yield Case("mlx", "mlx", {}, {})
    yield Case("mlx", "mlx", {"alpha": 0.9, "eps": 1e-3}, {"rho": 0.9, "eps": 1e-3})


def _bitsandbytes() -> Iterator[Case]:
    for theirs, ours in _cross(decay=DECAY, numbers=[OFF, ({"alpha": 0.9, "eps": 1e-3}, {"rho": 0.9, "eps": 1e-3})]):
        yield Case("bitsandbytes", "bitsandbytes", theirs, ours, dtypes=("float32",), why="it has no float64")
    yield Case(
        "bitsandbytes", "bitsandbytes", {"momentum": 0.9}, {}, dtypes=("float32",),
        why="momentum is taken and ignored, so this is the run without",
    )  # fmt: skip


def _heavyball() -> Iterator[Case]:
    numbers = [OFF, ({"betas": [0.9, 0.95], "eps": 1e-3}, {"rho": 0.95, "eps": 1e-3})]
    for theirs, ours in _cross(decay=DECAY, numbers=numbers):
        yield Case(
            "heavyball", "heavyball", theirs, ours, fresh="each step", dtypes=("float32",),
            why="the corrected decay is formed in float32, also for float64 parameters, which then differ by 5e-7",
        )  # fmt: skip


LIVE = ("torch", "timm", "sb3", "optax", "jax", "jax-momentum")
"""Original implementations that run in the process of the tests."""

APART = {
    "tensorflow": ("keras3-tensorflow", "tf-keras", "tf-keras-legacy", "tensorflow1"),
    "jax": ("keras3-jax",),
    "torch": ("keras3-torch",),
}
"""Keras backend -> original implementations that run together in a separate process with it."""

RECORDED = ("paddle", "mlx", "bitsandbytes", "heavyball")
"""Original implementations whose dependencies conflict with those of the tests, or of one another."""

ALL = (*LIVE, *itertools.chain(*APART.values()), *RECORDED)

CASES: tuple[Case, ...] = (
    *_torch(), *_timm(), *_sb3(), *_optax(), *_jax(), *_keras(), *_tf_keras(),
    *_legacy(), *_slots("tensorflow1", "decay", {"decay": 0.95, "epsilon": 1e-3}),
    *_paddle(), *_mlx(), *_bitsandbytes(), *_heavyball(),
)  # fmt: skip


def of(upstream: str) -> tuple[Case, ...]:
    """Return the cases of an original implementation."""
    return tuple(case for case in CASES if case.upstream == upstream)
