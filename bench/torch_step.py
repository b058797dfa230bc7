"""The step of rmsprop.torch beside torch's own optimizers, the peers, and the memory limit.

    python -m bench torch_step [--quick]

All candidates of a table run in one process, a few steps each in turn, so that a busy machine slows all of them; a
figure is the ratio of medians. Absolute times are printed for orientation only. A turn is ten steps of the middle
sizes, whose arrays are in the cache then; with two steps a turn, that is with half of them cold, the memory's time is
added to everybody's and the ratios are smaller by a fifth to a third.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bench.timing import time_interleaved
from rmsprop import _core
from rmsprop.torch import RMSprop

SHAPES: dict[str, list[tuple[int, ...]]] = {
    # two hidden layers of 64 for a policy and a value function: what A2C trains on CartPole
    "RL network": [
        (64, 4), (64,), (64, 64), (64,), (64, 4), (64,), (64, 64), (64,), (2, 64), (2,), (1, 64), (1,),
    ],
    "Nature CNN": [
        (32, 4, 8, 8), (32,), (64, 32, 4, 4), (64,), (64, 64, 3, 3), (64,), (512, 3136), (512,), (6, 512), (6,),
        (1, 512), (1,),
    ],
    "161 tensors": [shape for _ in range(53) for shape in ((150, 250), (150,), (250,))] + [(100, 100), (64,)],
    "30 M": [(30_000_000,)],
}  # fmt: skip

TARGETS = {
    ("RL network", "torch"): 12, ("RL network", "torch.compile"): 4, ("RL network", "fused Adagrad"): 4,
    ("Nature CNN", "torch"): 4.5, ("Nature CNN", "torch.compile"): 1.2, ("Nature CNN", "fused Adagrad"): 1.25,
    ("161 tensors", "torch"): 8, ("161 tensors", "torch.compile"): 1.6, ("161 tensors", "fused Adagrad"): 2,
    ("30 M", "torch"): 5.3, ("30 M", "torch.compile"): 1.15, ("30 M", "memory limit"): 1 / 1.08,
}  # fmt: skip


def parameters(shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Return parameters with gradients, random but the same for every candidate."""
    generator = torch.Generator().manual_seed(0)
    params = []
    for shape in shapes:
        param = nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
        param.grad = torch.randn(shape, generator=generator).to(dtype)
        params.append(param)
    return params


def steps_per_round(shapes: list[tuple[int, ...]]) -> int:
    return max(1, min(200, 20_000_000 // sum(math.prod(s) for s in shapes)))


def compile_step(optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
    optimizer.step()  # state first: the compiler shall see a step, not its initialisation
    return torch.compile(optimizer.step)


def memory_limit(params: list[nn.Parameter]) -> Callable[[], Any]:
    squares = [torch.zeros_like(p.data) for p in params]
    datas = [p.data for p in params]
    grads = [p.grad for p in params]
    threads = torch.get_num_threads() if sum(p.numel() for p in params) >= 1 << 16 else 1
    return lambda: _core.move_bytes(datas, grads, squares, threads)


def against_torch(quick: bool) -> list[dict[str, Any]]:
    """Plain steps, by shape: how many times as long the others take."""
    rows = []
    for name, shapes in SHAPES.items():
        candidates: dict[str, Callable[[], Any]] = {
            "rmsprop": RMSprop(parameters(shapes), lr=1e-4).step,
            "torch": torch.optim.RMSprop(parameters(shapes), lr=1e-4).step,
            "torch foreach": torch.optim.RMSprop(parameters(shapes), lr=1e-4, foreach=True).step,
            "fused Adagrad": torch.optim.Adagrad(parameters(shapes), lr=1e-4, fused=True).step,
            "fused Adam": torch.optim.Adam(parameters(shapes), lr=1e-4, fused=True).step,
            "memory limit": memory_limit(parameters(shapes)),
        }
        if not quick or name in ("RL network", "30 M"):
            candidates["torch.compile"] = compile_step(torch.optim.RMSprop(parameters(shapes), lr=1e-4, foreach=True))
        candidates.update(peers(shapes))
        times = time_interleaved(candidates, per_round=steps_per_round(shapes), seconds=1.5 if quick else 6)
        for other, seconds in times.items():
            rows.append(
                {
                    "work": name,
                    "against": other,
                    "microseconds": seconds * 1e6,
                    "ratio": seconds / times["rmsprop"],
                    "target": TARGETS.get((name, other)),
                }
            )
    return rows


def peers(shapes: list[tuple[int, ...]]) -> dict[str, Callable[[], Any]]:
    """Return the steps of the other libraries that are installed."""
    found: dict[str, Callable[[], Any]] = {}
    try:
        import jax
        import jax.numpy as jnp
        import optax
    except ImportError:
        pass
    else:
        transform = optax.rmsprop(1e-4, decay=0.99, eps_in_sqrt=False)
        params = [jnp.asarray(p.detach().numpy()) for p in parameters(shapes)]
        grads = [jnp.asarray(p.grad.numpy()) for p in parameters(shapes)]  # type: ignore[union-attr]

        def update(params: Any, state: Any, grads: Any) -> Any:
            updates, state = transform.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        jitted = jax.jit(update, donate_argnums=(0, 1))
        carried = [params, transform.init(params)]

        def optax_step() -> None:
            carried[:] = jitted(*carried, grads)
            jax.block_until_ready(carried[0])

        found["optax jit"] = optax_step
    for name, module in (("HeavyBall", "heavyball"), ("bitsandbytes", "bitsandbytes.optim")):
        try:
            library = __import__(module, fromlist=["RMSprop"])
        except ImportError:
            continue
        found[name] = library.RMSprop(parameters(shapes), lr=1e-4).step
    return found


def options(quick: bool) -> list[dict[str, Any]]:
    """Momentum, centered, and clipping, against torch with the same options."""
    rows = []
    for work in ("Nature CNN", "30 M"):
        shapes = SHAPES[work]
        for label, kwargs in (("momentum", {"momentum": 0.9}), ("centered", {"centered": True})):
            if work == "Nature CNN" and quick:
                continue
            times = time_interleaved(
                {
                    "rmsprop": RMSprop(parameters(shapes), lr=1e-4, **kwargs).step,
                    "torch": torch.optim.RMSprop(parameters(shapes), lr=1e-4, **kwargs).step,
                },
                per_round=steps_per_round(shapes),
                seconds=1.5 if quick else 5,
            )
            target = 5 if work == "30 M" else None
            rows.append(_row(work, label, "torch", times, target))
        theirs = parameters(shapes)
        reference = torch.optim.RMSprop(theirs, lr=1e-4)

        def clip_and_step(theirs: Any = theirs, reference: Any = reference) -> None:
            nn.utils.clip_grad_norm_(theirs, 1.0)
            reference.step()

        ours = RMSprop(parameters(shapes), lr=1e-4, max_norm=1.0)
        times = time_interleaved(
            {"rmsprop": ours.step, "torch": clip_and_step},
            per_round=steps_per_round(shapes),
            seconds=1.5 if quick else 5,
        )
        rows.append(_row(work, "clip + step", "clip_grad_norm_ + torch", times, 4))
    return rows


def storage(quick: bool) -> list[dict[str, Any]]:
    """16-bit parameters and narrow states at 30 M: time against float32, and bytes kept per parameter."""
    count = 5_000_000 if quick else 30_000_000
    stochastic, compensated = {"param_rounding": "stochastic"}, {"param_rounding": "compensated"}
    kinds: dict[str, tuple[torch.dtype, dict[str, Any], float | None]] = {
        "float32, float32 state": (torch.float32, {}, None),
        "float32, bfloat16 state": (torch.float32, {"state_dtype": "bfloat16"}, 1.15),
        "float32, 8-bit state": (torch.float32, {"state_dtype": "8bit"}, 1.3),
        "bfloat16 nearest, float32 state": (torch.bfloat16, {}, None),
        "bfloat16 stochastic, float32 state": (torch.bfloat16, stochastic, 1.4),
        "bfloat16 compensated, float32 state": (torch.bfloat16, compensated, 1.1),
        "bfloat16 stochastic, 8-bit state": (torch.bfloat16, {**stochastic, "state_dtype": "8bit"}, 2.0),
        "bfloat16 compensated, 8-bit state": (torch.bfloat16, {**compensated, "state_dtype": "8bit"}, 1.3),
    }
    optimizers = {
        name: RMSprop(parameters([(count,)], dtype), lr=1e-4, **kwargs) for name, (dtype, kwargs, _) in kinds.items()
    }
    times = time_interleaved(
        {name: optimizer.step for name, optimizer in optimizers.items()}, per_round=1, seconds=4 if quick else 15
    )
    rows = []
    for name, optimizer in optimizers.items():
        (param,) = optimizer.param_groups[0]["params"]
        kept = [param, *(t for key, t in optimizer.state[param].items() if key != "step")]
        rows.append(
            {
                "work": f"{count / 1e6:.0f} M",
                "storage": name,
                "faster than float32": times["float32, float32 state"] / times[name],
                "target": kinds[name][2],
                "bytes kept per parameter": sum(t.numel() * t.element_size() for t in kept) / count,
            }
        )
    return rows


def extra_memory() -> list[dict[str, Any]]:
    """Bytes that one step allocates beyond parameters, gradients and state, at 5 M parameters."""
    from torch.profiler import ProfilerActivity, profile

    rows = []
    shapes = [(5_000_000,)]
    for name, optimizer in (
        ("rmsprop", RMSprop(parameters(shapes), lr=1e-4)),
        ("torch", torch.optim.RMSprop(parameters(shapes), lr=1e-4)),
        ("torch foreach", torch.optim.RMSprop(parameters(shapes), lr=1e-4, foreach=True)),
    ):
        optimizer.step()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            optimizer.step()
        allocated = sum(max(0, event.self_cpu_memory_usage) for event in record.events())
        rows.append({"step of": name, "bytes allocated per parameter": allocated / 5e6})
    return rows


def a2c_update(quick: bool) -> list[dict[str, Any]]:
    """The share of the optimizer in one A2C update (40 transitions, the RL network), and the whole update's ratio."""

    def update(make: Callable[[Any], torch.optim.Optimizer]) -> Callable[[], Any]:
        torch.manual_seed(0)
        policy = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
        value = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
        observed, returns, actions = torch.randn(40, 4), torch.randn(40), torch.randint(0, 2, (40,))
        optimizer = make([*policy.parameters(), *value.parameters()])

        def run() -> None:
            optimizer.zero_grad()
            values = value(observed).squeeze(1)
            logp = policy(observed).log_softmax(1)[torch.arange(40), actions]
            (-(logp * (returns - values).detach()).mean() + 0.5 * (returns - values).square().mean()).backward()
            optimizer.step()

        run.step = optimizer.step  # type: ignore[attr-defined]
        return run

    ours = update(lambda params: RMSprop(params, lr=7e-4, eps=1e-5))
    theirs = update(lambda params: torch.optim.RMSprop(params, lr=7e-4, eps=1e-5))
    ours()
    theirs()
    times = time_interleaved(
        {
            "ours": ours,
            "theirs": theirs,
            "our step": ours.step,  # type: ignore[attr-defined]
            "their step": theirs.step,  # type: ignore[attr-defined]
        },
        per_round=20,
        seconds=1 if quick else 4,
    )
    return [
        {
            "update with": "rmsprop",
            "share of the step": times["our step"] / times["ours"],
            "whole update, times as fast": times["theirs"] / times["ours"],
        },
        {
            "update with": "torch",
            "share of the step": times["their step"] / times["theirs"],
            "whole update, times as fast": 1.0,
        },
    ]


def per_call(quick: bool) -> list[dict[str, Any]]:
    """What a step costs beside its arithmetic: 2x2 parameters, hot, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    classes = {"rmsprop": RMSprop, "torch": torch.optim.RMSprop}
    steps = {f"{name} {n}": cls(parameters([(2, 2)] * n)).step for name, cls in classes.items() for n in (1, 101)}
    times = time_interleaved(steps, per_round=50, seconds=1 if quick else 4)
    torch.set_num_threads(threads)
    rows = []
    for name, fixed_target, target in (("rmsprop", 3.5, 0.30), ("torch", None, None)):
        each = (times[f"{name} 101"] - times[f"{name} 1"]) / 100
        rows.append(
            {
                "step of": name,
                "fixed, microseconds": 1e6 * (times[f"{name} 1"] - each),
                "fixed at most": fixed_target,
                "per tensor, microseconds": 1e6 * each,
                "per tensor at most": target,
            }
        )
    return rows


def _row(work: str, label: str, other: str, times: dict[str, float], target: float | None) -> dict[str, Any]:
    return {
        "work": f"{work}, {label}",
        "against": other,
        "microseconds": times["torch"] * 1e6,
        "ratio": times["torch"] / times["rmsprop"],
        "target": target,
    }


def main(quick: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Measure everything; each value is a table, a list of rows."""
    torch.manual_seed(0)
    started = time.perf_counter()
    tables = {
        "step, times as long as ours": against_torch(quick),
        "options, times as long as ours": options(quick),
        "storage": storage(quick),
        "memory of a step": extra_memory(),
        "A2C update": a2c_update(quick),
        "small tensors": per_call(quick),
    }
    tables["run"] = [
        {"seconds": time.perf_counter() - started, "threads": torch.get_num_threads(), "torch": torch.__version__}
    ]
    return tables
