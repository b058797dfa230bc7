"""`rmsprop.doctor.examine_checkpoint`: a checkpoint is judged by the rule it was trained with."""

from __future__ import annotations

import math

import numpy as np
import pytest
from trainings import MAKERS, TorchRMSprop, make_params, torch, train, watch

import rmsprop
from rmsprop import Rule, checkpoints
from rmsprop.doctor import Sample, examine_checkpoint

OWN = MAKERS["rmsprop"]
RULES = {
    "var_floor": Rule(rho=0.9, var_floor=1.0, eps=1e-3),
    "nesterov": Rule(rho=0.99, buffer="unit", momentum=0.9, nesterov="post", init="ones"),
    "bias correction": Rule(rho=0.999, bias_correction=True, centered=True),
    "max": Rule(rho=0.9, eps=0.5, eps_mode="max", init=0.25),
    "maximize": Rule(rho=0.9, maximize=True),
}


def examine(optimizer, path, **options):
    torch.save(optimizer.state_dict(), path)
    return examine_checkpoint(checkpoints.read(path), **options)


@pytest.mark.parametrize("name", RULES)
def test_a_checkpoint_of_this_library_is_judged_as_its_training_was(name, tmp_path):
    optimizer = OWN(make_params((4, 4)), lr=1e-3, dialect=RULES[name])
    with watch(optimizer, every=1, budget=None) as watcher:
        train(optimizer, 30)
    (sample,) = examine(optimizer, tmp_path / "own.pt").samples
    assert sample.full_rule == RULES[name]
    assert sample.effective_lr == pytest.approx(watcher.samples["0"].effective_lr, rel=1e-4)
    assert sample.eps_share == watcher.samples["0"].eps_share


@pytest.mark.parametrize("kind", ["torch", "native"])
def test_a_floor_under_the_variance_is_part_of_the_denominator(kind, tmp_path):
    rule = RULES["var_floor"]
    if kind == "torch":
        param = torch.nn.Parameter(torch.ones(3, 3))
        optimizer = OWN([param], lr=0.1, dialect=rule)
        for _ in range(30):
            param.grad = torch.full((3, 3), 1e-4)
            optimizer.step()
        checkup = examine(optimizer, tmp_path / "own.pt")
    else:
        own = rmsprop.RMSprop({"w": np.ones((3, 3))}, lr=0.1, dialect=rule)
        for _ in range(30):
            own.step({"w": np.full((3, 3), 1e-4)})
        own.save(tmp_path / "own.safetensors")
        checkup = examine_checkpoint(checkpoints.read(tmp_path / "own.safetensors"), lr=0.1)
    assert checkup.findings == []  # without the floor eps would dominate
    assert checkup.samples[0].effective_lr[2] == pytest.approx(0.1 / math.sqrt(1 + 1e-3))


def test_each_group_has_its_own_rule(tmp_path):
    first, second = make_params((3, 3), (2, 2))
    groups = [{"params": [first], "alpha": 0.5}, {"params": [second], "eps": 0.25}]
    optimizer = OWN(groups, lr=1e-3)
    train(optimizer, 30)
    rules = [sample.full_rule for sample in examine(optimizer, tmp_path / "own.pt").samples]
    assert [(rule.rho, rule.eps) for rule in rules] == [(0.5, 1e-8), (0.99, 0.25)]


@pytest.mark.parametrize(("alpha", "kinds"), [(0.999, ["start"]), (0.99, [])])
def test_the_start_is_judged_at_the_first_lr_after_a_schedule_that_ended_at_zero(alpha, kinds, tmp_path):
    optimizer = TorchRMSprop(make_params((4, 4)), lr=0.01, alpha=alpha)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    for step in range(20):
        train(optimizer, 1, start=step)
        schedule.step()
    checkup = examine(optimizer, tmp_path / "run.pt")
    assert [finding.kind for finding in checkup.findings] == kinds
    assert all(finding.words.endswith("(initial_lr 0.01)") for finding in checkup.findings)
    assert Sample.from_json(checkup.samples[0].to_json()).start_lr == 0.01
    assert examine(optimizer, tmp_path / "run.pt", lr=1e-5).findings == []  # the first lr, as the user knows it


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_elements_that_are_not_finite_are_counted(bad, centered):
    square = np.array([[bad, 1.0], [bad, 1.0]], "f4")
    mean = np.array([[0.5, bad], [0.1, 0.1]], "f4") if centered else None
    fine = np.full((2, 2), 0.1, "f4")
    parameters = tuple(
        checkpoints.Parameter(name=name, mean_sq=v, mean_grad=m, step=9, shape=(2, 2), dtype="float32")
        for name, v, m in (("w", square, mean), ("v", fine, fine if centered else None))
    )
    (finding,) = examine_checkpoint(
        checkpoints.Snapshot(format="torch", parameters=parameters, centered=centered), lr=0.1
    ).findings
    words = "NaN or infinity in 2 of 4 elements of mean_sq" + (" and 1 of 4 elements of mean_grad" if centered else "")
    assert (finding.kind, finding.tensor, finding.words) == ("nan", "w", words)


@pytest.mark.parametrize(
    ("rows", "dead", "size", "kinds"),
    [(5000, 4000, 1.0, []), (256, 128, 1.0, ["dead"]), (256, 128, 1e-20, ["eps", "dead"])],
    ids=["table of rare words", "layer of dead units", "eps dominates"],
)
def test_rows_and_eps_are_judged_without_gradients(rows, dead, size, kinds):
    square = np.full((rows, 64), size, "f4")
    square[:dead] = 0
    parameter = checkpoints.Parameter(name="0", mean_sq=square, step=500, shape=square.shape, dtype="float32")
    checkup = examine_checkpoint(checkpoints.Snapshot(format="torch", parameters=(parameter,)))
    assert [finding.kind for finding in checkup.findings] == kinds


def test_complex_states_and_kernels_are_examined():
    square = np.full((3, 4), 1 + 2j, "c8")
    parameter = checkpoints.Parameter(name="kernel", mean_sq=square, step=9, shape=(3, 4), dtype="complex64")
    (sample,) = examine_checkpoint(checkpoints.Snapshot(format="torch", parameters=(parameter,))).samples
    assert sample.root_mean_sq == pytest.approx(1.5**0.5)
