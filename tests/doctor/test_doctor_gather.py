"""What a watch gathers of a step: its gradients, of closures and sparse rows too, and no more than it looks at."""

from __future__ import annotations

import pytest

from rmsprop.doctor import watch

torch = pytest.importorskip("torch", reason="torch is not installed")

from rmsprop.torch import RMSprop  # noqa: E402
from torch_helpers import TorchRMSprop as Host  # noqa: E402
from torch_helpers import draw_grads, train  # noqa: E402
from torch_helpers import make_params as parameters  # noqa: E402

MAKERS = {"torch": Host, "here": RMSprop}


def closure_of(optimizer, loss):
    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_gradient_of_a_closure_is_that_of_its_own_step(make):
    (param,) = parameters([(4, 4)])
    optimizer = make([param], lr=1e-3)
    seen = []
    with watch(optimizer, every=1, budget=None) as watching:
        for size in (1.0, 2.0, 4.0):
            optimizer.step(closure_of(optimizer, lambda size=size: size * param.sum()))
            seen.append(watching.looks["0"].grad_rms)
    assert seen == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_tensor_that_a_closure_leaves_out_is_left_out(make):
    used, unused = parameters([(4, 4), (3,)])
    optimizer = make([used, unused], lr=1e-3)
    unused.grad = torch.ones(3)  # of before; the closure takes it away
    with watch(optimizer, every=1, budget=None) as watching:
        optimizer.step(closure_of(optimizer, used.sum))
    assert set(watching.looks) == {"0"}


def test_a_closure_that_raises_leaves_nothing_behind():
    (param,) = parameters([(4, 4)])
    optimizer = Host([param], lr=1e-3)

    def broken():
        raise ZeroDivisionError

    draw_grads([param], 0)
    with watch(optimizer, every=1000, budget=None) as watching:
        with pytest.raises(ZeroDivisionError):
            optimizer.step(broken)  # the first step, which was to be looked at
        with torch.no_grad():
            param += 100.0
        train(optimizer, 1)
    assert watching.looks == {}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("maximize", [False, True])
def test_weight_decay_is_added_to_the_gradient_that_the_rule_descends(make, maximize):
    (param,) = parameters([(4, 4)])
    optimizer = make([param], lr=1e-3, alpha=0.0, weight_decay=0.5, maximize=maximize)
    with watch(optimizer, every=1, budget=None) as watching:
        train(optimizer, 1)
    look = watching.looks["0"]
    assert look.grad_rms == pytest.approx(look.root_mean_sq, rel=1e-6)  # with alpha 0 mean_sq is that gradient's square


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_large_gradients_that_are_finite_are_not_called_nan(make):
    from rmsprop.doctor.gather import all_finite

    grad = torch.full((100,), 1e37)  # whose sum is not a float32
    assert all_finite(grad)
    assert not all_finite(grad.index_fill(0, torch.tensor([7]), torch.inf))
    (param,) = parameters([(100,)])
    optimizer = make([param], lr=1e-3)
    with watch(optimizer, every=1, budget=None) as watching:
        param.grad = grad
        optimizer.step()
    held = bool(optimizer.state[param]["square_avg"].isfinite().all())  # not torch's, whose square overflows
    assert watching.looks["0"].not_finite == ("" if held else "mean_sq")


def test_what_is_gathered_of_a_large_tensor_is_what_the_whole_holds():
    from rmsprop.doctor.gather import square, taken
    from rmsprop.doctor.sample import grid
    from rmsprop.torch.state import read_square

    for turned in (False, True):
        value = torch.randn(300, 200, generator=torch.Generator().manual_seed(3))
        param = torch.nn.Parameter(value.t() if turned else value)
        chosen = grid(param.shape)
        index = torch.from_numpy(chosen.flat())
        for options in ({}, {"state_dtype": "bfloat16"}, {"state_dtype": "8bit"}):
            for centered in (False, True):
                optimizer = RMSprop([param], lr=1e-3, centered=centered, **options)
                train(optimizer, 3)
                state = optimizer.state[param]
                key = "grad_var" if centered else "square_avg"
                whole = read_square(state, key, param).float()
                if centered:
                    assert (square(state, param, chosen, index, key=key) == chosen.take(whole.numpy())).all()
                    whole = whole + state["grad_avg"].float() ** 2
                assert (square(state, param, chosen, index) == chosen.take(whole.numpy())).all()
        assert (taken(param.grad, chosen, index) == chosen.take(param.grad.numpy())).all()


@pytest.mark.parametrize("count", [0, 2, 800])
@pytest.mark.parametrize("shape", [(50_000, 8), (20, 3), (40, 3, 4), (9_000,)], ids=str)
def test_rows_of_a_sparse_gradient_are_found_without_a_dense_copy(shape, count, monkeypatch):
    from rmsprop.doctor.gather import all_finite, taken
    from rmsprop.doctor.sample import grid

    rows = torch.randint(shape[0], (count,), generator=torch.Generator().manual_seed(0))  # some come twice
    values = torch.randint(-9, 9, (count, *shape[1:])).float()  # whose sums have no rounding
    grad = torch.sparse_coo_tensor(rows[None], values, shape, check_invariants=True)
    dense, chosen = grad.to_dense(), grid(shape)
    monkeypatch.setattr(torch.Tensor, "to_dense", None)
    index = None if chosen.whole else torch.from_numpy(chosen.flat())
    assert (taken(grad, chosen, index) == chosen.take(dense.numpy())).all()
    assert all_finite(grad)


def test_a_nan_in_a_row_that_a_sparse_gradient_stepped_is_found():
    table = torch.nn.Embedding(3000, 8, sparse=True)
    optimizer = RMSprop(table.parameters(), lr=1e-3, lazy=True)
    with watch(optimizer, every=1, budget=None) as watching:
        for row in (1, 2):
            optimizer.zero_grad()
            table(torch.arange(4)).sum().backward()
            table.weight.data[row, 3] = float("nan") if row == 2 else 0.0
            optimizer.step()
    assert [(finding.kind, finding.step) for finding in watching.findings] == [("nan", 2)]


@pytest.mark.parametrize("options", [{"state_dtype": "8bit"}, {"centered": True}, {"state_dtype": "bfloat16"}], ids=str)
def test_a_look_converts_what_it_looks_at_alone(options):
    (param,) = parameters([(2000, 500)])
    optimizer = RMSprop([param], lr=1e-3, **options)
    train(optimizer, 2)
    made = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if torch.is_tensor(out) and not any(torch.is_tensor(x) and x.data_ptr() == out.data_ptr() for x in args):
                made.append(out.numel())
            return out

    with watch(optimizer, every=1, budget=None) as watching, Sizes():
        watching._look()
        watching._judge()
    assert watching.looks
    assert max(made) <= 4096
