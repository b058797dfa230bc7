"""Promise: gradient release steps each parameter inside backward, to the same bits, and refuses what cannot work."""

from __future__ import annotations

import gc
import itertools
import weakref

import pytest
import torch
from torch import nn

from rmsprop.errors import InputError
from rmsprop.torch import RMSprop, release_gradients

DEPTH, WIDTH = 8, 32


def built(dtype=torch.float32, *, frozen=(), **options):
    torch.manual_seed(0)
    layers = itertools.chain.from_iterable((nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(DEPTH))
    model = nn.Sequential(*layers).to(dtype)
    for k in frozen:
        list(model.parameters())[k].requires_grad_(False)
    return model, RMSprop(model.parameters(), lr=1e-3, **options)


def batches(count, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randn(4, WIDTH, generator=generator).to(dtype)


def train(model, optimizer, steps, *, schedulers=(), dtype=torch.float32):
    for x in batches(steps, dtype):
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        for scheduler in schedulers:
            scheduler.step()


def assert_same(model, optimizer, other, other_optimizer):
    for ours, theirs in zip(model.parameters(), other.parameters()):
        assert torch.equal(ours, theirs)
        assert optimizer.state[ours].keys() == other_optimizer.state[theirs].keys()
        for key, value in optimizer.state[ours].items():
            assert torch.equal(value, other_optimizer.state[theirs][key]), key


OPTIONS = [
    {},
    {"momentum": 0.9, "centered": True, "weight_decay": 0.01},
    {"dialect": "keras3"},
    {"state_dtype": "8bit"},
    {"state_dtype": "bfloat16", "momentum": 0.9},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_bits_are_those_of_a_usual_loop(options):
    usual = built(**options)
    train(*usual, 12)
    released = built(**options)
    release_gradients(*released)
    train(*released, 12)
    assert_same(*released, *usual)


@pytest.mark.parametrize("frozen", [(), (0, 5, 6)], ids=["all", "some frozen"])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "compensated"])
def test_so_they_are_in_bfloat16_with_every_rounding(rounding, frozen):
    options = {"dtype": torch.bfloat16, "frozen": frozen, "param_rounding": rounding, "state_dtype": "8bit", "seed": 3}
    usual = built(**options)
    train(*usual, 12, dtype=torch.bfloat16)
    released = built(**options)
    release_gradients(*released)
    train(*released, 12, dtype=torch.bfloat16)
    assert_same(*released, *usual)


def test_every_gradient_is_freed():
    model, optimizer = built()
    release_gradients(model, optimizer)
    (model(torch.ones(1, WIDTH)) ** 2).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(optimizer.state[p]["step"] == 1 for p in model.parameters())


def most_gradient_bytes(release):
    """The largest sum of living gradients while backward runs, seen by a hook at every layer and parameter."""
    model, optimizer = built()
    most = 0

    def look(*_):
        nonlocal most
        most = max(most, sum(p.grad.nbytes for p in model.parameters() if p.grad is not None))

    for param in model.parameters():
        param.register_post_accumulate_grad_hook(look)  # before release's own, which frees the gradient
    if release:
        release_gradients(model, optimizer)
    train(model, optimizer, 2)
    return most, [p.nbytes for p in model.parameters()]


def test_at_no_time_there_are_more_than_a_few_gradients():
    usual, sizes = most_gradient_bytes(False)
    assert usual == sum(sizes)
    released, _ = most_gradient_bytes(True)
    assert released <= 2 * max(sizes)


def test_learning_rate_schedulers_keep_working():
    def scheduled(optimizer):
        return [
            torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5),
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
        ]

    usual, released = built(), built()
    release_gradients(*released)
    for pair in (usual, released):
        train(*pair, 10, schedulers=scheduled(pair[1]))
    assert released[1].param_groups[0]["lr"] == usual[1].param_groups[0]["lr"] < 1e-3
    assert_same(*released, *usual)


def test_each_group_keeps_its_own_numbers():
    pairs = []
    for release in (False, True):
        model, _ = built()
        params = list(model.parameters())
        optimizer = RMSprop([{"params": params[:5], "lr": 1e-2}, {"params": params[5:], "momentum": 0.9}], lr=1e-3)
        if release:
            release_gradients(model, optimizer)
        train(model, optimizer, 6)
        pairs.append((model, optimizer))
    assert_same(*pairs[1], *pairs[0])


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
    pairs = []
    for release in (False, True):
        model = Tied()
        optimizer = RMSprop(model.parameters(), lr=1e-3)
        if release:
            release_gradients(model, optimizer)
        train(model, optimizer, 5)
        pairs.append((model, optimizer))
    assert_same(*pairs[1], *pairs[0])
    assert pairs[1][1].state[pairs[1][0].inside.weight]["step"] == 5


def test_a_parameter_without_a_gradient_is_left_alone():
    model, optimizer = built()
    extra = nn.Parameter(torch.ones(3))
    optimizer.add_param_group({"params": [extra]})
    release_gradients(model, optimizer)
    train(model, optimizer, 2)
    assert torch.equal(extra, torch.ones(3))
    assert not optimizer.state.get(extra)


def test_remove_goes_back_to_gradients_that_wait():
    usual = built()
    train(*usual, 6)
    model, optimizer = built()
    handle = release_gradients(model, optimizer)
    x = list(batches(6))
    for k, batch in enumerate(x):
        if k == 3:
            handle.remove()
        (model(batch) ** 2).mean().backward()
        assert all((p.grad is None) == (k < 3) for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
    assert_same(model, optimizer, *usual)
    handle.remove()  # twice is once


def test_accumulation_is_refused():
    model, optimizer = built()
    release_gradients(model, optimizer)
    x = torch.ones(1, WIDTH)
    model(x).sum().backward()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(RuntimeError, match=r"second backward before optimizer\.step.*cannot be accumulated"):
        model(x).sum().backward()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before))
    optimizer.zero_grad()
    optimizer.step()
    model(x).sum().backward()  # and it goes on
    optimizer.step()


def test_clipping_to_a_global_norm_is_refused():
    model, optimizer = built(max_norm=1.0)
    with pytest.raises(InputError, match="max_norm needs the norm of all gradients"):
        release_gradients(model, optimizer)
    model, optimizer = built()
    release_gradients(model, optimizer)
    optimizer.max_norm = 1.0
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(InputError, match="max_norm needs the norm of all gradients"):
        model(torch.ones(1, WIDTH)).sum().backward()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before))


def test_a_grad_scaler_is_refused():
    model, optimizer = built()
    release_gradients(model, optimizer)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model(torch.ones(1, WIDTH)).sum()).backward()
    with pytest.raises(RuntimeError, match="GradScaler decides after backward"):
        scaler.step(optimizer)


@pytest.mark.parametrize("amp", ["grad_scale", "found_inf"])
def test_so_are_its_arguments(amp):
    model, optimizer = built()
    release_gradients(model, optimizer)
    model(torch.ones(1, WIDTH)).sum().backward()
    with pytest.raises(RuntimeError, match="GradScaler decides after backward"):
        optimizer.step(**{amp: torch.zeros(())})


def test_a_closure_works():
    pairs = built(), built()
    release_gradients(*pairs[1])
    for model, optimizer in pairs:
        for x in batches(4):

            def closure(model=model, optimizer=optimizer, x=x):
                optimizer.zero_grad()
                loss = (model(x) ** 2).mean()
                loss.backward()
                return loss

            assert optimizer.step(closure) > 0
    assert_same(*pairs[1], *pairs[0])


def test_releasing_twice_is_refused():
    model, optimizer = built()
    handle = release_gradients(model, optimizer)
    with pytest.raises(InputError, match="already releases its gradients"):
        release_gradients(model, optimizer)
    handle.remove()
    release_gradients(model, optimizer)
    handle.remove()  # of the first call: the second one's hooks stay
    with pytest.raises(InputError, match="already releases its gradients"):
        release_gradients(model, optimizer)


def test_nothing_keeps_a_released_optimizer_alive():
    model, optimizer = built()
    release_gradients(model, optimizer)
    train(model, optimizer, 1)
    seen = weakref.ref(optimizer)
    del model, optimizer
    gc.collect()
    assert seen() is None


def test_distributed_data_parallel_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist = torch.distributed
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        model, optimizer = built()
        parallel = nn.parallel.DistributedDataParallel(model)
        for wrapped in (parallel, nn.Sequential(parallel)):
            with pytest.raises(InputError, match="DistributedDataParallel averages gradients"):
                release_gradients(wrapped, optimizer)
    finally:
        dist.destroy_process_group()


def test_another_optimizer_is_refused_by_name():
    model, _ = built()
    with pytest.raises(InputError, match=r"optimizer: a SGD, expected a rmsprop\.torch\.RMSprop"):
        release_gradients(model, torch.optim.SGD(model.parameters(), lr=0.1))
