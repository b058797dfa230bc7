"""Promise: a crafted file, whatever it holds, is a `FileError` of one line, by `convert` and by `doctor`."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from typer.testing import CliRunner

from checkpointing import RECORDED
from rmsprop import checkpoints
from rmsprop.cli import app

torch = pytest.importorskip("torch", reason="torch is not installed")
h5py = pytest.importorskip("h5py", reason="h5py is not installed")
msgpack = pytest.importorskip("msgpack", reason="msgpack is not installed")

GROUP = {"params": [0], "lr": 0.1, "alpha": 0.9, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0, "centered": False}


class Reduced:
    """What pickles as a call of any function and a state of any kind."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def torch_file(*, group=None, state=None, **more):
    """Return the tree of a torch checkpoint with some of its entries replaced."""
    entry = {"step": torch.tensor(3.0), "square_avg": torch.ones(2)}
    return {"param_groups": [{**GROUP, **(group or {})}], "state": {0: {**entry, **(state or {})}}, **more}


def cyclic():
    tree = {"model": [1]}
    tree["self"] = tree
    return tree


def shared(levels=64):
    """Return a tuple whose hash, and a search through it, take 2^levels steps."""
    node = ()
    for _ in range(levels):
        node = (node, node)
    return node


TORCH = {
    **{f"alpha is {name}": torch_file(group={"alpha": value}) for name, value in (("text", "x"), ("a list", [1]))},
    "lr is a dict": torch_file(group={"lr": {}}),
    "lr is too large": torch_file(group={"lr": 10**400}),
    "params is a number": torch_file(group={"params": 7}),
    "params are lists": torch_file(group={"params": [[0]]}),
    "switches is text": torch_file(group={"switches": "all"}),
    "switches are wrong": torch_file(group={"switches": {"eps_mode": 3, "centered": []}}),
    "param_names is short": torch_file(group={"param_names": []}),
    "param_names is a number": torch_file(group={"param_names": 3}),
    "betas is a number": torch_file(group={"betas": 3}),
    "groups is a dict": {"param_groups": {}, "state": {}},
    "state is a list": {"param_groups": [GROUP], "state": [1]},
    "an entry is a number": {"param_groups": [GROUP], "state": {0: 7}},
    "step is text": torch_file(state={"step": "x"}),
    "step is NaN": torch_file(state={"step": float("nan")}),
    "step is negative": torch_file(state={"step": -3}),
    "step is too large": torch_file(state={"step": 10**400}),
    "square_avg is a list": torch_file(state={"square_avg": [1.0]}),
    "square_avg is expanded": torch_file(state={"square_avg": torch.ones(1).expand(10**10)}),
    "square_avg is sparse": torch_file(state={"square_avg": torch.ones(2).to_sparse()}),
    "square_avg is text": torch_file(state={"square_avg": "x"}),
    "codes are text": {"param_groups": [GROUP], "state": {0: {"step": 1, "square_avg_8bit": "x"}}},
    "state1 is text": {"param_groups": [GROUP], "state": {0: {"step": 1, "state1": "x"}}},
    "the wrapped state is a number": {
        "param_groups": [GROUP],
        "state": {0: {"step": 1, "__bnb_optimizer_quant_state__": 7}},
    },
    "a dict holds itself": cyclic(),
    "it asks for memory": torch_file(extra=Reduced(bytearray, (10**10,))),
}


def array(dtype, shape=(2,), data=b"\0" * 8, state=None):
    """Return what pickles as an array whose dtype and state are the file's."""
    kind = dtype if isinstance(dtype, Reduced) else Reduced(np.dtype, (dtype, False, True))
    rebuild = np._core.multiarray._reconstruct
    return Reduced(rebuild, (np.ndarray, (0,), b"b"), state or (1, shape, kind, False, data))


OBJECT = Reduced(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0))
OUTSIDE = Reduced(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("f4"), 2**28)}, 8, 1, 0))
PADDLE = {
    "a dtype with a pointer": {"w_mean_square_0": array(OBJECT, (1,), b"A" * 8)},
    "a dtype that reaches outside": {"w_mean_square_0": array(OUTSIDE, (1,))},
    "an array of objects": {"w_mean_square_0": np.array([None, 1])},
    "an array without data": {"w_mean_square_0": Reduced(np._core.multiarray._reconstruct, (np.ndarray, (9,), b"b"))},
    "an array of 10^12 elements": {"w_mean_square_0": Reduced(np.ndarray, ((10**12,),))},
    "a shape of 10^12 elements": {"w_mean_square_0": array("f4", shape=(10**12,))},
    "a shape that overflows": {"w_mean_square_0": array("f4", shape=(2**70, 0))},
    "a negative shape": {"w_mean_square_0": array("f4", shape=(-1, -2))},
    "an unknown dtype": {"w_mean_square_0": array(",")},
    "a state of another length": {"w_mean_square_0": array("f4", state=(1, 2))},
    "an unknown codec": {"w_mean_square_0": Reduced(__import__("_codecs").encode, ("x", "rot13"))},
    "a key that takes for ever to hash": Reduced(OrderedDict, ([[shared(), 1]],)),
    "a tree that takes for ever to search": {"a": [shared()], "b": 1},
    "names are a number": {"w_mean_square_0": np.ones(2), "StructuredToParameterName@@": 7},
}
RAW = {
    "memo.pdopt": b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".",
    "bytes.pdopt": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "objects.pdopt": b"\x80\x02" + b"]" * 3_000_000 + b".",
    "deep.pdopt": b"\x80\x02" + b"(" * 100_000 + b".",
    "text.msgpack": b"hello",
    "empty.msgpack": b"",
    "nested.msgpack": b"\x91" * 100_000,
    "lists.msgpack": b"\xdd" + struct.pack(">I", 900_000) + b"\x91\x90" * 900_000,
    "map.msgpack": b"\xdf" + struct.pack(">I", 2**31),
    "legacy.pt": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02]q\x00.\x80\x02]X\x01.",
    "legacy_version.pt": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02K\x07.",
    "own.safetensors": struct.pack("<Q", 40) + b'{"a":{"dtype":"F32","shape":[9],"data_of',
}
DTYPES = (",", "(3,", "f4,f4", "O", "V9", "U3", "M8[s]", "", "x" * 1000)


def flax_file(dtype, shape=(2,), data=b"\0" * 8):
    body = msgpack.packb((shape, dtype, data), use_bin_type=True)
    return msgpack.packb({"0": {"nu": {"w": msgpack.ExtType(1, body)}}, "1": {}, "2": {}})


def weights(path, change):
    """Write a Keras weights file, changed by `change(file)`."""
    with h5py.File(path, "w") as file:
        group = file.create_group("optimizer/vars")
        group.attrs["name"] = "rmsprop"
        for i, value in enumerate((np.int64(3), np.float32(0.1), np.ones(2, "f4"))):
            group[str(i)] = value
        change(file, group)
    return path


def replaced(name, make):
    def change(file, group):
        del group[name]
        make(group, name)

    return change


def virtual(group, name):
    layout = h5py.VirtualLayout((6,), "f4")
    layout[:] = h5py.VirtualSource(__file__, "x", (6,))
    group.create_virtual_dataset(name, layout)


HDF5 = {
    "data of another file": replaced(
        "2", lambda group, name: group.create_dataset(name, (2,), "f4", external=[(__file__, 0, 8)])
    ),
    "a link to another file": replaced(
        "2", lambda group, name: group.__setitem__(name, h5py.ExternalLink(__file__, "x"))
    ),
    "a link within": replaced("2", lambda group, name: group.__setitem__(name, h5py.SoftLink("/optimizer/vars/1"))),
    "virtual data": replaced("2", virtual),
    "a slot that is a group": replaced("2", lambda group, name: group.create_group(name)),
    "more declared than stored": replaced("2", lambda group, name: group.create_dataset(name, (2**32,), "f4")),
    "compressed zeros": replaced(
        "2", lambda group, name: group.create_dataset(name, data=np.zeros(2**24, "f4"), compression="gzip")
    ),
    "text": replaced("2", lambda group, name: group.__setitem__(name, ["a", "b"])),
    "a step of NaN": replaced("0", lambda group, name: group.__setitem__(name, np.float32("nan"))),
    "a group that holds itself": lambda file, group: group.__setitem__("self", group),
    "a rule that is text": lambda file, group: group.__setitem__("rule", np.frombuffer(b"{{{", np.uint8)),
}


def named(names, training="{}"):
    """Add what the older .h5 keeps: the arrays' names, and the configuration."""

    def change(file, group):
        file.create_group("optimizer_weights").attrs["weight_names"] = names
        file.attrs["training_config"] = training

    return change


OLDER = {
    "names that are numbers": named([1, 2]),
    "names of nothing": named(["rmsprop/w_velocity"]),
    "a configuration of brackets": named(["rmsprop/w_velocity"], "[" * 60_000),
    "a configuration that is a list": named(["rmsprop/w_velocity"], "[]"),
    "a configuration of another type": named(["rmsprop/w_velocity"], '{"optimizer_config": {"config": 7}}'),
    "an array for the group": lambda file, group: file.create_dataset("optimizer_weights", data=[1.0]),
}
OPTIMIZER = {"module": "keras.optimizers", "class_name": "RMSprop", "config": {}}
NUMBERS = {"learning_rate": 0.1, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False}
PLAIN = json.dumps({"compile_config": {"optimizer": {**OPTIMIZER, "config": NUMBERS}}})
CONFIGS = {
    "text": json.dumps("x"),
    "brackets": "[" * 100_000,
    "a number": json.dumps({"compile_config": 7}),
    "an optimizer that is text": json.dumps({"compile_config": {"optimizer": "rmsprop"}}),
    "options that are text": json.dumps({"compile_config": {"optimizer": {**OPTIMIZER, "config": "x"}}}),
    "momentum that is text": json.dumps({"compile_config": {"optimizer": {**OPTIMIZER, "config": {"momentum": "x"}}}}),
    "more than a configuration": " " * 5_000_000,
}


def keras_file(path, config, inner):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config)
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", inner)
    return path


def put(folder, name, data):
    (folder / name).write_bytes(data)
    return folder / name


def saved(folder, tree):
    torch.save(tree, folder / "a.pt")
    return folder / "a.pt"


def fifo(folder):
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


def linked(folder):
    (folder / "linked.jsonl").symlink_to("/dev/zero")
    return folder / "linked.jsonl"


def inner(folder, change=lambda file, group: None):
    return weights(folder / "a.weights.h5", change).read_bytes()


def versioned(folder):
    archive = bytearray((RECORDED / "timm.pt").read_bytes())
    archive[archive.rfind(b"PK\x01\x02") + 6] = 99
    return put(folder, "a.pt", archive)


FORMATS = ("torch", "keras3", "tensorflow1", "optax", "paddle", "rmsprop", "tf-keras", "bitsandbytes")
CASES = {
    **{f"torch: {name}": lambda folder, tree=tree: [saved(folder, tree)] for name, tree in TORCH.items()},
    **{
        f"paddle: {name}": lambda folder, tree=tree: [put(folder, "a.pdopt", pickle.dumps(tree, 4))]
        for name, tree in PADDLE.items()
    },
    **{name: lambda folder, name=name, data=data: [put(folder, name, data)] for name, data in RAW.items()},
    **{
        f"flax: dtype {dtype[:9]!r}": lambda folder, dtype=dtype: [put(folder, "a.msgpack", flax_file(dtype))]
        for dtype in DTYPES
    },
    **{
        f"HDF5: {name}": lambda folder, change=change: [keras_file(folder / "a.keras", PLAIN, inner(folder, change))]
        for name, change in HDF5.items()
    },
    **{
        f"older HDF5: {name}": lambda folder, change=change: [weights(folder / "a.h5", change)]
        for name, change in OLDER.items()
    },
    **{
        f"config: {name}": lambda folder, config=config: [keras_file(folder / "a.keras", config, inner(folder))]
        for name, config in CONFIGS.items()
    },
    "a zip bomb": lambda folder: [keras_file(folder / "a.keras", "{}", b"\0" * 2**27)],
    "a zip of another version": lambda folder: [versioned(folder)],
    **{f"a FIFO as {name}": lambda folder, name=name: [fifo(folder), "--from", name] for name in FORMATS},
    "a FIFO": lambda folder: [fifo(folder)],
    "a device": lambda folder: ["/dev/zero", "--from", "paddle"],
    "a link to a device": lambda folder: [linked(folder)],
    "no name": lambda folder: [""],
    "a name of 300 letters": lambda folder: ["x" * 300],
    "a name with a NUL": lambda folder: ["x\0y"],
}


def test_the_same_file_without_a_change_is_read(tmp_path):
    file = keras_file(tmp_path / "a.keras", PLAIN, inner(tmp_path))
    assert checkpoints.read(file).step == 3
    assert checkpoints.read(saved(tmp_path, torch_file())).step == 3
    assert checkpoints.read(put(tmp_path, "a.msgpack", flax_file("float32"))).parameters[0].shape == (2,)
    assert checkpoints.read(put(tmp_path, "a.pdopt", pickle.dumps({"w_mean_square_0": array("f4")}, 4))).step is None


@pytest.mark.parametrize("command", ["convert", "doctor"])
@pytest.mark.parametrize("name", CASES)
def test_a_crafted_file_is_a_clear_error(name, command, tmp_path):
    words = [command, *map(str, CASES[name](tmp_path))]
    result = CliRunner(env={"COLUMNS": "1000", "NO_COLOR": "1"}).invoke(app, words)
    assert result.exit_code == 2, result.output or result.exception
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
