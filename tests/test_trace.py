"""Promise: a trace has the numbers of every step, and files keep it exactly."""

import csv
import errno
import json
import os
import sys

import numpy as np
import pytest

from rmsprop import Rule, baselines
from rmsprop.errors import FileError, InputError, MissingDependency
from rmsprop.minimize import minimize
from rmsprop.trace import Recorder, Trace

ARRAYS = ("x", "f", "grad", "mean_sq", "update", "effective_lr", "lr")


def bowl(x):
    return float(x[0] ** 2 + 5 * x[1] ** 2)


def slope(x):
    return np.array([2 * x[0], 10 * x[1]], dtype=x.dtype)


def run_bowl(x0=(1.0, -2.0), **options):
    return minimize(bowl, np.asarray(x0), jac=slope, **{"lr": 0.05, "steps": 25, "trace": True, **options}).trace


def run_many_starts(**options):
    def valleys(x):
        return (x**2 - 1).sum(axis=1) ** 2

    return minimize(valleys, np.array([[1.0, 2.0], [-1.0, 0.5], [0.3, 0.1]]), steps=6, trace=True, **options).trace


def are_equal(a, b):
    return all(
        getattr(a, name).dtype == getattr(b, name).dtype
        and np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True)
        for name in ARRAYS
    ) and (a.optimizer, a.rule, a.shape, a.function) == (b.optimizer, b.rule, b.shape, b.function)


@pytest.mark.parametrize("rule", [Rule(), Rule(centered=True)], ids=["plain", "centered"])
@pytest.mark.parametrize("lr", [0.05, lambda step: 0.1 / (step + 1)], ids=["constant", "schedule"])
def test_the_rows_follow_the_formula(rule, lr):
    run = run_bowl(lr=lr, dialect=rule)
    assert len(run) == run.steps == 25
    assert (run.optimizer, run.rule) == ("rmsprop", rule)
    mean_sq, mean_grad = np.zeros(2), np.zeros(2)
    for t in range(run.steps):
        grad = slope(run.x[t])
        mean_sq = 0.9 * mean_sq + 0.1 * grad**2
        mean_grad = 0.9 * mean_grad + 0.1 * grad
        expected_lr = lr(t) if callable(lr) else lr
        denominator = np.sqrt(mean_sq - mean_grad**2 * rule.centered + 1e-8)
        assert run.f[t] == bowl(run.x[t])
        assert run.lr[t] == expected_lr
        np.testing.assert_allclose(run.grad[t], grad, rtol=1e-13)
        np.testing.assert_allclose(run.mean_sq[t], mean_sq, rtol=1e-12)
        np.testing.assert_allclose(run.effective_lr[t], expected_lr / denominator, rtol=1e-9)
        np.testing.assert_allclose(run.update[t], -run.effective_lr[t] * grad, rtol=1e-9)
        assert np.array_equal(run.update[t], run.x[t + 1] - run.x[t])
    assert run.f[-1] == bowl(run.x[-1])


@pytest.mark.parametrize("name", baselines.names())
def test_a_baseline_is_recorded_with_its_own_statistic(name):
    run = run_bowl(optimizer=name, lr=0.01)
    assert run.optimizer == name
    assert run.rule is None
    expected = {
        "adagrad": np.cumsum(run.grad**2, axis=0),
        "adadelta": [0.1 * sum(0.9 ** (t - i) * run.grad[i] ** 2 for i in range(t + 1)) for t in range(25)],
        "adam": [0.001 * sum(0.999 ** (t - i) * run.grad[i] ** 2 for i in range(t + 1)) for t in range(25)],
    }.get(name.removesuffix("w"), np.full((25, 2), np.nan))
    np.testing.assert_allclose(run.mean_sq, expected, rtol=1e-11)


@pytest.mark.parametrize("steps", [0, 1, 1023, 1024, 1025, 3000])
def test_a_run_may_have_any_length(steps):
    run = run_bowl(steps=steps)
    assert (run.x.shape, run.f.shape, run.lr.shape) == ((steps + 1, 2), (steps + 1,), (steps,))
    assert {getattr(run, name).shape for name in ("grad", "mean_sq", "update", "effective_lr")} == {(steps, 2)}
    assert np.isfinite(run.x).all()


def test_start_returns_the_trace_of_one_start():
    run = run_many_starts()
    assert run.x.shape == (7, 3, 2)
    assert run.f.shape == (7, 3)
    one = run.start(1)
    assert np.array_equal(one.x, run.x[:, 1])
    assert np.array_equal(one.f, run.f[:, 1])
    assert one.grad.shape == (6, 2)
    assert repr(run) == "Trace(rmsprop, 6 steps, n=2, 3 starts)"
    with pytest.raises(InputError, match="start"):
        one.start(0)


RUNS = {
    "plain": run_bowl,
    "float32": lambda: run_bowl(np.array([1, 2], dtype=np.float32)),
    "no steps": lambda: run_bowl(steps=0),
    "a baseline without statistic": lambda: run_bowl(optimizer="momentum"),
    "many starts": run_many_starts,
    "many starts, no steps": lambda: run_many_starts(dialect=Rule(centered=True)).start(2),
    "a schedule and a rule": lambda: run_bowl(
        lr=lambda step: 0.5**step, dialect=Rule(rho=0.5, buffer="unit", momentum=0.3)
    ),
    "a column": lambda: minimize(lambda x: bowl(x.ravel()), np.ones((2, 1)), steps=3, trace=True).trace,
}


@pytest.mark.parametrize("suffix", ["json", "npz"])
@pytest.mark.parametrize("kind", RUNS)
def test_a_trace_is_restored_from_a_file_bit_for_bit(kind, suffix, tmp_path):
    run, path = RUNS[kind](), tmp_path / f"run.{suffix}"
    getattr(run, f"to_{suffix}")(path)
    assert are_equal(getattr(Trace, f"from_{suffix}")(path), run)


def test_infinities_are_stored_in_valid_json(tmp_path):
    run = run_bowl(steps=2)
    run.grad[0] = [np.inf, -np.inf]
    run.f[1] = np.nan
    run.to_json(tmp_path / "run.json")

    def fail(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "run.json").read_text(), parse_constant=fail)
    assert are_equal(Trace.from_json(tmp_path / "run.json"), run)


def read_csv(run, folder):
    run.to_csv(folder / "run.csv")
    with open(folder / "run.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_line_per_point_with_all_digits(tmp_path):
    run = run_bowl()
    lines = read_csv(run, tmp_path)
    assert list(lines[0])[:7] == ["step", "f", "lr", "x[0]", "x[1]", "grad[0]", "grad[1]"]
    assert [float(line["x[1]"]) for line in lines] == run.x[:, 1].tolist()
    assert [float(line["effective_lr[0]"]) for line in lines[:-1]] == run.effective_lr[:, 0].tolist()
    assert lines[-1]["step"] == "25"
    assert lines[-1]["f"] == repr(run.f[-1].item())
    assert lines[-1]["grad[0]"] == lines[-1]["lr"] == ""
    single = run_bowl(np.array([0.1, 0.7], dtype=np.float32))
    assert [np.float32(line["x[0]"]) for line in read_csv(single, tmp_path)] == single.x[:, 0].tolist()


def test_csv_of_many_starts_names_the_start(tmp_path):
    run = run_many_starts()
    lines = read_csv(run, tmp_path)
    assert len(lines) == 3 * 7
    assert [float(line["x[1]"]) for line in lines if line["start"] == "2"] == run.x[:, 2, 1].tolist()


@pytest.mark.parametrize("make", [run_bowl, run_many_starts])
def test_a_dataframe_has_the_rows_and_columns_of_the_csv(make, tmp_path):
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    run = make()
    run.to_csv(tmp_path / "run.csv")
    # pandas reads numbers to within a few units in the last place.
    pd.testing.assert_frame_equal(run.to_dataframe(), pd.read_csv(tmp_path / "run.csv"), rtol=1e-14, atol=0.0)


def test_without_pandas_a_dataframe_raises_with_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependency, match="pip install pandas"):
        run_bowl().to_dataframe()


@pytest.mark.parametrize("suffix", ["json", "npz"])
def test_the_text_of_a_typed_function_is_stored(suffix, tmp_path):
    run = minimize("x - x^3", -1.0, steps=3, trace=True).trace
    assert run.function == "x - x^3"
    assert run_bowl().function is None
    getattr(run, f"to_{suffix}")(tmp_path / "run")
    assert are_equal(getattr(Trace, f"from_{suffix}")(tmp_path / "run"), run)


def test_a_file_without_a_function_is_read_and_one_of_another_format_is_not(tmp_path):
    run, path = run_bowl(steps=2), tmp_path / "run.json"
    content = run.to_dict()
    del content["function"]
    path.write_text(json.dumps(content))
    assert are_equal(Trace.from_json(path), run)
    for name, value in {"function": 1, "format": "another"}.items():
        path.write_text(json.dumps(content | {name: value}))
        with pytest.raises(FileError, match=name):
            Trace.from_json(path)


@pytest.mark.parametrize("writer", ["to_json", "to_npz", "to_csv"])
def test_a_failed_write_leaves_only_the_old_file(writer, tmp_path, monkeypatch):
    path = tmp_path / "run"
    getattr(run_bowl(steps=3), writer)(path)
    old = path.read_bytes()

    def no_space(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        getattr(run_bowl(steps=9), writer)(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        getattr(run_bowl(steps=1), writer)(tmp_path / "nowhere" / "run")
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("suffix", ["json", "npz"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_or_damaged_file_raises(suffix, keep, tmp_path):
    path = tmp_path / "run.trace"
    getattr(run_bowl(), f"to_{suffix}")(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(FileError, match=r"run\.trace: not a trace written by to_" + suffix):
        getattr(Trace, f"from_{suffix}")(path)
    if suffix == "npz":
        at = len(content) // 3
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        with pytest.raises(FileError, match=r"run\.trace"):
            Trace.from_npz(path)


@pytest.mark.parametrize("suffix", ["json", "npz"])
def test_a_file_of_another_kind_raises(suffix, tmp_path):
    path = tmp_path / "other"
    reader = getattr(Trace, f"from_{suffix}")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    for content in (b"[1, 2]", b'{"format": "something else"}', b"\x00\xff", (tmp_path / "other.npz").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(FileError, match="other: not a trace"):
            reader(path)
    np.save(tmp_path / "array.npy", np.ones(3))
    with pytest.raises(FileError):
        reader(tmp_path / "array.npy")


def test_arrays_whose_shapes_do_not_fit_raise():
    run = run_bowl(steps=3)
    fields = {name: getattr(run, name) for name in ARRAYS}
    with pytest.raises(InputError, match=r"grad: shape \(2, 2\), expected \(3, 2\) like x: \(4, 2\)"):
        Trace(**{**fields, "grad": run.grad[:2]})
    with pytest.raises(InputError, match=r"x: shape \(4,\), expected \(steps \+ 1, n\)"):
        Trace(**{**fields, "x": run.x[:, 0]})


def test_a_recorder_accepts_more_steps_than_expected():
    record = Recorder(np.zeros(1), steps=2)
    for t in range(100):
        record.add_point([float(t)], f=t)
        record.add_step(grad=[t], mean_sq=t, effective_lr=1.0, lr=1.0)
    run = record.finish(optimizer="adam")
    assert (run.x.ravel().tolist(), run.update.ravel().tolist()) == (list(range(100)), [1.0] * 99)
