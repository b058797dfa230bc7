"""Promise 6: save, load, go on gives the bits of an uninterrupted run; what does not fit is named and loads nothing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import numpy as np
import pytest

import rmsprop
from cases import COVERING, same_bits
from rmsprop import Rule, _files, _state
from rmsprop.errors import FileError, StateError

RULES = {name: COVERING[name] for name in ("plain", "graves", "nesterov", "centered corrected", "corrected decay")}


def fresh(rule=None, dtype="float32"):
    rng = np.random.default_rng(1)
    params = {
        "w": rng.standard_normal((3, 4)).astype(dtype),
        "b": [np.asfortranarray(rng.standard_normal((2, 3)).astype(dtype)), np.ones((), dtype), np.ones((0, 2), dtype)],
    }
    return rmsprop.RMSprop(params, lr=lambda step: 0.1 / (1 + step), dialect=rule)


def gradients(optimizer, t):
    rng = np.random.default_rng(100 + t)

    def like(param):
        return rng.standard_normal(param.shape).astype(param.dtype).copy(order="F" if param.ndim == 2 else "C")

    w, b = optimizer.params["w"], optimizer.params["b"]
    grads = {"w": np.ascontiguousarray(like(w)), "b": [like(leaf) for leaf in b]}
    if t % 3 == 1:
        grads["b"][0] = None
    return grads


def leaves(optimizer):
    return [optimizer.params["w"], *optimizer.params["b"]]


def everything(optimizer):
    arrays = [*leaves(optimizer), optimizer.steps, *(a for arrays in optimizer.buffers.values() for a in arrays)]
    return [array.tobytes() for array in arrays] + [optimizer.step_count, optimizer.lr_max]


def after(steps, rule=None, dtype="float32"):
    optimizer = fresh(rule, dtype)
    for t in range(steps):
        optimizer.step(gradients(optimizer, t))
    return optimizer


# ---- resume ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["dict", "file"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_run_goes_on_with_the_same_bits_from_any_step(rule, dtype, how, tmp_path):
    total = 7
    expected = everything(after(total, rule, dtype))
    for stop in range(total + 1):
        first, second = after(stop, rule, dtype), fresh(rule, dtype)
        if how == "file":
            first.save(tmp_path / "state.safetensors")
            second.load(tmp_path / "state.safetensors")
        else:
            for mine, theirs in zip(leaves(second), leaves(first)):
                mine[...] = theirs
            second.load_state_dict(first.state_dict())
        for t in range(stop, total):
            second.step(gradients(second, t))
        assert everything(second) == expected


def test_a_state_dict_is_a_copy_both_ways():
    optimizer = after(3)
    state = optimizer.state_dict()
    kept = {key: array.copy() for key, array in state["buffers"].items()}
    optimizer.step(gradients(optimizer, 3))
    assert all(same_bits(state["buffers"][key], array) for key, array in kept.items())
    other = fresh()
    other.load_state_dict(state)
    other.step(gradients(other, 3))
    assert all(same_bits(state["buffers"][key], array) for key, array in kept.items())


def test_loading_writes_into_the_same_arrays(tmp_path):
    after(3).save(tmp_path / "state")
    optimizer = fresh()
    params, buffers = leaves(optimizer), list(optimizer.buffers["mean_sq"])
    optimizer.load(tmp_path / "state")
    assert all(a is b for a, b in zip(leaves(optimizer), params))
    assert all(a is b for a, b in zip(optimizer.buffers["mean_sq"], buffers))


def test_the_file_can_be_read_by_safetensors_alone(tmp_path):
    from safetensors.numpy import load_file

    optimizer = after(3)
    optimizer.save(tmp_path / "state.safetensors")
    arrays = load_file(tmp_path / "state.safetensors")
    assert same_bits(arrays["params['w']"], optimizer.params["w"])
    assert same_bits(arrays["mean_sq['b'][0]"], optimizer.buffers["mean_sq"][1])
    assert arrays["steps"].tolist() == optimizer.steps.tolist()


# ---- what does not fit -----------------------------------------------------------------------------------------------


def changed(**entries):
    def change(state):
        state.update(entries)

    return change


def changed_buffer(key, change):
    def apply(state):
        state["buffers"][key] = change(state["buffers"][key])

    return apply


def _drop(key):
    return lambda state: state.pop(key)


BAD_STATES = {
    "another rule": (
        changed(rule=Rule(rho=0.99).to_json()),
        "state: saved with rho=0.99, but this optimizer has rho=0.9",
    ),
    "another switch": (
        changed(rule=Rule(eps_mode="max").to_json()),
        "state: saved with eps_mode='max', but this optimizer has eps_mode='inside'",
    ),
    "a rule that is none": (changed(rule='{"rho": 2}'), "state['rule']: rho=2.0, expected a finite number"),
    "a rule of another type": (changed(rule=None), "state['rule']: not JSON"),
    "another shape": (
        changed_buffer("mean_sq['w']", lambda a: a.T),
        "state: mean_sq['w'] has shape (4, 3), expected (3, 4)",
    ),
    "another dtype": (
        changed_buffer("mean_sq['w']", lambda a: a.astype("float64")),
        "state: mean_sq['w'] is float64, expected float32",
    ),
    "a negative mean square": (
        changed_buffer("mean_sq['w']", np.negative),
        "state: mean_sq['w'] has negative elements, which no mean of squares has",
    ),
    "a missing array": (lambda state: state["buffers"].pop("mean_sq['b'][0]"), "state: mean_sq['b'][0] is missing"),
    "an array too many": (
        lambda state: state["buffers"].update({"mean_sq['c']": np.zeros(2)}),
        "state: mean_sq['c'] belongs to no parameter of this optimizer",
    ),
    "no arrays": (changed(buffers=None), "state['buffers']: a NoneType, expected a dict of arrays"),
    "a missing entry": (_drop("steps"), "state: 'steps' is missing; expected what state_dict() returned"),
    "counts too few": (
        changed(steps=np.zeros(2, np.int64)),
        "state['steps']: int64 of shape (2,), expected int64 of shape (4,)",
    ),
    "negative counts": (changed(steps=np.full(4, -1)), "state['steps']: int64 of shape (4,), expected int64"),
    "counts that are no whole numbers": (changed(steps=np.zeros(4)), "state['steps']: float64 of shape (4,)"),
    "a negative count": (changed(count=-1), "state['count']: -1, expected a whole number of at least 0"),
    "a count that is none": (changed(count="3"), "state['count']: '3', expected a whole number of at least 0"),
    "a NaN lr_max": (changed(lr_max=np.nan), "state['lr_max']: nan, expected a finite number of at least 0"),
    "an lr_max that is none": (changed(lr_max=None), "state['lr_max']: None, expected a finite number"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_state_that_does_not_fit_is_named_and_loads_nothing(case):
    change, message = BAD_STATES[case]
    state = after(3).state_dict()
    change(state)
    optimizer = after(2)
    before = everything(optimizer)
    with pytest.raises(StateError) as caught:
        optimizer.load_state_dict(state)
    assert str(caught.value).startswith(message)
    assert everything(optimizer) == before


def test_what_is_no_state_at_all_is_refused():
    with pytest.raises(StateError, match=r"^state: a list, expected what state_dict\(\) returned$"):
        fresh().load_state_dict([])


def test_a_file_of_other_parameters_is_refused_and_loads_nothing(tmp_path):
    after(3).save(tmp_path / "state")
    for params, message in (
        ({"w": np.zeros((3, 4), "float32")}, "belongs to no parameter"),
        ({"v": np.zeros((3, 4), "float32")}, "params['v'] is missing"),
    ):
        optimizer = rmsprop.RMSprop(params, lr=0.1)
        with pytest.raises(StateError) as caught:
            optimizer.load(tmp_path / "state")
        assert message in str(caught.value)
        assert not any(array.any() for array in params.values())
        assert optimizer.step_count == 0


def test_a_file_of_another_rule_is_refused_and_loads_nothing(tmp_path):
    after(3).save(tmp_path / "state")
    optimizer = after(2, RULES["nesterov"])
    before = everything(optimizer)
    with pytest.raises(StateError, match="saved with bias_correction=False, but this optimizer has bias_correction=Tr"):
        optimizer.load(tmp_path / "state")
    assert everything(optimizer) == before


# ---- broken files ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "state.safetensors"
    after(3).save(path)
    return path.read_bytes()


def assert_refused(path, before, optimizer):
    with pytest.raises(FileError) as caught:
        optimizer.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert everything(optimizer) == before


def test_a_file_cut_anywhere_is_refused_and_loads_nothing(saved, tmp_path):
    optimizer, path = after(2), tmp_path / "cut"
    before = everything(optimizer)
    for length in range(0, len(saved), 7):
        path.write_bytes(saved[:length])
        assert_refused(path, before, optimizer)


def test_a_bit_flipped_anywhere_is_refused_and_loads_nothing(saved, tmp_path):
    optimizer, path = after(2), tmp_path / "flipped"
    before = everything(optimizer)
    for position in range(len(saved)):
        broken = bytearray(saved)
        broken[position] ^= 1 << (position * 5 % 8)
        path.write_bytes(broken)
        assert_refused(path, before, optimizer)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + b"\0" * 100, b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_of_another_kind_is_refused(content, tmp_path):
    path = tmp_path / "other"
    path.write_bytes(content)
    optimizer = fresh()
    assert_refused(path, everything(optimizer), optimizer)


def test_a_safetensors_file_that_is_not_ours_is_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    save_file({"w": np.zeros(3)}, path)
    with pytest.raises(FileError) as caught:
        fresh().load(path)
    assert str(caught.value) == f"{path}: a safetensors file, but not one that rmsprop.RMSprop.save wrote"


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        fresh().load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        fresh().load(tmp_path)


# ---- saving ----------------------------------------------------------------------------------------------------------

FULL_DISK = """
import resource, signal, sys, numpy as np, rmsprop
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
def test_a_full_disk_is_an_os_error_and_the_old_file_survives(tmp_path):
    path = tmp_path / "state"
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.startswith(f"{path}: could not be written")
    assert "what stood there is unchanged" in result.stdout
    survivor = rmsprop.RMSprop(np.zeros(100_000), lr=0.1)
    survivor.load(path)
    assert survivor.step_count == 0
    assert (survivor.params == 1).all()
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_an_interrupted_save_leaves_the_old_file_and_no_rest(where, tmp_path, monkeypatch):
    path = tmp_path / "state"
    after(1).save(path)
    old = path.read_bytes()

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(_files.os, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        after(2).save(path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["state"]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        fresh().save(tmp_path / "nowhere" / "state")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are those of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_saved_file_has_the_permissions_of_any_new_file(mask, tmp_path):
    before = os.umask(mask)
    try:
        after(1).save(tmp_path / "state")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o666 & ~mask


def test_the_checksum_covers_names_shapes_dtypes_bytes_and_metadata():
    arrays, metadata = {"a": np.arange(6.0).reshape(2, 3)}, {"count": "1"}
    sums = {
        _state._checksum(arrays, metadata),
        _state._checksum(arrays, {"count": "2"}),
        _state._checksum({"b": arrays["a"]}, metadata),
        _state._checksum({"a": arrays["a"].T.copy().reshape(3, 2)}, metadata),
        _state._checksum({"a": arrays["a"].reshape(3, 2)}, metadata),
        _state._checksum({"a": arrays["a"].view("int64")}, metadata),
        _state._checksum({"a": arrays["a"] + 1}, metadata),
    }
    assert len(sums) == 7
