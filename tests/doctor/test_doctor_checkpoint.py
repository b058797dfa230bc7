"""`rmsprop.doctor.examine_checkpoint`: a checkpoint is judged by the rule it was trained with."""

from __future__ import annotations

import math

import numpy as np
import pytest

import rmsprop
from rmsprop import Rule, checkpoints
from rmsprop.doctor import Look, examine_checkpoint
from rmsprop.doctor.checkpoint import not_finite

torch = pytest.importorskip("torch", reason="torch is not installed")

import rmsprop.torch  # noqa: E402
from rmsprop.doctor import watch  # noqa: E402
from torch_helpers import TorchRMSprop as Host  # noqa: E402

RULES = {
    "var_floor": Rule(rho=0.9, var_floor=1.0, eps=1e-3),
    "nesterov": Rule(rho=0.99, buffer="unit", momentum=0.9, nesterov="post", init="ones"),
    "correction": Rule(rho=0.999, bias_correction=True, centered=True),
    "max": Rule(rho=0.9, eps=0.5, eps_mode="max", init=0.25),
    "maximize": Rule(rho=0.9, maximize=True),
}


def stepped(optimizer, steps=30, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for group in optimizer.param_groups:
            for param in group["params"]:
                param.grad = scale * torch.randn(param.shape, generator=generator)
        optimizer.step()
    return optimizer


def weights(*shape):
    return torch.nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(1)))


def examined(optimizer, path, **options):
    torch.save(optimizer.state_dict(), path)
    return examine_checkpoint(checkpoints.read(path), **options)


@pytest.mark.parametrize("name", RULES)
def test_this_librarys_torch_checkpoints_are_judged_as_the_watch_judged_the_training(name, tmp_path):
    optimizer = rmsprop.torch.RMSprop([weights(4, 4)], lr=1e-3, dialect=RULES[name])
    with watch(optimizer, every=1, budget=None) as watching:
        stepped(optimizer, scale=1e-4 if name == "var_floor" else 1.0)
    (look,) = examined(optimizer, tmp_path / "own.pt").looks
    assert look.full_rule() == RULES[name]
    assert look.effective_lr == pytest.approx(watching.looks["0"].effective_lr, rel=1e-4)
    assert look.eps_share == watching.looks["0"].eps_share


def test_a_floor_under_the_variance_keeps_eps_from_ruling(tmp_path):
    rule = RULES["var_floor"]
    optimizer = stepped(rmsprop.torch.RMSprop([weights(4, 4)], lr=0.01, dialect=rule), scale=1e-4)
    checkup = examined(optimizer, tmp_path / "own.pt")
    assert checkup.findings == []
    assert checkup.looks[0].effective_lr[2] == pytest.approx(0.01 / math.sqrt(1 + 1e-3))  # the closed form


def test_this_librarys_own_file_is_judged_by_the_rule_it_holds(tmp_path):
    rule = Rule(rho=0.9, var_floor=4.0, eps=0.0)
    optimizer = rmsprop.RMSprop({"w": np.ones((3, 3))}, lr=0.1, dialect=rule)
    for _ in range(20):
        optimizer.step({"w": np.full((3, 3), 1e-3)})
    optimizer.save(tmp_path / "run.safetensors")
    (look,) = examine_checkpoint(checkpoints.read(tmp_path / "run.safetensors"), lr=0.1).looks
    assert look.effective_lr[2] == pytest.approx(0.1 / 2.0)


def test_groups_with_rules_of_their_own_are_told_apart(tmp_path):
    first, second = weights(3, 3), weights(2, 2)
    groups = [{"params": [first], "alpha": 0.5}, {"params": [second], "eps": 0.25}]
    checkup = examined(stepped(rmsprop.torch.RMSprop(groups, lr=1e-3)), tmp_path / "own.pt")
    rules = [look.full_rule() for look in checkup.looks]
    assert [(rule.rho, rule.eps) for rule in rules] == [(0.5, 1e-8), (0.99, 0.25)]


def test_a_long_start_is_found_after_a_schedule_that_ended_at_zero(tmp_path):
    optimizer = Host([weights(4, 4)], lr=0.01, alpha=0.999)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    for _ in range(20):
        stepped(optimizer, 1)
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)
    checkup = examined(optimizer, tmp_path / "run.pt")
    (finding,) = checkup.findings
    assert (finding.kind, finding.value) == ("start", pytest.approx(1000**0.5, rel=1e-4))
    assert finding.words.endswith("(initial_lr 0.01)")
    assert Look.from_json(checkup.looks[0].to_json()).start_lr == 0.01
    assert examined(optimizer, tmp_path / "run.pt", lr=1e-5).findings == []  # as the user says


def test_a_start_that_was_short_stays_silent_after_a_schedule(tmp_path):
    optimizer = Host([weights(4, 4)], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    for _ in range(20):
        stepped(optimizer, 1)
        schedule.step()
    assert examined(optimizer, tmp_path / "run.pt").findings == []


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_a_finding_with_the_tensor_and_the_count(bad, centered, tmp_path):
    mean = {"mean_grad": np.array([[0.5, bad], [0.1, 0.1]], "f4")} if centered else {}
    square = np.array([[bad, 1.0], [bad, 1.0]], "f4")
    good = {"mean_sq": np.ones((2, 2), "f4"), "mean_grad": np.full((2, 2), 0.1, "f4") if centered else None}
    parameters = (
        checkpoints.Parameter(name="w", mean_sq=square, **mean, step=9, shape=(2, 2), dtype="float32"),
        checkpoints.Parameter(name="v", **good, step=9, shape=(2, 2), dtype="float32"),
    )
    snapshot = checkpoints.Snapshot(format="torch", parameters=parameters, centered=centered)
    (finding,) = examine_checkpoint(snapshot, lr=0.1).findings
    assert (finding.kind, finding.tensor) == ("nan", "w")
    assert "2 of 4 elements of mean_sq" in finding.words
    assert ("1 of 4 elements of mean_grad" in finding.words) == centered
    assert not_finite(parameters[1]) == ()


def test_a_table_of_words_of_which_few_came_is_healthy_and_a_layer_of_dead_units_is_not():
    def snapshot(rows, columns, dead):
        square = np.ones((rows, columns), "f4")
        square[:dead] = 0
        one = checkpoints.Parameter(name="0", mean_sq=square, step=500, shape=square.shape, dtype="float32")
        return checkpoints.Snapshot(format="torch", parameters=(one,))

    assert examine_checkpoint(snapshot(5000, 64, 4000)).findings == []
    assert [finding.kind for finding in examine_checkpoint(snapshot(256, 64, 128)).findings] == ["dead"]
