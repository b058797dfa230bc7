"""What the doctor finds: each finding in a small training that has the trouble, and not where it is small or cured."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from rmsprop import Rule, _advice
from rmsprop.doctor import History, Sample, Sample, examine, measure

torch = pytest.importorskip("torch", reason="torch is not installed")

import rmsprop.torch  # noqa: E402
from rmsprop.doctor import watch  # noqa: E402

Host = torch.optim.RMSprop


def drawn(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained(weight, grads, steps, *, make=Host, every=1, **options):
    """Step one parameter by grads(step), looked at `every` so many steps; returns the watch."""
    param = torch.nn.Parameter(weight)
    optimizer = make([param], **options)
    with watch(optimizer, every=every, names={"w": param}, budget=None) as watching:
        for step in range(1, steps + 1):
            param.grad = grads(step)
            optimizer.step()
    return watching


def noise(*shape, scale=1.0):
    return lambda step: drawn(*shape, seed=step, scale=scale)


def kinds(watching):
    return {finding.kind for finding in watching.findings}


def found(watching, kind):
    (finding,) = [finding for finding in watching.findings if finding.kind == kind]
    return finding


# ---- the start -------------------------------------------------------------------------------------------------------


def test_a_first_step_of_31_lr_is_found_and_measured():
    watching = trained(drawn(8, 8), noise(8, 8), 3, lr=0.01, alpha=0.999)
    finding = found(watching, "start")
    assert finding.step == 1
    assert finding.value == pytest.approx(1000**0.5, rel=1e-4)
    assert "31.6 x lr" in finding.words
    assert "measured at step 1: 31.6 x lr" in finding.words
    assert "dialect tensorflow1" in finding.remedy


def test_momentum_makes_the_first_steps_38_lr_and_the_largest_is_looked_at():
    steps = []
    watching = trained(torch.zeros(4), lambda step: torch.ones(4), 20, every=1000, lr=0.01, momentum=0.937)
    steps.append(watching.samples["w"].step)
    assert steps == [18]
    assert watching.samples["w"].step_over_lr == pytest.approx(38.9, abs=0.05)  # ultralytics#24516
    assert found(watching, "start").value == pytest.approx(38.9, abs=0.05)


def test_a_start_of_10_lr_a_start_at_one_and_a_tiny_lr_are_no_finding():
    assert "start" not in kinds(trained(drawn(8), noise(8), 3, lr=0.01))
    ones = {"make": rmsprop.torch.RMSprop, "dialect": Rule(rho=0.999, init="ones")}
    assert "start" not in kinds(trained(drawn(8), noise(8), 3, lr=0.01, **ones))
    assert "start" not in kinds(trained(drawn(8), noise(8), 3, lr=1e-4, alpha=0.999))


# ---- steps -----------------------------------------------------------------------------------------------------------


def test_steps_of_the_size_of_the_weights_are_found():
    def thrown(step):  # to the other side of the valley, and back
        return (-1.0) ** step * torch.ones(16, 16)

    watching = trained(drawn(16, 16, scale=0.1), thrown, 120, every=20, lr=1.0)
    finding = found(watching, "update")
    assert finding.step >= 100
    assert "lower lr" in finding.remedy


def test_small_steps_young_tensors_and_vectors_are_not_called_shaken():
    assert "update" not in kinds(trained(drawn(16, 16), noise(16, 16), 120, lr=1e-3))
    assert "update" not in kinds(trained(torch.zeros(16, 16), noise(16, 16), 50, lr=1e-3))  # grows from 0
    assert "update" not in kinds(trained(drawn(16), noise(16), 120, lr=1.0))


def test_bfloat16_weights_that_stand_still_are_found():
    ones = torch.ones(16, 16, dtype=torch.bfloat16)
    watching = trained(ones.clone(), lambda step: noise(16, 16)(step).bfloat16(), 30, lr=1e-4)
    finding = found(watching, "stalled")
    assert finding.value == 1.0
    assert "bfloat16 holds 100 %" in finding.words
    assert finding.remedy == _advice.rounding_remedy("bfloat16")  # as at construction
    assert 'param_rounding="stochastic" or "compensated"' in finding.remedy


@pytest.mark.parametrize("rounding", ["stochastic", "compensated"])
def test_the_remedy_for_stalled_weights_silences_it(rounding):
    def grads(step):
        return noise(16, 16)(step).bfloat16()

    options = {"make": rmsprop.torch.RMSprop, "param_rounding": rounding}
    watching = trained(torch.ones(16, 16, dtype=torch.bfloat16), grads, 30, lr=1e-4, **options)
    assert kinds(watching) == set()


def test_an_lr_of_zero_is_not_a_stall():
    assert kinds(trained(drawn(4, 4), noise(4, 4), 5, lr=0.0)) == set()


# ---- denominators ----------------------------------------------------------------------------------------------------


def test_an_eps_that_rules_is_found_with_a_smaller_one():
    watching = trained(drawn(8, 8), noise(8, 8, scale=1e-6), 150, lr=1e-3, eps=1e-3)
    finding = found(watching, "eps")
    assert finding.value == 1.0
    assert finding.step == 100  # not while mean_sq is young
    assert "lower eps, below 1e-07" in finding.remedy  # its root is near 1e-6, from either side


def test_the_same_eps_beside_larger_gradients_is_no_finding():
    assert "eps" not in kinds(trained(drawn(8, 8), noise(8, 8, scale=1e-1), 150, lr=1e-3, eps=1e-3))


def test_an_eps_that_rules_only_when_the_training_is_done_is_no_finding():
    def grads(step):
        return noise(8, 8, scale=0.9**step)(step)

    watching = trained(drawn(8, 8), grads, 150, every=10, lr=1e-3, alpha=0.9, eps=1e-3)
    assert watching.samples["w"].eps_share == 1.0
    assert "eps" not in kinds(watching)


def test_an_eps_inside_the_root_is_compared_with_the_square():
    options = {"make": rmsprop.torch.RMSprop, "lr": 1e-3}
    rule = Rule(rho=0.9, eps=1e-4, eps_mode="inside")
    assert "eps" in kinds(trained(drawn(8, 8), noise(8, 8, scale=1e-3), 40, dialect=rule, **options))
    assert "eps" not in kinds(trained(drawn(8, 8), noise(8, 8, scale=0.1), 40, dialect=rule, **options))


@pytest.mark.parametrize("make", [Host, rmsprop.torch.RMSprop])
def test_a_gradient_that_no_longer_changes_collapses_the_variance(make):
    watching = trained(drawn(8, 8), lambda step: torch.ones(8, 8), 120, make=make, lr=1e-6, alpha=0.9, centered=True)
    finding = found(watching, "collapsed")
    assert 87 < finding.step < 93  # 0.9 ** (step / 2) reaches 0.01 at step 88
    assert "centered=False" in finding.remedy


def test_a_collapsed_variance_is_not_told_to_lower_eps_as_well():
    seen = {"step": 200, "lr": 0.1, "rule": {"centered": True}, "eps_share": 0.9, "root_mean_sq": 1e-6}
    look = Sample(tensor="w", shape=(2,), dtype="float32", **seen)
    assert "eps" in [finding.kind for finding in examine(look)]
    look = dataclasses.replace(look, collapsed_share=0.9)
    assert "eps" not in [finding.kind for finding in examine(look)]


def test_noise_and_the_eps_of_dqn_keep_the_variance_up():
    options = {"lr": 1e-6, "alpha": 0.9, "centered": True}
    assert "collapsed" not in kinds(trained(drawn(8, 8), noise(8, 8), 120, **options))
    dqn = {"make": rmsprop.torch.RMSprop, "dialect": "dqn", "lr": 1e-6}
    assert "collapsed" not in kinds(trained(drawn(8, 8), lambda step: 0.1 * torch.ones(8, 8), 150, **dqn))


def test_an_eps_that_rules_some_is_to_be_below_those_and_not_below_the_mean():
    square = np.full((10, 10), 1e-12)
    square[:, :4] = 1.0
    for mode, eps, expected in (("outside", 1e-3, "below 1e-06"), ("inside", 1e-6, "below 1e-12")):
        rule = Rule(eps=eps, eps_mode=mode)
        look = measure(
            Sample(tensor="w", shape=(10, 10), dtype="float32", step=1000, lr=0.01, rule=rule,
                   buffers={"mean_sq": square})
        )  # fmt: skip
        (finding,) = examine(look)
        assert (finding.kind, finding.value) == ("eps", 0.6)
        assert finding.remedy.endswith(expected)


# ---- gradients -------------------------------------------------------------------------------------------------------


def test_a_mean_square_that_only_forgets_is_found():
    def grads(step):
        return noise(8, 8, scale=1.0 if step <= 100 else 1e-6)(step)

    watching = trained(drawn(8, 8), grads, 500, every=10, lr=1e-3)
    finding = found(watching, "lag")
    # The last gradient of size 1 is seen at step 100; three memories of 100 steps after the first look behind it.
    assert 400 <= finding.step <= 420
    assert "rho" in finding.remedy


def test_rare_large_gradients_are_not_a_lag():
    def grads(step):  # nothing but every 30th batch
        return noise(8, 8, scale=1.0 if step % 30 == 1 else 1e-4)(step)

    assert "lag" not in kinds(trained(drawn(8, 8), grads, 700, every=10, lr=1e-3))


def test_a_spike_is_found_and_the_noise_of_batches_is_not():
    def grads(step):
        return noise(8, 8, scale=50.0 if step == 60 else 1.0)(step)

    finding = found(trained(drawn(8, 8), grads, 80, lr=1e-3), "spike")
    assert finding.step == 60
    assert "clip" in finding.remedy
    assert "spike" not in kinds(trained(drawn(8, 8), noise(8, 8), 80, lr=1e-3))


def test_clipping_inside_the_step_silences_the_spike():
    def grads(step):
        return noise(8, 8, scale=50.0 if step == 60 else 1.0)(step)

    assert "spike" not in kinds(trained(drawn(8, 8), grads, 80, make=rmsprop.torch.RMSprop, lr=1e-3, max_norm=8.0))


def test_rows_without_a_gradient_are_found_after_100_steps():
    alive = torch.ones(10, 1)
    alive[3:7] = 0
    finding = found(trained(drawn(10, 4), lambda step: alive * drawn(10, 4, seed=step), 120, lr=1e-3), "dead")
    assert (finding.value, finding.step) == (0.4, 100)


def test_rows_that_died_on_the_way_are_found_when_their_mean_square_is_gone():
    def grads(step):
        alive = torch.ones(10, 1)
        alive[3:7] = 1.0 if step <= 20 else 0.0
        return alive * drawn(10, 4, seed=step)

    finding = found(trained(drawn(10, 4), grads, 300, lr=1e-3, alpha=0.9), "dead")
    assert 200 < finding.step < 250  # 20 memories of 10 steps after step 20


def test_a_few_dead_rows_are_no_finding():
    alive = torch.ones(10, 1)
    alive[3:5] = 0
    assert "dead" not in kinds(trained(drawn(10, 4), lambda step: alive * drawn(10, 4, seed=step), 120, lr=1e-3))


def test_an_exploding_row_is_found_and_one_ten_times_as_large_is_not():
    def scaled(size):
        rows = torch.ones(10, 1)
        rows[2] = size
        return trained(drawn(10, 4), lambda step: rows * drawn(10, 4, seed=step), 20, lr=1e-3)

    assert found(scaled(1e4), "exploding").value == 1
    assert kinds(scaled(10.0)) == set()


def test_a_nan_is_found_in_the_tensor_and_step_where_it_is_even_beyond_what_is_sampled():
    def grads(step):
        grad = drawn(300, 300, seed=step)
        grad[17, 170] = float("nan") if step == 4 else 0.0
        return grad

    finding = found(trained(drawn(300, 300), grads, 5, lr=1e-3), "nan")
    assert (finding.tensor, finding.step) == ("w", 4)


def test_a_nan_that_the_formula_makes_is_found_in_the_weights():
    # torch's variance v - m^2 of a gradient that does not change becomes negative in the end
    watching = trained(torch.zeros(8, 8), lambda step: torch.full((8, 8), 0.7), 160, lr=1e-6, alpha=0.9, centered=True)
    assert watching.samples["w"].weight_rms is None  # NaN by now
    assert re.match("NaN or infinity in the (step|parameter)", found(watching, "nan").words)


def test_a_nan_in_one_weight_of_many_is_found_though_gradients_are_finite():
    weight = torch.nn.Parameter(drawn(300, 300))
    optimizer = Host([weight], lr=1e-3)
    with watch(optimizer, every=1, names={"w": weight}, budget=None) as watching:
        for step in range(1, 5):
            if step == 3:
                weight.data[17, 170] = float("nan")
            weight.grad = drawn(300, 300, seed=step)
            optimizer.step()
    finding = found(watching, "nan")
    assert finding.step == 3
    assert finding.words == "NaN or infinity in the parameter"


def test_gradients_of_nothing_but_zero_are_called_so():
    def grads(step):
        return noise(8, 8)(step) if step <= 100 else torch.zeros(8, 8)

    finding = found(trained(drawn(8, 8), grads, 500, every=10, lr=1e-3), "lag")
    assert finding.words.startswith("gradients are 0 beside a mean_sq, which only forgets")
    assert "state.clear()" in finding.remedy  # which torch.optim has too


# ---- judging ---------------------------------------------------------------------------------------------------------


def seen(**numbers):
    return Sample(tensor="w", shape=(4, 4), dtype="float32", step=1000, lr=0.01, rule={}, **numbers)


def test_a_finding_of_one_tensor_is_told_once_and_counted():
    history = History()
    first = history.add([seen(update_to_weight=0.2)])
    assert [finding.kind for finding in first] == ["update"]
    assert history.add([seen(update_to_weight=0.4)]) == []
    assert history.counts == {("update", "w"): 2}
    assert history.worst["update", "w"].value == 0.4
    assert history.findings[0].value == 0.2


def test_a_nan_silences_what_it_makes_meaningless():
    (finding,) = examine(seen(finite=False, update_to_weight=9.0))
    assert finding.kind == "nan"


def test_every_finding_has_words_and_a_remedy():
    everything = seen(
        update_to_weight=1.0, stalled_share=1.0, eps_share=1.0, root_mean_sq=1e-3, decoupling=1e3, rows=4, dead_rows=2,
        exploding_rows=1,
    )  # fmt: skip
    findings = examine(everything)
    assert [finding.kind for finding in findings] == ["update", "stalled", "eps", "spike", "exploding", "dead"]
    assert all(finding.words and finding.remedy for finding in findings)
