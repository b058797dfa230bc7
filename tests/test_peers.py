"""Promise: a dialect gives the numbers of the original implementation, stepped beside this library or recorded.

Which options are crossed, and every exception with its reason: peers/cases.py. What is compared and by which bound:
peers/compare.py. `make peers` records the original implementations that cannot live beside the others.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import rmsprop
from peers import course, runs
from peers.cases import ALL, CASES, RECORDED, of
from peers.compare import WAY, figures, own_path, rule_of
from peers.record import HERE, load_recorded
from rmsprop import dialects
from rmsprop.errors import RuleError

# The first of them waits for the processes of TensorFlow and Keras.
pytestmark = [pytest.mark.timeout(600), pytest.mark.peers]

DOCS = Path(__file__).parents[1] / "docs"
WHOLE = [case for case in CASES if "float64" in case.dtypes and case.first == 1]
# A recording keeps the state that a step needs in float32 alone.
SINGLE = [
    (case, dtype) for case in CASES for dtype in case.dtypes if case.upstream not in RECORDED or dtype == "float32"
]


def measure(case, dtype):
    try:
        return runs.measure(case.label, dtype)
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.label)
def test_100_float64_steps_match_the_original(case):
    assert measure(case, "float64").way <= WAY, case.why


@pytest.mark.parametrize(("case", "dtype"), SINGLE, ids=lambda it: getattr(it, "label", it))
def test_one_step_matches_the_original_within_a_few_ulp(case, dtype):
    found = measure(case, dtype)
    assert found.steps == (2 if case.upstream in RECORDED else course.STEPS - case.first + 1)
    assert found.step <= found.bound, case.why


@pytest.mark.parametrize("upstream", ALL)
def test_the_course_distinguishes_similar_rules(upstream):
    rule = rule_of(of(upstream)[0])
    path = own_path(rule)
    similar = [
        rule.replace(rho=rule.rho - 1e-6),
        rule.replace(eps=1.001 * rule.eps),
        rule.replace(eps_mode="inside" if rule.eps_mode == "outside" else "outside"),
        rule.replace(centered=not rule.centered),
    ]
    if not rule.bias_correction:
        similar.append(rule.replace(init="zeros" if rule.init == "ones" else "ones"))
    for other in similar:
        way = np.abs(own_path(other) - path).max(axis=0) / np.maximum(np.abs(path).max(axis=0), 1e-300)
        assert way.max() > WAY, other


@pytest.mark.parametrize("upstream", ALL)
def test_one_step_of_a_wrong_rule_is_detected(upstream):
    case = of(upstream)[0]
    measure(case, "float32")
    path = runs.path_of(case, "float32")
    wrong = dataclasses.replace(case, ours={**case.ours, "rho": rule_of(case).rho - 1e-3})
    assert figures(wrong, path, "float32").step > 10 * figures(case, path, "float32").bound


@pytest.mark.parametrize("upstream", ALL)
def test_every_option_changes_the_result(upstream):
    ends = {}
    for case in of(upstream):
        ends.setdefault(rule_of(case), []).append(case.label)
    paths = [own_path(rule)[-1] for rule in ends]
    assert paths
    for a, b in itertools.combinations(paths, 2):
        assert np.abs(a - b).max() > 1e-9


def test_the_cases_are_those_of_the_dialects_that_were_run():
    assert {case.dialect for case in CASES} == {row.name for row in dialects.all() if row.evidence == "V"}
    assert {case.upstream for case in CASES} == set(ALL)
    assert len({case.label for case in CASES}) == len(CASES)
    assert all(case.why for case in CASES if case.rounded or case.first > 1 or len(case.dtypes) == 1)


@pytest.mark.parametrize("upstream", RECORDED)
def test_a_recording_has_its_version_and_this_course(upstream):
    head, paths = load_recorded(upstream)
    assert head["upstream"] == upstream
    assert [part.isdecimal() for part in head["version"].split(".")] == [True] * 3
    assert head["version"] in dialects.get(upstream).source
    assert head["course"]["digest"] == course.digest(), f"recorded on another course: make peers UPSTREAM={upstream}"
    assert (head["course"]["seed"], head["course"]["lrs"]) == (course.SEED, course.LRS.tolist())
    # Every case and no other: a changed option is a missing run.
    assert set(paths) == {(case.label, dtype) for case in of(upstream) for dtype in case.dtypes}
    assert (HERE / f"{upstream}.json").stat().st_size < 50_000


def test_a_recording_without_its_version_raises(tmp_path, monkeypatch):
    head = json.loads((HERE / "mlx.json").read_text(encoding="utf-8"))
    del head["version"]
    (tmp_path / "mlx.json").write_text(json.dumps(head), encoding="utf-8")
    monkeypatch.setattr("peers.record.HERE", tmp_path)
    with pytest.raises(KeyError, match="version"):
        test_a_recording_has_its_version_and_this_course("mlx")


# ---- upstream bugs, beside what this library does instead ----------------------------------------------------------


def test_bitsandbytes_ignores_momentum_and_here_it_raises():
    _, paths = load_recorded("bitsandbytes")
    plain, momentum = paths["bitsandbytes", "float32"], paths["bitsandbytes momentum=0.9", "float32"]
    np.testing.assert_array_equal(momentum["param"], plain["param"])
    with pytest.raises(RuleError, match="silently ignores it"):
        rmsprop.dialect("bitsandbytes", momentum=0.9)
    meant = rmsprop.dialect("bitsandbytes").replace(momentum=0.9, buffer="unit")
    assert np.abs(own_path(meant, "float32")[-1] - plain["param"][-1]).max() > 0.01


def test_the_first_corrected_centered_step_of_optax_is_wrong_and_here_it_is_lr_long():
    pytest.importorskip("optax", reason="optax is not installed")
    wrong_cases = [case for case in of("optax") if case.first > 1 and "momentum" not in case.options]
    assert len(wrong_cases) == 2
    moving = course.GRADS[0] != 0
    for case in wrong_cases:
        first = runs.path_of(case, "float64")["param"][0][moving]
        mine = own_path(rule_of(case))[1][moving]
        longest = 1.000001 * course.LRS[0]
        assert (np.abs(mine - course.START[moving]) <= longest).all()
        # Each is NaN, or grad / eps: thousands of times as long.
        assert (~(np.abs(first - course.START[moving]) <= longest)).any()


def test_tf_keras_legacy_uses_another_eps_mode_with_momentum():
    at_zero, above = (rmsprop.dialect("tf-keras-legacy", momentum=m) for m in (0.0, 1e-9))
    assert (at_zero.eps_mode, above.eps_mode) == ("outside", "inside")
    assert np.abs(own_path(at_zero)[-1] - own_path(above)[-1]).max() > 1e-3


# ---- the front end for torch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("upstream", ["torch", "timm", "sb3"])
def test_the_torch_front_end_is_bit_for_bit_identical(upstream, dtype):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from rmsprop.torch import RMSprop

    for case in of(upstream)[:: 3 if upstream == "sb3" else 7]:
        param = torch.nn.Parameter(torch.tensor(course.START, dtype=getattr(torch, dtype)))
        optimizer = RMSprop([param], lr=float(course.LRS[0]), dialect=rule_of(case))
        for grad, lr in zip(course.GRADS, course.LRS):
            optimizer.param_groups[0]["lr"] = float(lr)
            param.grad = torch.tensor(grad, dtype=param.dtype)
            optimizer.step()
        np.testing.assert_array_equal(param.detach().numpy(), own_path(rule_of(case), dtype)[-1])


# ---- the page ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agreement():
    spec = importlib.util.spec_from_file_location("docs_agreement", DOCS / "agreement.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_of_agreement_is_current(agreement):
    try:
        rows = agreement.rows()
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
    stated = agreement.read_page()
    assert {(row.dialect, row.upstream) for row in rows} == set(stated), "run: python docs/agreement.py"
    assert {row.dialect for row in rows} == set(dialects.names())
    for row in rows:
        how, settings, way, step, remarks = stated[row.dialect, row.upstream]
        assert [how, settings, remarks] == [row.how, str(row.settings), "; ".join(row.remarks)], row
        assert (way == "", step == "") == (row.way is None, row.step is None), row
        assert row.way is None or row.way <= float(way) <= WAY, row
        assert row.step is None or row.step <= float(step), row
        assert row.step is None or row.step <= row.bound, row


def test_the_page_of_dialects_links_to_the_page_of_agreement():
    assert "(agreement.md)" in (DOCS / "reference" / "dialects.md").read_text(encoding="utf-8")
