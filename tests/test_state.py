"""Promise 6: save, load, continue gives the bits of an uninterrupted run; a state that does not fit loads nothing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import rmsprop
from cases import COVERING, same_bits
from rmsprop import Rule, _files
from rmsprop.errors import FileError, StateError

RULES = {name: COVERING[name] for name in ("plain", "graves", "nesterov", "centered corrected", "corrected decay")}


def make_optimizer(rule=None, dtype="float32", *, steps=0):
    """Return an optimizer of a tree with a Fortran, a scalar and an empty leaf, after some steps."""
    rng = np.random.default_rng(1)
    params = {
        "w": rng.standard_normal((3, 4)).astype(dtype),
        "b": [np.asfortranarray(rng.standard_normal((2, 3)).astype(dtype)), np.ones((), dtype), np.ones((0, 2), dtype)],
    }
    optimizer = rmsprop.RMSprop(params, lr=lambda step: 0.1 / (1 + step), dialect=rule)
    for t in range(steps):
        optimizer.step(make_gradients(optimizer, t))
    return optimizer


def make_gradients(optimizer, t):
    rng = np.random.default_rng(100 + t)
    w, *b = (rng.standard_normal(leaf.shape).astype(leaf.dtype).copy(order="F") for leaf in list_leaves(optimizer))
    grads = {"w": np.ascontiguousarray(w), "b": b}
    if t % 3 == 1:
        grads["b"][0] = None
    return grads


def list_leaves(optimizer):
    return [optimizer.params["w"], *optimizer.params["b"]]


def dump(optimizer):
    """Return everything that an optimizer holds, as bytes and counters."""
    buffers = [array for arrays in optimizer.buffers.values() for array in arrays]
    arrays = [*list_leaves(optimizer), optimizer.steps, *buffers]
    return [array.tobytes() for array in arrays] + [optimizer.step_count, optimizer.lr_max]


# ---- resume ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["dict", "file"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_run_continues_with_the_same_bits_from_any_step(rule, dtype, how, tmp_path):
    total = 7
    expected = dump(make_optimizer(rule, dtype, steps=total))
    for stop in range(total + 1):
        first, second = make_optimizer(rule, dtype, steps=stop), make_optimizer(rule, dtype)
        if how == "file":
            first.save(tmp_path / "state.safetensors")
            second.load(tmp_path / "state.safetensors")
        else:
            for mine, theirs in zip(list_leaves(second), list_leaves(first)):
                mine[...] = theirs
            second.load_state_dict(first.state_dict())
        for t in range(stop, total):
            second.step(make_gradients(second, t))
        assert dump(second) == expected


def test_a_state_dict_is_a_copy_in_both_directions():
    optimizer, other = make_optimizer(steps=3), make_optimizer()
    state = optimizer.state_dict()
    before = {key: array.copy() for key, array in state["buffers"].items()}
    other.load_state_dict(state)
    for each in (optimizer, other):
        each.step(make_gradients(each, 3))
    assert all(same_bits(state["buffers"][key], array) for key, array in before.items())


def test_loading_writes_into_the_same_arrays(tmp_path):
    make_optimizer(steps=3).save(tmp_path / "state")
    optimizer = make_optimizer()
    arrays = [*list_leaves(optimizer), *optimizer.buffers["mean_sq"]]
    optimizer.load(tmp_path / "state")
    assert all(a is b for a, b in zip([*list_leaves(optimizer), *optimizer.buffers["mean_sq"]], arrays))


def test_safetensors_alone_reads_the_file(tmp_path):
    optimizer = make_optimizer(steps=3)
    optimizer.save(tmp_path / "state.safetensors")
    arrays = load_file(tmp_path / "state.safetensors")
    assert same_bits(arrays["params['w']"], optimizer.params["w"])
    assert same_bits(arrays["mean_sq['b'][0]"], optimizer.buffers["mean_sq"][1])
    assert arrays["steps"].tolist() == optimizer.steps.tolist()


# ---- what does not fit -----------------------------------------------------------------------------------------------


def put(**entries):
    return lambda state: state.update(entries)


def edit(key, change):
    return lambda state: state["buffers"].update({key: change(state["buffers"][key])})


W = "mean_sq['w']"
BAD_STATES = {
    "another number": (put(rule=Rule(rho=0.99).to_json()), "state: saved with rho=0.99, but .* rho=0.9"),
    "another switch": (put(rule=Rule(eps_mode="max").to_json()), "state: saved with eps_mode='max', but"),
    "a rule out of its domain": (put(rule='{"rho": 2}'), r"state\['rule'\]: rho=2.0, expected a finite number"),
    "a rule that is not JSON": (put(rule=None), r"state\['rule'\]: not JSON"),
    "another shape": (edit(W, lambda a: a.T), r"state: mean_sq\['w'\] has shape \(4, 3\), expected \(3, 4\)"),
    "another dtype": (edit(W, lambda a: a.astype("f8")), r"state: mean_sq\['w'\] is float64, expected float32"),
    "a negative mean square": (edit(W, np.negative), r"state: mean_sq\['w'\] has negative elements"),
    "a missing array": (lambda state: state["buffers"].pop(W), r"state: mean_sq\['w'\] is missing"),
    "an array too many": (lambda state: state["buffers"].update(x=np.zeros(2)), "state: x belongs to no parameter"),
    "no arrays": (put(buffers=None), r"state\['buffers'\]: a NoneType, expected a dict of arrays"),
    "a missing entry": (lambda state: state.pop("steps"), "state: 'steps' is missing"),
    "too few steps": (put(steps=np.zeros(2, np.int64)), r"state\['steps'\]: int64 of shape \(2,\), expected .* \(4,\)"),
    "negative steps": (put(steps=np.full(4, -1)), r"state\['steps'\]: int64 of shape \(4,\), expected int64"),
    "fractional steps": (put(steps=np.zeros(4)), r"state\['steps'\]: float64 of shape \(4,\)"),
    "a negative count": (put(count=-1), r"state\['count'\]: -1, expected a whole number of at least 0"),
    "a count that is text": (put(count="3"), r"state\['count'\]: '3', expected a whole number"),
    "an lr_max of NaN": (put(lr_max=np.nan), r"state\['lr_max'\]: nan, expected a finite number of at least 0"),
    "no lr_max": (put(lr_max=None), r"state\['lr_max'\]: None, expected a finite number"),
}


@pytest.mark.parametrize(("change", "message"), BAD_STATES.values(), ids=BAD_STATES)
def test_a_state_that_does_not_fit_raises_and_loads_nothing(change, message):
    state = make_optimizer(steps=3).state_dict()
    change(state)
    optimizer = make_optimizer(steps=2)
    before = dump(optimizer)
    with pytest.raises(StateError, match=message):
        optimizer.load_state_dict(state)
    assert dump(optimizer) == before


def test_a_state_that_is_not_a_dict_raises():
    with pytest.raises(StateError, match=r"^state: a list, expected what state_dict\(\) returned$"):
        make_optimizer().load_state_dict([])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rmsprop.RMSprop({"w": np.zeros((3, 4), "f4")}, lr=0.1), "belongs to no parameter"),
        (lambda: rmsprop.RMSprop({"v": np.zeros((3, 4), "f4")}, lr=0.1), r"params\['v'\] is missing"),
        (lambda: make_optimizer(RULES["nesterov"]), "saved with bias_correction=False, but .* bias_correction=True"),
    ],
)
def test_a_file_of_another_optimizer_raises_and_loads_nothing(make, message, tmp_path):
    make_optimizer(steps=3).save(tmp_path / "state")
    optimizer = make()
    before = repr(optimizer.params), repr(optimizer.state_dict())
    with pytest.raises(StateError, match=message):
        optimizer.load(tmp_path / "state")
    assert (repr(optimizer.params), repr(optimizer.state_dict())) == before


# ---- broken files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def content(tmp_path):
    """The bytes of a saved state."""
    make_optimizer(steps=3).save(tmp_path / "saved")
    return (tmp_path / "saved").read_bytes()


def assert_raises(path, contents):
    optimizer = make_optimizer(steps=2)
    before = dump(optimizer)
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(FileError) as caught:
            optimizer.load(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert dump(optimizer) == before


def test_a_truncated_file_raises_and_loads_nothing(content, tmp_path):
    assert_raises(tmp_path / "cut", (content[:length] for length in range(0, len(content), 7)))


def test_a_flipped_bit_raises_and_loads_nothing(content, tmp_path):
    def flip(position):
        broken = bytearray(content)
        broken[position] ^= 1 << (position * 5 % 8)
        return broken

    assert_raises(tmp_path / "flipped", map(flip, range(len(content))))


def test_a_file_of_another_kind_raises(tmp_path):
    assert_raises(tmp_path / "other", [b"", b"PK\x03\x04" + b"\0" * 100, b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"])
    save_file({"w": np.zeros(3)}, tmp_path / "foreign")
    with pytest.raises(FileError, match=r"foreign: a safetensors file, but not one that rmsprop\.RMSprop\.save wrote$"):
        make_optimizer().load(tmp_path / "foreign")


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file"):
            make_optimizer().load(path)


# ---- saving ----------------------------------------------------------------------------------------------------------

FULL_DISK = """
import resource, sys, numpy as np, rmsprop
optimizer = rmsprop.RMSprop(np.ones(100_000), lr=0.1)
optimizer.save(sys.argv[1])
optimizer.step(np.ones(100_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))  # the disk is full from here on
try:
    optimizer.save(sys.argv[1])
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_an_os_error_and_the_old_file_stays(tmp_path):
    path = tmp_path / "state"
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.startswith(f"{path}: could not be written")
    optimizer = rmsprop.RMSprop(np.zeros(100_000), lr=0.1)
    optimizer.load(path)
    assert optimizer.step_count == 0
    assert (optimizer.params == 1).all()
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_an_interrupted_save_changes_nothing(where, tmp_path, monkeypatch):
    path = tmp_path / "state"
    make_optimizer(steps=1).save(path)
    old = path.read_bytes()

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(_files.os, where, interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_optimizer(steps=2).save(path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["state"]


def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        make_optimizer().save(tmp_path / "nowhere" / "state")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are those of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_saved_file_has_the_permissions_of_any_new_file(mask, tmp_path):
    before = os.umask(mask)
    try:
        make_optimizer().save(tmp_path / "state")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o666 & ~mask
