"""Promise: nearly constant gradients of a centered rule and small float16 gradients give accurate, finite steps.

The measure is the same recurrence in double precision on the same gradients, or its closed form where they are
constant (its mean stalls too, only later). How far float32 may be from it, with U = 2**-23, t the number of steps, G
the largest gradient and 1 / (1 - rho) the memory of the averages:

* mean: each update rounds by at most one unit, the nudge of a stalled mean included, and the old error fades by rho:
  |error| <= U G (1 / (1 - rho) + 3).
* standard deviation: sqrt(s) is the Euclidean norm of the deviations, with weights whose sum is at most 1, so by the
  triangle inequality it is off by at most the error of the mean; four roundings a step of s itself add U t sqrt(s).
* for a constant gradient the deviation g rho^t shrinks faster than sqrt(s) = g sqrt(rho^t (1 - rho^t)), so the mean's
  error counts for little, and the sum is U t + (U / (1 - rho)) (t (1 - rho) + 2), at most 2 U (t + 1 / (1 - rho)),
  relative.
* the variance is kept at 2**-24 times the squared gradient at least: one more rounding.
* parameter: a step ends within half a spacing of its dtype of where a denominator in those bounds would have put it.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from rmsprop.torch import RMSprop  # noqa: E402

STEPS, LR, EPS = 5000, 1e-3, 1e-8
ALPHAS = (0.9, 0.95, 0.99)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
U = 2.0**-23
FLOOR = 2.0**-12  # the root of the unit roundoff of float32
UNDERFLOW = 2.0**-64  # of sqrt(s): the square root of 5000 of the smallest float32, and more

T = np.arange(STEPS)[:, None]
CONSTANT = np.array([1.0, -0.1, 1e-4, 3000.0, -1e-7, 0.0])


def make_nearly_constant():
    """Columns: noise of three sizes, one unit up and down, drifts from a standstill, a spike, a change of sign."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((STEPS, 1))
    later = np.maximum(T - STEPS // 2, 0)
    return np.concatenate(
        [
            1 + 1e-2 * noise,
            1 + 1e-5 * noise,
            -0.3 * (1 + 3e-6 * noise),
            1 + U * (T % 2),
            1 + 1 * U * later,
            1 + 30 * U * later,
            -5 * (1 + 8 * U * later),
            1 + 2.0**-8 * later,
            np.where(T == 2000, 7.0, 0.5),
            np.where(T < 2500, 0.25, -0.25),
            1e-4 * (1 + 1e-3 * noise),
        ],
        axis=1,
    )


def cast(grads, dtype):
    """Return the gradients in a dtype, and these as float64."""
    tensor = torch.from_numpy(grads).to(dtype)
    return tensor, tensor.double().numpy()


def run(grads, alpha, centered, *, cls=RMSprop, **options):
    """Return the parameters before and after every step, and grad_var after every step where there is one; float64."""
    param = torch.nn.Parameter(torch.zeros(grads.shape[1], dtype=grads.dtype))
    optimizer = cls([param], lr=LR, alpha=alpha, eps=EPS, centered=centered, **options)
    params, grad_var = torch.zeros((len(grads) + 1, grads.shape[1]), dtype=grads.dtype), torch.zeros(grads.shape)
    for step, grad in enumerate(grads):
        param.grad = grad
        optimizer.step()
        params[step + 1] = param.data
        grad_var[step] = optimizer.state[param].get("grad_var", torch.nan)
    return params.double().numpy(), grad_var.double().numpy()


def compute_roots(grads, alpha, centered):
    """Return the standard deviation (at least its floor) or the root mean square after every step, in float64."""
    if (grads == grads[0]).all():
        fading = alpha ** (T + 1.0)
        root = np.abs(grads) * np.sqrt(1 - fading)
        return np.maximum(root * np.sqrt(fading), FLOOR * np.abs(grads)) if centered else root
    mean, square = np.zeros(grads.shape[1]), np.zeros(grads.shape[1])
    roots = np.empty_like(grads)
    for step, grad in enumerate(grads):
        if centered:
            deviation = grad - mean
            mean = mean + (1 - alpha) * deviation
            square = alpha * (square + (1 - alpha) * deviation**2)
            square = np.maximum(square, FLOOR**2 * grad**2)
        else:
            square = alpha * square + (1 - alpha) * grad**2
        roots[step] = np.sqrt(square)
    return roots


def bound_roots(roots, grads, alpha, kind):
    """Return how far float32 may be from `roots`: see the top of the file."""
    steps = T + 1
    if kind == "uncentered":
        return U * steps * roots + UNDERFLOW
    if kind == "constant":
        return 2 * U * (steps + 1 / (1 - alpha)) * roots + UNDERFLOW
    of_mean = U * np.maximum.accumulate(np.abs(grads), 0) * (1 / (1 - alpha) + 3)
    return of_mean + U * steps * (roots + of_mean) + UNDERFLOW


def bound_moves(roots, bound, grads):
    """Return the smallest and the largest step along the gradient that the bounds allow, float32 rounding included."""
    least = LR * np.abs(grads) / (roots + bound + EPS) * (1 - 4 * U)
    most = LR * np.abs(grads) / (np.maximum(roots - bound, 0) + EPS) * (1 + 4 * U)
    return least, most


SEQUENCES = {"constant": np.tile(CONSTANT, (STEPS, 1)), "nearly constant": make_nearly_constant()}


def assert_follows(params, roots, bound, grads, dtype):
    """Every step lands where the double precision denominator puts it, within the parameter's rounding."""
    assert np.isfinite(params).all()
    least, most = bound_moves(roots, bound, grads)
    before, after = params[:-1], params[1:]
    ends = before - np.sign(grads) * least, before - np.sign(grads) * most
    info = torch.finfo(dtype)
    half_a_spacing = 0.5 * info.eps * np.abs(after) + 0.5 * info.smallest_normal * info.eps
    if dtype != torch.float32:
        half_a_spacing += 0.5 * U * np.abs(after)  # of the float32 that is rounded to 16 bits
    low = np.clip(np.minimum(*ends), -info.max, info.max) - half_a_spacing
    high = np.clip(np.maximum(*ends), -info.max, info.max) + half_a_spacing
    assert (after >= low).all()
    assert (after <= high).all()


@pytest.mark.parametrize("kind", SEQUENCES)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_centered_rule_stays_finite_and_follows_double_precision(dtype, alpha, kind):
    tensor, grads = cast(SEQUENCES[kind], dtype)
    params, grad_var = run(tensor, alpha, centered=True)
    roots = compute_roots(grads, alpha, True)
    bound = bound_roots(roots, grads, alpha, kind)
    assert (np.abs(np.sqrt(grad_var) - roots) <= bound).all()
    assert_follows(params, roots, bound, grads, dtype)


@pytest.mark.parametrize("kind", SEQUENCES)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "compensated bfloat16"])
def test_the_run_ends_where_double_precision_ends(dtype, alpha, kind):
    # Errors of single steps add up to at most the sum of their bounds. With compensated rounding that is the float32
    # sum, and half a spacing for the one rounding to bfloat16 at the end.
    tensor, grads = cast(SEQUENCES[kind], torch.bfloat16)
    rounding = "compensated" if dtype == torch.bfloat16 else "nearest"
    params, _ = run(tensor.to(dtype), alpha, centered=True, param_rounding=rounding)
    roots = compute_roots(grads, alpha, True)
    least, most = bound_moves(roots, bound_roots(roots, grads, alpha, kind), grads)
    double = np.cumsum(-LR * grads / (roots + EPS), 0)
    slack = np.cumsum(most - least + 0.5 * U * np.abs(params[1:]), 0)
    info = torch.finfo(dtype)
    assert np.isfinite(params).all()
    assert (np.abs(params[1:] - double) <= 1.001 * slack + 0.5 * info.eps * np.abs(params[1:])).all()
    moved = np.abs(grads).max(0) > 0
    assert (np.abs(params[-1][moved]) > 0.02).all()


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("gradient", [0.0, 1e-4])
def test_small_float16_gradients_stay_finite_and_follow_double_precision(gradient, alpha, centered):
    tensor, grads = cast(np.full((STEPS, 1), gradient), torch.float16)
    params, _ = run(tensor, alpha, centered)
    roots = compute_roots(grads, alpha, centered)
    bound = bound_roots(roots, grads, alpha, "constant" if centered else "uncentered")
    assert_follows(params, roots, bound, grads, torch.float16)
    assert (params[-1] == 0).all() if gradient == 0 else (params[-1] < -1).all()


# ---- for comparison: torch with the same gradients -------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
def test_torch_gives_nan_for_some_constant_gradients(alpha):
    grads = torch.linspace(0.1, 10, 1000).repeat(STEPS // 2, 1)
    params, _ = run(grads, alpha, centered=True, cls=torch.optim.RMSprop)
    assert 0 < np.isnan(params[-1]).sum() < 1000


@pytest.mark.parametrize(("gradient", "is_broken"), [(0.0, np.isnan), (1e-4, np.isinf)], ids=["zero", "1e-4"])
def test_torch_is_not_finite_for_small_float16_gradients(gradient, is_broken):
    grads = torch.full((5, 1), gradient, dtype=torch.float16)
    params, _ = run(grads, 0.99, centered=False, cls=torch.optim.RMSprop)
    assert is_broken(params[-1]).all()
