"""The specification itself: any array namespace runs it, and in float64 it is torch's RMSprop."""

from __future__ import annotations

import numpy as np
import pytest

from cases import COVERING, DTYPES, ULP, every_rule, random_arrays, same_bits
from rmsprop import Rule, formula


def strict_step(strict, param, grad, buffers, rule, **options):
    """One step by arrays that know nothing but the array API standard."""
    given = {name: strict.asarray(array) for name, array in buffers.items()}
    new, state = formula.step(strict.asarray(param), strict.asarray(grad), given, rule, **options)
    assert isinstance(new, type(strict.asarray(param)))
    return np.asarray(new), {name: np.asarray(array) for name, array in state.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["outside", "inside", "max"])
def test_the_standard_namespace_gives_the_bits_of_numpy(mode, dtype):
    strict = pytest.importorskip("array_api_strict")
    for rule in [*every_rule(eps_mode=mode, maximize=True, init="zeros"), *COVERING.values()]:
        param, grad, buffers = random_arrays(rule, (3, 4), dtype)
        for step in (1, 2):
            options = {"lr": 0.01, "lr_max": 0.02, "step": step, "grad_scale": 0.7}
            ours, state = formula.step(param, grad, buffers, rule, **options)
            theirs, their_state = strict_step(strict, param, grad, buffers, rule, **options)
            assert same_bits(ours, theirs), rule
            assert all(same_bits(state[name], their_state[name]) for name in rule.buffers), rule


def test_a_step_writes_nothing_in_place():
    for rule in COVERING.values():
        arrays = random_arrays(rule, 7, "float32")
        before = [arrays[0].copy(), arrays[1].copy(), *(array.copy() for array in arrays[2].values())]
        formula.step(*arrays, rule, lr=0.1)
        assert all(same_bits(a, b) for a, b in zip([arrays[0], arrays[1], *arrays[2].values()], before))


def test_numbers_of_numpy_types_change_no_bit_and_no_dtype():
    rule = COVERING["centered corrected"].replace(weight_decay=0.1, weight_decay_mode="decoupled_corrected")
    arrays = random_arrays(rule, 7, "float32")
    plain = formula.step(*arrays, rule, lr=0.1, lr_max=0.2, step=2, grad_scale=0.3)
    numbers = {"lr": np.float64(0.1), "lr_max": np.float64(0.2), "step": np.int64(2), "grad_scale": np.float64(0.3)}
    given = formula.step(*arrays, rule, **numbers)
    assert same_bits(plain[0], given[0])
    assert all(same_bits(plain[1][name], given[1][name]) for name in rule.buffers)


def test_a_step_count_that_is_an_array_gives_the_numbers_of_a_python_count():
    rule = Rule(centered=True, bias_correction=True)
    arrays = random_arrays(rule, 7, "float64")
    for step in (1, 2, 30):
        plain, _ = formula.step(*arrays, rule, lr=0.1, step=step)
        traced, _ = formula.step(*arrays, rule, lr=0.1, step=np.asarray(float(step)))
        # The power 0.9**step may round another way: a unit or two in the decay.
        np.testing.assert_allclose(traced, plain, rtol=64 * ULP["float64"])


def test_half_precision_is_widened_to_the_dtype_of_the_state():
    rule, narrow = Rule(), "float16"
    param, grad = np.random.default_rng(1).standard_normal((2, 50)).astype(narrow)
    state = {"mean_sq": np.zeros(50, "float32")}
    new, new_state = formula.step(param, grad, state, rule, lr=0.01)
    wide, wide_state = formula.step(param.astype("float32"), grad.astype("float32"), state, rule, lr=0.01)
    assert new.dtype == narrow
    assert same_bits(new, wide.astype(narrow))
    assert same_bits(new_state["mean_sq"], wide_state["mean_sq"])


def test_zero_dimensional_and_empty_arrays_are_arrays():
    for shape in ((), (0,), (0, 3)):
        param, grad = np.full(shape, 2.0), np.full(shape, 1.0)
        new, state = formula.step(param, grad, {"mean_sq": np.zeros(shape)}, Rule(), lr=0.1)
        assert np.shape(new) == np.shape(state["mean_sq"]) == shape


# ---- torch ----------------------------------------------------------------------------------------------------------

TORCH = {
    "plain": {},
    "another alpha and eps": {"alpha": 0.9, "eps": 1e-4},
    "momentum": {"momentum": 0.9},
    "centered": {"centered": True},
    "weight decay": {"weight_decay": 0.05},
    "maximize": {"maximize": True},
    "everything": {"momentum": 0.8, "centered": True, "weight_decay": 0.05, "maximize": True, "alpha": 0.95},
}


@pytest.mark.parametrize("options", TORCH.values(), ids=TORCH)
def test_in_double_precision_a_hundred_steps_are_those_of_torch(options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = rng.standard_normal(40)
    theirs = torch.tensor(start.copy(), requires_grad=True)
    optimizer = torch.optim.RMSprop([theirs], lr=0.01, **options)

    momentum = options.get("momentum", 0.0)
    rule = Rule(
        rho=options.get("alpha", 0.99),
        eps=options.get("eps", 1e-8),
        eps_mode="outside",
        centered=options.get("centered", False),
        buffer="unit" if momentum else "none",
        momentum=momentum,
        weight_decay=options.get("weight_decay", 0.0),
        weight_decay_mode="l2",
        maximize=options.get("maximize", False),
    )
    ours, state = start, {name: np.zeros(40) for name in rule.buffers}
    for t in range(1, 101):
        lr = 0.01 * (1 + t % 3)
        grad = rng.standard_normal(40) * 10.0 ** rng.uniform(-3, 3, 40)
        optimizer.param_groups[0]["lr"] = lr
        theirs.grad = torch.tensor(grad)
        optimizer.step()
        ours, state = formula.step(ours, grad, state, rule, lr=lr, step=t)
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12, atol=1e-12)
