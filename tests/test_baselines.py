"""Promise: the baselines compute what torch.optim computes, and raise for bad input before anything changes."""

import numpy as np
import pytest

from rmsprop import baselines
from rmsprop.errors import InputError, InputTypeError

SHAPES = ((5, 3), (3,), ())


def make_gradients(steps):
    """Gradients over many orders of magnitude, exact zeros among them."""
    rng = np.random.default_rng(7)
    for _ in range(steps):
        grads = [np.asarray(rng.normal(size=shape) * 10.0 ** rng.integers(-6, 4, shape)) for shape in SHAPES]
        grads[0][0, 0] = 0.0
        yield grads


def make_params(dtype=np.float64):
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape).astype(dtype) for shape in SHAPES]


TORCH = {
    "gradient_descent": ("SGD", {}, {}),
    "momentum": ("SGD", {"momentum": 0.8}, {"momentum": 0.8}),
    "nesterov": ("SGD", {"momentum": 0.8}, {"momentum": 0.8, "nesterov": True}),
    "adagrad": ("Adagrad", {"eps": 1e-7}, {"eps": 1e-7}),
    "adadelta": ("Adadelta", {"rho": 0.95, "eps": 1e-5}, {"rho": 0.95, "eps": 1e-5}),
    "adam": ("Adam", {"beta1": 0.8, "beta2": 0.99, "eps": 1e-7}, {"betas": (0.8, 0.99), "eps": 1e-7}),
    "adamw": ("AdamW", {"beta1": 0.8, "weight_decay": 0.3}, {"betas": (0.8, 0.999), "weight_decay": 0.3}),
}


@pytest.mark.parametrize("name", baselines.names())
@pytest.mark.parametrize("defaults", [True, False], ids=["defaults", "settings"])
def test_a_baseline_matches_torch_in_float64(name, defaults):
    torch = pytest.importorskip("torch", reason="torch is what the baselines are compared with")
    cls, settings, torch_settings = TORCH[name]
    if defaults:
        # Momentum has no default in torch, whose SGD is gradient descent.
        has_momentum = name in ("momentum", "nesterov")
        settings, torch_settings = {}, {"momentum": 0.9, "nesterov": name == "nesterov"} if has_momentum else {}
    params = make_params()
    expected = [torch.tensor(param, requires_grad=True) for param in params]
    baseline = baselines.get(name)(params, lr=0.03, **settings)
    reference = getattr(torch.optim, cls)(expected, lr=0.03, **torch_settings)
    largest = [np.abs(param) for param in params]
    for grads in make_gradients(100):
        baseline.step(grads)
        for param, grad in zip(expected, grads):
            param.grad = torch.tensor(grad)
        reference.step()
        largest = [np.maximum(most, np.abs(param)) for most, param in zip(largest, params)]
    # torch contracts to FMA and its vector sqrt is not IEEE's: an ulp or so per step of the largest value.
    for param, other, most in zip(params, expected, largest):
        assert np.all(np.abs(param - other.detach().numpy()) <= 100 * np.finfo(float).eps * most)


@pytest.mark.parametrize("name", ["gradient_descent", "momentum", "nesterov"])
def test_exact_sums_match_torch_bit_for_bit(name):
    torch = pytest.importorskip("torch", reason="torch is what the baselines are compared with")
    # Small integers and a momentum of 1/2: nothing is rounded, so FMA and plain arithmetic agree.
    p = np.arange(8.0)
    q = torch.tensor(np.arange(8.0), requires_grad=True)
    settings = {"gradient_descent": {}, "momentum": {"momentum": 0.5}, "nesterov": {"momentum": 0.5}}[name]
    baseline = baselines.get(name)(p, lr=0.25, **settings)
    other = torch.optim.SGD([q], lr=0.25, nesterov=name == "nesterov", **settings)
    for t in range(20):
        g = np.roll(np.arange(-4.0, 4.0), t)
        baseline.step(g)
        q.grad = torch.tensor(g)
        other.step()
    assert np.array_equal(p, q.detach().numpy())


@pytest.mark.parametrize("name", baselines.names())
def test_float32_stays_float32_and_near_float64(name):
    single = make_params(np.float32)
    double = [param.astype(float) for param in single]
    a, b = baselines.get(name)(single, lr=0.01), baselines.get(name)(double, lr=0.01)
    for grads in make_gradients(10):
        grads = [grad.astype(np.float32) for grad in grads]
        a.step(grads)
        b.step([grad.astype(float) for grad in grads])
    for s, d in zip(single, double):
        assert s.dtype == np.float32
        np.testing.assert_allclose(s, d, rtol=2e-5, atol=2e-6)
    assert all(buffer.dtype == np.float32 for arrays in a.buffers.values() for buffer in arrays)


@pytest.mark.parametrize("name", baselines.names())
def test_a_missing_gradient_leaves_its_parameter_and_count_unchanged(name):
    params = {"w": np.ones((5, 3)), "b": [np.ones(3), np.ones(())]}
    baseline = baselines.get(name)(params, lr=0.1)
    assert np.isnan(baseline.effective_lr()["w"]).all()  # unknown before the first step
    baseline.step({"w": None, "b": [np.ones(3), None]})
    assert (params["w"] == 1).all()
    assert baseline.steps.tolist() == [0, 1, 0]


@pytest.mark.parametrize("name", baselines.names())
def test_lr_may_be_a_function_of_the_step_or_given_for_one_step(name):
    a, b = np.array([1.0, -2.0]), np.array([1.0, -2.0])
    schedule = baselines.get(name)(a, lr=lambda step: 0.1 / (step + 1))
    by_hand = baselines.get(name)(b, lr=5.0)
    for step in range(5):
        schedule.step(2 * a)
        by_hand.step(2 * b, lr=0.1 / (step + 1))
    assert np.array_equal(a, b)


@pytest.mark.parametrize("name", ["gradient_descent", "adagrad", "adadelta", "adam"])
def test_effective_lr_times_gradient_is_the_update(name):
    p = np.array([1.0, -2.0, 3.0])
    baseline = baselines.get(name)(p, lr=0.1)
    for _ in range(5):
        before, grad = p.copy(), p**2
        baseline.step(grad)
        factor = baseline.buffers["mean_grad"][0] if name == "adam" else grad
        np.testing.assert_allclose(before - p, baseline.effective_lr() * factor, rtol=1e-12)


@pytest.mark.parametrize("name", baselines.names())
def test_reset_state_restores_the_initial_state(name):
    a, b = np.array([1.0, -2.0]), np.array([1.0, -2.0])
    used = baselines.get(name)(a, lr=0.1)
    used.step(np.array([3.0, 4.0]))
    used.reset_state()
    a[:] = b
    used.step(np.array([1.0, 2.0]))
    baselines.get(name)(b, lr=0.1).step(np.array([1.0, 2.0]))
    assert np.array_equal(a, b)


def test_without_eps_a_gradient_of_zero_moves_nothing():
    p = np.array([1.0, 2.0])
    baselines.AdaGrad(p, lr=0.1, eps=0.0).step(np.array([0.0, 1.0]))
    assert p[0] == 1.0
    assert p[1] < 2.0


@pytest.mark.parametrize(
    ("name", "cls"),
    [("ADAM", baselines.Adam), ("Gradient Descent", baselines.GradientDescent), ("ada-grad", baselines.AdaGrad)],
)
def test_a_baseline_is_found_by_name(name, cls):
    assert baselines.get(name) is cls
    assert [baselines.get(known).name for known in baselines.names()] == list(baselines.names())
    with pytest.raises(InputError, match="unknown optimizer 'adagard': did you mean 'adagrad'"):
        baselines.get("adagard")


READ_ONLY = np.ones(2)
READ_ONLY.flags.writeable = False
TWICE = np.ones(2)

BAD_PARAMS = [
    ({}, InputError, "params: no array"),
    ([1.0, 2.0], InputTypeError, r"params\[0\]: float, expected a NumPy array"),
    ({"w": np.ones(2, dtype=int)}, InputTypeError, r"params\['w'\]: dtype int64, expected float32 or float64"),
    (READ_ONLY, InputError, "params: read-only"),
    ([TWICE, TWICE], InputError, "same array appears twice"),
]


@pytest.mark.parametrize(("params", "error", "message"), BAD_PARAMS)
def test_bad_params_raise(params, error, message):
    with pytest.raises(error, match=message):
        baselines.Adam(params, lr=0.1)


BAD_GRADS = [
    ([np.ones(2)], InputError, "length 1, expected 2"),
    ([np.ones(2), np.ones(3)], InputError, r"grads\[1\]: shape \(3,\), expected \(1,\) like params\[1\]"),
    ([np.ones(2), [1.0]], InputError, r"grads\[1\]"),
    ([np.ones(2), np.ones(1, dtype=int)], InputTypeError, r"grads\[1\]: dtype int64"),
    ([np.ones(2), 1.0], InputTypeError, r"grads\[1\]: float"),
]


@pytest.mark.parametrize(("grads", "error", "message"), BAD_GRADS)
@pytest.mark.parametrize("name", baselines.names())
def test_a_bad_gradient_raises_and_nothing_changes(name, grads, error, message):
    params = [np.ones(2), np.ones(1)]
    baseline = baselines.get(name)(params, lr=0.1)
    with pytest.raises(error, match=message):
        baseline.step(grads)
    assert all(np.array_equal(p, np.ones_like(p)) for p in params)
    assert baseline.steps.tolist() == [0, 0]
    assert all(not buffer.any() for arrays in baseline.buffers.values() for buffer in arrays)


BAD_NUMBERS = [
    ("adam", {"lr": -1.0}, r"lr=-1.0, expected a finite number in \[0, inf\)"),
    ("adam", {"lr": float("nan")}, "lr=nan"),
    ("momentum", {"lr": lambda step: float("nan")}, "lr=nan"),
    ("adam", {"lr": "fast"}, "lr='fast'"),
    ("adam", {"lr": True}, "lr=True"),
    ("adam", {"lr": 0.1, "beta1": 1.0}, r"beta1=1.0, expected a finite number in \[0, 1\)"),
    ("adam", {"lr": 0.1, "beta2": -0.1}, "beta2=-0.1"),
    ("adam", {"lr": 0.1, "eps": float("inf")}, "eps=inf"),
    ("momentum", {"lr": 0.1, "momentum": 1.0}, "momentum=1.0"),
    ("adadelta", {"rho": 1.5}, r"rho=1.5, expected a finite number in \[0, 1\]"),
    ("adadelta", {"eps": 0.0}, "never leaves its start"),
    ("adagrad", {"lr": 0.1, "eps": -1.0}, "eps=-1.0"),
]


@pytest.mark.parametrize(("name", "settings", "message"), BAD_NUMBERS)
def test_a_number_out_of_its_domain_raises(name, settings, message):
    param = np.ones(2)
    with pytest.raises(InputError, match=message):
        baselines.get(name)(param, **settings).step(np.ones(2))
    assert (param == 1).all()
