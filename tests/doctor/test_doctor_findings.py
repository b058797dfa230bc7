"""What the doctor finds: each finding in a small training that has the problem, and not where it is small or cured."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from trainings import MAKERS, TorchRMSprop, find, kinds_of, noise, randn, torch, watch, watch_weight

from rmsprop import Rule, _advice
from rmsprop.doctor import History, Sample, examine, measure

OWN = MAKERS["rmsprop"]
BF16_ONES = torch.ones(16, 16, dtype=torch.bfloat16)
DEAD_ROWS = torch.tensor([1.0, 1, 1, 0, 0, 0, 0, 1, 1, 1])[:, None]
FEW_DEAD_ROWS = torch.tensor([1.0, 1, 1, 0, 0, 1, 1, 1, 1, 1])[:, None]
LARGE_ROW = torch.tensor([1.0, 1, 1e4, 1, 1, 1, 1, 1, 1, 1])[:, None]
LARGER_ROW = torch.tensor([1.0, 1, 10, 1, 1, 1, 1, 1, 1, 1])[:, None]


def bf16_noise(step):
    return randn(16, 16, seed=step).bfloat16()


def alternate(step):  # to the other side of the valley, and back
    return (-1.0) ** step * torch.ones(16, 16)


def rows(factor, until=10**9):
    return lambda step: (factor if step <= until else DEAD_ROWS) * randn(10, 4, seed=step)


def spike(step):
    return 50.0 if step == 60 else 1.0


def fade(step):
    return 1.0 if step <= 100 else 1e-6


# kind, first steps at which it may be found, words, remedy; weight, gradients, steps, options
FOUND = {
    "long start": ("start", (1, 1), "31.6 x lr, .*measured at step 1: 31.6 x lr", "dialect tensorflow1",
                   randn(8, 8), noise(8, 8), 3, {"lr": 0.01, "alpha": 0.999}),
    "start with momentum": ("start", (1, 1), r"up to 38.9 x lr \(at step 18\)", "warm lr up",
                            torch.zeros(4), lambda step: torch.ones(4), 20,
                            {"every": 1000, "lr": 0.01, "momentum": 0.937}),  # ultralytics#24516
    "large steps": ("update", (100, 120), "one step changes it by", "lower lr",
                    randn(16, 16, scale=0.1), alternate, 120, {"every": 20, "lr": 1.0}),
    "bfloat16": ("stalled", (1, 30), "bfloat16 keeps 100 %", 'param_rounding="stochastic" or "compensated"',
                 BF16_ONES, bf16_noise, 30, {"lr": 1e-4}),
    "large eps": ("eps", (100, 100), "eps dominates 100 %", "lower eps, below 1e-07",  # not while mean_sq is young
                  randn(8, 8), noise(8, 8, scale=1e-6), 150, {"lr": 1e-3, "eps": 1e-3}),
    "large eps inside the root": ("eps", (10, 40), "eps dominates", "lower eps", randn(8, 8), noise(8, 8, scale=1e-3),
                                  40, {"make": OWN, "lr": 1e-3, "dialect": Rule(rho=0.9, eps=1e-4)}),
    "constant gradient": ("collapsed", (88, 92), "centering divides by nearly 0", "centered=False",  # 0.9^(88/2) = 0.01
                          randn(8, 8), lambda step: torch.ones(8, 8), 120,
                          {"lr": 1e-6, "alpha": 0.9, "centered": True}),
    "constant gradient, rmsprop": ("collapsed", (88, 92), "centering", "var_floor", randn(8, 8),
                                   lambda step: torch.ones(8, 8), 120,
                                   {"make": OWN, "lr": 1e-6, "alpha": 0.9, "centered": True}),
    "fading gradients": ("lag", (400, 420), "mean_sq has only decayed since step 1[01]0", "smaller rho",
                         randn(8, 8), noise(8, 8, scale=fade), 500, {"every": 10, "lr": 1e-3}),
    "no gradients": ("lag", (400, 420), "gradients are 0, and mean_sq", r"state\.clear\(\)",
                     randn(8, 8), lambda step: (step <= 100) * randn(8, 8, seed=step), 500, {"every": 10, "lr": 1e-3}),
    "spike": ("spike", (60, 60), "times its own root mean square", "clip",
              randn(8, 8), noise(8, 8, scale=spike), 80, {"lr": 1e-3}),
    "dead rows": ("dead", (100, 100), "40 % of its rows", "leaky",
                  randn(10, 4), rows(DEAD_ROWS), 120, {"lr": 1e-3}),
    "rows that died": ("dead", (200, 250), "40 % of its rows", "leaky",  # 20 memories of 10 steps after step 20
                       randn(10, 4), rows(1.0, until=20), 300, {"lr": 1e-3, "alpha": 0.9}),
    "exploding row": ("exploding", (1, 20), "1 of 10 rows", "clip", randn(10, 4), rows(LARGE_ROW), 20, {"lr": 1e-3}),
    "NaN that the formula makes": ("nan", (1, 160), "in the (step|parameter)", "go back to a checkpoint",
                                   torch.zeros(8, 8), lambda step: torch.full((8, 8), 0.7), 160,
                                   {"lr": 1e-6, "alpha": 0.9, "centered": True}),  # v - m^2 becomes negative
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_a_problem_is_found_with_its_remedy(case):
    kind, (first, last), words, remedy, weight, grads, steps, options = FOUND[case]
    watcher = watch_weight(weight.clone(), grads, steps, **options)
    finding = find(watcher, kind)
    assert first <= finding.step <= last
    assert re.search(words, finding.words)
    assert re.search(remedy, finding.remedy)


# kind that must not be found, or None for all; weight, gradients, steps, options
HEALTHY = {
    "start of 10 lr": ("start", randn(8), noise(8), 3, {"lr": 0.01}),
    "start at one": ("start", randn(8), noise(8), 3,
                     {"make": OWN, "lr": 0.01, "dialect": Rule(rho=0.999, init="ones")}),
    "tiny lr": ("start", randn(8), noise(8), 3, {"lr": 1e-4, "alpha": 0.999}),
    "small steps": ("update", randn(16, 16), noise(16, 16), 120, {"lr": 1e-3}),
    "young tensor": ("update", torch.zeros(16, 16), noise(16, 16), 50, {"lr": 1e-3}),
    "vector": ("update", randn(16), noise(16), 120, {"lr": 1.0}),
    "stochastic": (None, BF16_ONES, bf16_noise, 30, {"make": OWN, "param_rounding": "stochastic", "lr": 1e-4}),
    "compensated": (None, BF16_ONES, bf16_noise, 30, {"make": OWN, "param_rounding": "compensated", "lr": 1e-4}),
    "lr 0": (None, randn(4, 4), noise(4, 4), 5, {"lr": 0.0}),
    "eps and large gradients": ("eps", randn(8, 8), noise(8, 8, scale=0.1), 150, {"lr": 1e-3, "eps": 1e-3}),
    "finished training": ("eps", randn(8, 8), noise(8, 8, scale=lambda step: 0.9**step), 150,
                          {"every": 10, "lr": 1e-3, "alpha": 0.9, "eps": 1e-3}),
    "eps inside, large gradients": ("eps", randn(8, 8), noise(8, 8, scale=0.1), 40,
                                    {"make": OWN, "lr": 1e-3, "dialect": Rule(rho=0.9, eps=1e-4)}),
    "centered noise": ("collapsed", randn(8, 8), noise(8, 8), 120, {"lr": 1e-6, "alpha": 0.9, "centered": True}),
    "eps of DQN": ("collapsed", randn(8, 8), lambda step: 0.1 * torch.ones(8, 8), 150,
                   {"make": OWN, "dialect": "dqn", "lr": 1e-6}),
    "rare large gradients": ("lag", randn(8, 8), noise(8, 8, scale=lambda step: 1.0 if step % 30 == 1 else 1e-4), 700,
                             {"every": 10, "lr": 1e-3}),
    "noise": ("spike", randn(8, 8), noise(8, 8), 80, {"lr": 1e-3}),
    "clipped spike": ("spike", randn(8, 8), noise(8, 8, scale=spike), 80, {"make": OWN, "lr": 1e-3, "max_norm": 8.0}),
    "few dead rows": ("dead", randn(10, 4), rows(FEW_DEAD_ROWS), 120, {"lr": 1e-3}),
    "larger row": (None, randn(10, 4), rows(LARGER_ROW), 20, {"lr": 1e-3}),
}  # fmt: skip


@pytest.mark.parametrize("case", HEALTHY)
def test_small_or_cured_problems_are_not_found(case):
    kind, weight, grads, steps, options = HEALTHY[case]
    kinds = kinds_of(watch_weight(weight.clone(), grads, steps, **options))
    assert kind not in kinds if kind else kinds == set()


def test_the_remedy_for_stalled_weights_is_that_of_the_warning_at_construction():
    watcher = watch_weight(BF16_ONES.clone(), bf16_noise, 2, lr=1e-4)
    advice = _advice.advise_rounding(np.ones(4), "bfloat16", 1e-4)
    assert find(watcher, "stalled").remedy == advice.remedy


@pytest.mark.parametrize("where", ["grad", "data"])
def test_a_single_nan_in_a_large_tensor_is_found_in_its_step(where):
    weight = torch.nn.Parameter(randn(300, 300))
    optimizer = TorchRMSprop([weight], lr=1e-3)
    with watch(optimizer, every=1, names={"w": weight}, budget=None) as watcher:
        for step in range(1, 6):
            weight.grad = randn(300, 300, seed=step)
            if step == 4:
                getattr(weight, where)[17, 170] = float("nan")
            optimizer.step()
    finding = watcher.findings[0]
    assert (finding.kind, finding.tensor, finding.step) == ("nan", "w", 4)
    assert finding.words.startswith("NaN or infinity in the " + ("gradient" if where == "grad" else "parameter"))


# ---- one sample ------------------------------------------------------------------------------------------------------


def make_sample(**fields):
    return Sample(**{"tensor": "w", "shape": (4, 4), "dtype": "float32", "step": 1000, "lr": 0.01, "rule": {}} | fields)


@pytest.mark.parametrize(("mode", "eps", "remedy"), [("outside", 1e-3, "below 1e-06"), ("inside", 1e-6, "below 1e-12")])
def test_the_lower_eps_is_below_the_elements_that_eps_dominates(mode, eps, remedy):
    square = np.full((10, 10), 0.99e-11)
    square[:, :4] = 1.0
    sample = measure("w", Rule(eps=eps, eps_mode=mode), {"mean_sq": square}, shape=(10, 10), dtype="float32", step=1000)
    (finding,) = examine(sample)
    assert (finding.kind, finding.value) == ("eps", 0.6)
    assert finding.remedy.endswith(remedy)


@pytest.mark.parametrize("eps", [1e-8, 1e-3, 0.02, 0.5])
@pytest.mark.parametrize("variance", [0.0, 1e-12, 1e-6, 1e-3])
def test_a_vanished_variance_never_asks_for_a_lower_eps(eps, variance):
    statistics = {"grad_var": np.full((8, 8), variance), "mean_grad": np.ones((8, 8))}
    rule = Rule(centered=True, eps=eps, eps_mode="outside")
    sample = measure("w", rule, statistics, shape=(8, 8), dtype="float32", step=1000, lr=1e-3)
    assert "eps" not in [finding.kind for finding in examine(sample)]


def test_only_the_finding_of_a_collapsed_variance_is_given_where_eps_dominates_too():
    sample = make_sample(rule={"centered": True}, eps_share=0.9, root_mean_sq=1e-6)
    assert [finding.kind for finding in examine(sample)] == ["eps"]
    collapsed = dataclasses.replace(sample, collapsed_share=0.9)
    assert [finding.kind for finding in examine(collapsed)] == ["collapsed"]


def test_findings_come_in_the_order_of_their_weight():
    sample = make_sample(update_to_weight=1.0, stalled_share=1.0, eps_share=1.0, root_mean_sq=1e-3, decoupling=1e3,
                         rows=4, dead_rows=2, exploding_rows=1)  # fmt: skip
    kinds = [finding.kind for finding in examine(sample)]
    assert kinds == ["update", "stalled", "eps", "spike", "exploding", "dead"]
    diverged = dataclasses.replace(sample, not_finite="the gradient")
    assert [finding.kind for finding in examine(diverged)] == ["nan"]


def test_a_history_returns_a_finding_once_and_counts_it():
    history = History()
    (finding,) = history.add([make_sample(update_to_weight=0.2)])
    assert str(finding) == (
        "w, step 1,000: one step changes it by 20 % of its size, where 0.1 % is usual: "
        "lower lr, 100 times to begin with"
    )
    assert history.add([make_sample(update_to_weight=0.4)]) == []
    assert history.counts == {("update", "w"): 2}
    assert history.worst["update", "w"].value == 0.4
    assert history.findings == [finding]
