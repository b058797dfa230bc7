"""Promise: the baselines compute what torch.optim computes, and raise for bad input before anything changes."""

import numpy as np
import pytest

from rmsprop import baselines
from rmsprop.errors import InputError, InputTypeError

SHAPES = {"w": (5, 3), "b": [(3,), ()]}


def gradients(steps, seed=7):
    rng = np.random.default_rng(seed)
    # Over many orders of magnitude, and exact zeros among them.
    for _ in range(steps):
        g = {
            "w": rng.normal(size=(5, 3)) * 10.0 ** rng.integers(-6, 4, (5, 3)),
            "b": [rng.normal(size=3), rng.normal(size=())],
        }
        g["w"][0, 0] = 0.0
        g["b"][1] = np.asarray(g["b"][1])
        yield g


def start(dtype=np.float64):
    rng = np.random.default_rng(1)
    return {
        "w": rng.normal(size=(5, 3)).astype(dtype),
        "b": [rng.normal(size=3).astype(dtype), np.array(rng.normal(), dtype=dtype)],
    }


def leaves(tree):
    return [tree["w"], *tree["b"]]


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
def test_a_baseline_does_what_torch_does_in_float64(name, defaults):
    torch = pytest.importorskip("torch", reason="torch is what the baselines are compared with")
    kind, mine, theirs = TORCH[name]
    if defaults:
        # Momentum has no default in torch, whose SGD is gradient descent.
        mine, theirs = {}, {"momentum": 0.9, "nesterov": name == "nesterov"} if name in ("momentum", "nesterov") else {}
    params = start()
    others = [torch.tensor(leaf, dtype=torch.float64, requires_grad=True) for leaf in leaves(params)]
    baseline = baselines.get(name)(params, lr=0.03, **mine)
    other = getattr(torch.optim, kind)(others, lr=0.03, **theirs)
    peak = [np.abs(leaf) for leaf in leaves(params)]
    for grads in gradients(100):
        baseline.step(grads)
        for q, g in zip(others, leaves(grads)):
            q.grad = torch.tensor(g)
        other.step()
        peak = [np.maximum(most, np.abs(leaf)) for most, leaf in zip(peak, leaves(params))]
    # torch contracts to FMA and its vector sqrt is not IEEE's: an ulp or so per step of the largest value.
    for mine_, theirs_, most in zip(leaves(params), others, peak):
        assert np.all(np.abs(mine_ - theirs_.detach().numpy()) <= 100 * np.finfo(float).eps * most)


@pytest.mark.parametrize("name", ["gradient_descent", "momentum", "nesterov"])
def test_sums_of_exact_numbers_have_torchs_bits(name):
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
    single, double = start(np.float32), start()
    double = {"w": single["w"].astype(float), "b": [leaf.astype(float) for leaf in single["b"]]}
    a, b = baselines.get(name)(single, lr=0.01), baselines.get(name)(double, lr=0.01)
    for grads in gradients(10):
        rounded = {"w": grads["w"].astype(np.float32), "b": [g.astype(np.float32) for g in grads["b"]]}
        a.step(rounded)
        b.step({"w": rounded["w"].astype(float), "b": [g.astype(float) for g in rounded["b"]]})
    for s, d in zip(leaves(single), leaves(double)):
        assert s.dtype == np.float32
        np.testing.assert_allclose(s, d, rtol=2e-5, atol=2e-6)
    assert all(buffer.dtype == np.float32 for arrays in a.buffers.values() for buffer in arrays)


@pytest.mark.parametrize("name", baselines.names())
def test_a_missing_gradient_leaves_its_parameter_and_its_count_alone(name):
    params = start()
    before = params["w"].copy()
    baseline = baselines.get(name)(params, lr=0.1)
    baseline.step({"w": None, "b": [np.ones(3), None]})
    assert np.array_equal(params["w"], before)
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


@pytest.mark.parametrize("name", ["gradient_descent", "adagrad", "adadelta"])
def test_effective_lr_times_gradient_is_the_update(name):
    p = np.array([1.0, -2.0, 3.0])
    baseline = baselines.get(name)(p, lr=0.1)
    for _ in range(5):
        before, grad = p.copy(), p**2
        baseline.step(grad)
        np.testing.assert_allclose(before - p, baseline.effective_lr() * grad, rtol=1e-12)


def test_effective_lr_of_adam_is_the_factor_of_the_mean_gradient():
    p = np.array([1.0, -2.0, 3.0])
    adam = baselines.Adam(p, lr=0.1)
    for _ in range(5):
        before = p.copy()
        adam.step(p**2)
        np.testing.assert_allclose(before - p, adam.effective_lr() * adam.buffers["mean_grad"][0], rtol=1e-12)


@pytest.mark.parametrize("name", baselines.names())
def test_effective_lr_before_a_step_is_unknown(name):
    assert np.isnan(baselines.get(name)({"a": np.ones(2)}, lr=0.1).effective_lr()["a"]).all()


@pytest.mark.parametrize("name", baselines.names())
def test_after_reset_state_a_baseline_begins_anew(name):
    a, b = np.array([1.0, -2.0]), np.array([1.0, -2.0])
    used = baselines.get(name)(a, lr=0.1)
    used.step(np.array([3.0, 4.0]))
    used.reset_state()
    a[:] = b
    used.step(np.array([1.0, 2.0]))
    baselines.get(name)(b, lr=0.1).step(np.array([1.0, 2.0]))
    assert np.array_equal(a, b)


def test_without_eps_a_parameter_without_gradients_stays():
    p = np.array([1.0, 2.0])
    baselines.AdaGrad(p, lr=0.1, eps=0.0).step(np.array([0.0, 1.0]))
    assert p[0] == 1.0
    assert p[1] < 2.0


def test_the_gradient_may_be_the_parameter_itself():
    p, q = np.array([1.0, 2.0]), np.array([1.0, 2.0])
    a, b = baselines.Nesterov(p, lr=0.1), baselines.Nesterov(q, lr=0.1)
    for _ in range(3):
        a.step(p)
        b.step(q.copy())
    assert np.array_equal(p, q)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("adam", baselines.Adam),
        ("ADAM", baselines.Adam),
        ("Gradient Descent", baselines.GradientDescent),
        ("ada-grad", baselines.AdaGrad),
    ],
)
def test_a_baseline_is_found_by_name(asked, found):
    assert baselines.get(asked) is found


def test_every_name_is_that_of_its_class():
    assert [baselines.get(name).name for name in baselines.names()] == list(baselines.names())


@pytest.mark.parametrize(("asked", "near"), [("adagard", "adagrad"), ("nestrov", "nesterov"), ("momentun", "momentum")])
def test_an_unknown_name_is_refused_with_the_nearest_one(asked, near):
    with pytest.raises(InputError, match=f"unknown optimizer '{asked}': did you mean '{near}'"):
        baselines.get(asked)


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
def test_params_that_no_step_can_update_are_refused(params, error, message):
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
def test_a_refused_gradient_changes_nothing(name, grads, error, message):
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
def test_a_number_out_of_its_domain_is_refused(name, settings, message):
    with pytest.raises(InputError, match=message):
        baselines.get(name)(np.ones(2), **settings)


def test_a_schedule_that_returns_nan_is_refused_before_the_step():
    p = np.ones(2)
    baseline = baselines.Momentum(p, lr=lambda step: float("nan"))
    with pytest.raises(InputError, match="lr=nan"):
        baseline.step(np.ones(2))
    assert np.array_equal(p, np.ones(2))
