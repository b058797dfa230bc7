"""Promise: gradient release steps each parameter inside backward, to the same bits, and raises where it cannot work."""

from __future__ import annotations

import gc
import itertools
import weakref

import pytest
import torch
from torch import nn
from torch_helpers import assert_same_bits, use_one_thread  # noqa: F401

from rmsprop.errors import InputError
from rmsprop.torch import RMSprop, release_gradients

DEPTH, WIDTH = 8, 32


def make(*, dtype=torch.float32, frozen=(), release=False, **options):
    torch.manual_seed(0)
    layers = itertools.chain.from_iterable((nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(DEPTH))
    model = nn.Sequential(*layers).to(dtype)
    for k in frozen:
        list(model.parameters())[k].requires_grad_(False)
    optimizer = RMSprop(model.parameters(), lr=1e-3, **options)
    if release:
        release_gradients(model, optimizer)
    return model, optimizer


def draw_batches(count, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, WIDTH, generator=generator).to(dtype) for _ in range(count)]


def train(model, optimizer, steps, *, schedulers=()):
    for x in draw_batches(steps, next(model.parameters()).dtype):
        (model(x) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        for scheduler in schedulers:
            scheduler.step()


# ---- the same training -----------------------------------------------------------------------------------------------

OPTIONS = [
    {},
    {"momentum": 0.9, "centered": True, "weight_decay": 0.01},
    {"dialect": "keras3"},
    {"state_dtype": "8bit"},
    {"state_dtype": "bfloat16", "momentum": 0.9},
    *({"dtype": torch.bfloat16, "param_rounding": rounding, "state_dtype": "8bit", "seed": 3, "frozen": frozen}
      for rounding in ("nearest", "stochastic", "compensated") for frozen in ((), (0, 5, 6))),
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_bits_are_those_of_the_usual_loop(options):
    runs = [make(release=release, **options) for release in (False, True)]
    for run in runs:
        train(*run, 12)
    assert_same_bits(runs[1][1], runs[0][1])


def test_schedulers_keep_working():
    runs = [make(release=release) for release in (False, True)]
    for model, optimizer in runs:
        schedulers = [
            torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5),
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
        ]
        train(model, optimizer, 10, schedulers=schedulers)
    assert runs[1][1].param_groups[0]["lr"] == runs[0][1].param_groups[0]["lr"] < 1e-3
    assert_same_bits(runs[1][1], runs[0][1])


def test_each_group_keeps_its_own_numbers():
    optimizers = []
    for release in (False, True):
        model, _ = make()
        params = list(model.parameters())
        optimizers.append(RMSprop([{"params": params[:5], "lr": 1e-2}, {"params": params[5:], "momentum": 0.9}]))
        if release:
            release_gradients(model, optimizers[-1])
        train(model, optimizers[-1], 6)
    assert_same_bits(*optimizers)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inside = nn.Linear(WIDTH, WIDTH)
        self.outside = nn.Linear(WIDTH, WIDTH)
        self.outside.weight = self.inside.weight

    def forward(self, x):
        return self.outside(torch.tanh(self.inside(torch.tanh(self.inside(x)))))


def test_a_shared_parameter_steps_once_with_the_sum_of_its_gradients():
    optimizers = []
    for release in (False, True):
        model = Tied()
        optimizers.append(RMSprop(model.parameters(), lr=1e-3))
        if release:
            release_gradients(model, optimizers[-1])
        train(model, optimizers[-1], 5)
    assert_same_bits(*optimizers)
    assert optimizers[1].state[model.inside.weight]["step"] == 5


def test_a_closure_works():
    runs = [make(release=release) for release in (False, True)]
    for model, optimizer in runs:
        for x in draw_batches(4):

            def closure(model=model, optimizer=optimizer, x=x):
                optimizer.zero_grad()
                loss = (model(x) ** 2).mean()
                loss.backward()
                return loss

            assert optimizer.step(closure) > 0
    assert_same_bits(runs[1][1], runs[0][1])


def test_remove_goes_back_to_gradients_that_are_kept():
    _, usual = run = make()
    train(*run, 6)
    model, optimizer = make()
    handle = release_gradients(model, optimizer)
    for k, x in enumerate(draw_batches(6)):
        if k == 3:
            handle.remove()
        (model(x) ** 2).mean().backward()
        assert all((p.grad is None) == (k < 3) for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
    assert_same_bits(optimizer, usual)
    handle.remove()  # a second call does nothing


# ---- memory ----------------------------------------------------------------------------------------------------------


def measure_gradient_bytes(release):
    """Return the largest sum of existing gradients while backward runs, measured at every parameter, and all sizes."""
    model, optimizer = make()
    most = 0

    def measure(_):
        nonlocal most
        most = max(most, sum(p.grad.nbytes for p in model.parameters() if p.grad is not None))

    for param in model.parameters():
        param.register_post_accumulate_grad_hook(measure)  # before release's own, which frees the gradient
    if release:
        release_gradients(model, optimizer)
    (model(torch.ones(1, WIDTH)) ** 2).sum().backward()
    assert all((p.grad is None) == release for p in model.parameters())
    return most, [p.nbytes for p in model.parameters()]


def test_never_more_than_a_few_gradients_exist_and_all_are_freed():
    usual, sizes = measure_gradient_bytes(False)
    assert usual == sum(sizes)
    released, _ = measure_gradient_bytes(True)
    assert 0 < released <= 2 * max(sizes)


def test_a_parameter_without_a_gradient_is_not_changed():
    model, optimizer = make()
    extra = nn.Parameter(torch.ones(3))
    optimizer.add_param_group({"params": [extra]})
    release_gradients(model, optimizer)
    train(model, optimizer, 2)
    assert torch.equal(extra, torch.ones(3))
    assert not optimizer.state.get(extra)


def test_the_hooks_do_not_keep_the_optimizer_alive():
    model, optimizer = make(release=True)
    train(model, optimizer, 1)
    reference = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert reference() is None
    (model(torch.ones(1, WIDTH)) ** 2).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_accumulation_raises_and_changes_nothing():
    model, optimizer = make(release=True)
    x = torch.ones(1, WIDTH)
    model(x).sum().backward()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(RuntimeError, match=r"second backward before optimizer\.step.*cannot be accumulated"):
        model(x).sum().backward()
    assert_same_bits(list(model.parameters()), before)
    optimizer.zero_grad()
    optimizer.step()
    model(x).sum().backward()  # and training continues
    optimizer.step()


def test_clipping_to_a_global_norm_raises():
    with pytest.raises(InputError, match="max_norm needs the norm of all gradients"):
        make(max_norm=1.0, release=True)
    model, optimizer = make(release=True)
    optimizer.max_norm = 1.0
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(InputError, match="max_norm needs the norm of all gradients"):
        model(torch.ones(1, WIDTH)).sum().backward()
    assert_same_bits(list(model.parameters()), before)


@pytest.mark.parametrize("argument", [None, "grad_scale", "found_inf"])
def test_a_grad_scaler_and_its_arguments_raise(argument):
    model, optimizer = make(release=True)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model(torch.ones(1, WIDTH)).sum()).backward()
    with pytest.raises(RuntimeError, match="GradScaler decides after backward"):
        scaler.step(optimizer) if argument is None else optimizer.step(**{argument: torch.zeros(())})


def test_releasing_twice_raises():
    model, optimizer = make()
    handle = release_gradients(model, optimizer)
    with pytest.raises(InputError, match="already releases its gradients"):
        release_gradients(model, optimizer)
    handle.remove()
    release_gradients(model, optimizer)
    handle.remove()  # the first call's: the second one's hooks stay
    with pytest.raises(InputError, match="already releases its gradients"):
        release_gradients(model, optimizer)


def test_distributed_data_parallel_raises(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist = torch.distributed
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        model, optimizer = make()
        parallel = nn.parallel.DistributedDataParallel(model)
        for wrapped in (parallel, nn.Sequential(parallel)):
            with pytest.raises(InputError, match="DistributedDataParallel averages gradients"):
                release_gradients(wrapped, optimizer)
    finally:
        dist.destroy_process_group()


def test_another_optimizer_raises_by_name():
    model, _ = make()
    with pytest.raises(InputError, match=r"optimizer: a SGD, expected a rmsprop\.torch\.RMSprop"):
        release_gradients(model, torch.optim.SGD(model.parameters(), lr=0.1))
