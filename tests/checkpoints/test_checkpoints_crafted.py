"""Promise: a crafted file, whatever it holds, is an error of one line in `convert` and in `doctor`."""

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

from checkpointing import RECORDED, save_torch
from rmsprop import checkpoints
from rmsprop.cli import app

torch = pytest.importorskip("torch", reason="torch is not installed")
h5py = pytest.importorskip("h5py", reason="h5py is not installed")
msgpack = pytest.importorskip("msgpack", reason="msgpack is not installed")

GROUP = {"params": [0], "lr": 0.1, "alpha": 0.9, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0, "centered": False}


class Call:
    """Pickles as a call of any function and a state of any kind."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


def make_torch_tree(*, group=None, state=None, **more):
    """Return the tree of a torch checkpoint with some of its entries replaced."""
    entry = {"step": torch.tensor(3.0), "square_avg": torch.ones(2)}
    return {"param_groups": [{**GROUP, **(group or {})}], "state": {0: {**entry, **(state or {})}}, **more}


def make_cycle():
    tree = {"model": [1]}
    tree["self"] = tree
    return tree


def make_deep_tuple(levels=64):
    """Return a tuple whose hash takes 2^levels steps, as does a search through it."""
    node = ()
    for _ in range(levels):
        node = (node, node)
    return node


TORCH = {
    **{f"alpha is {name}": make_torch_tree(group={"alpha": value}) for name, value in (("text", "x"), ("a list", [1]))},
    "lr is a dict": make_torch_tree(group={"lr": {}}),
    "lr is too large": make_torch_tree(group={"lr": 10**400}),
    "params is a number": make_torch_tree(group={"params": 7}),
    "params are lists": make_torch_tree(group={"params": [[0]]}),
    "switches is text": make_torch_tree(group={"switches": "all"}),
    "switches are wrong": make_torch_tree(group={"switches": {"eps_mode": 3, "centered": []}}),
    "param_names is short": make_torch_tree(group={"param_names": []}),
    "param_names is a number": make_torch_tree(group={"param_names": 3}),
    "betas is a number": make_torch_tree(group={"betas": 3}),
    "groups is a dict": {"param_groups": {}, "state": {}},
    "state is a list": {"param_groups": [GROUP], "state": [1]},
    "an entry is a number": {"param_groups": [GROUP], "state": {0: 7}},
    "step is text": make_torch_tree(state={"step": "x"}),
    "step is NaN": make_torch_tree(state={"step": float("nan")}),
    "step is negative": make_torch_tree(state={"step": -3}),
    "step is too large": make_torch_tree(state={"step": 10**400}),
    "square_avg is a list": make_torch_tree(state={"square_avg": [1.0]}),
    "square_avg is expanded": make_torch_tree(state={"square_avg": torch.ones(1).expand(10**10)}),
    "square_avg is sparse": make_torch_tree(state={"square_avg": torch.ones(2).to_sparse()}),
    "square_avg is text": make_torch_tree(state={"square_avg": "x"}),
    "codes are text": {"param_groups": [GROUP], "state": {0: {"step": 1, "square_avg_8bit": "x"}}},
    "state1 is text": {"param_groups": [GROUP], "state": {0: {"step": 1, "state1": "x"}}},
    "the wrapped state is a number": {
        "param_groups": [GROUP],
        "state": {0: {"step": 1, "__bnb_optimizer_quant_state__": 7}},
    },
    "a dict holds itself": make_cycle(),
    "it asks for memory": make_torch_tree(extra=Call(bytearray, (10**10,))),
}


def make_array(dtype, shape=(2,), data=b"\0" * 8, state=None):
    """Return what pickles as an array whose dtype and state are the file's."""
    kind = dtype if isinstance(dtype, Call) else Call(np.dtype, (dtype, False, True))
    rebuild = np._core.multiarray._reconstruct
    return Call(rebuild, (np.ndarray, (0,), b"b"), state or (1, shape, kind, False, data))


OBJECT = Call(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0))
OUTSIDE = Call(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("f4"), 2**28)}, 8, 1, 0))
PADDLE = {
    "a dtype with a pointer": {"w_mean_square_0": make_array(OBJECT, (1,), b"A" * 8)},
    "a dtype that reaches outside": {"w_mean_square_0": make_array(OUTSIDE, (1,))},
    "an array of objects": {"w_mean_square_0": np.array([None, 1])},
    "an array without data": {"w_mean_square_0": Call(np._core.multiarray._reconstruct, (np.ndarray, (9,), b"b"))},
    "an array of 10^12 elements": {"w_mean_square_0": Call(np.ndarray, ((10**12,),))},
    "a shape of 10^12 elements": {"w_mean_square_0": make_array("f4", shape=(10**12,))},
    "a shape that overflows": {"w_mean_square_0": make_array("f4", shape=(2**70, 0))},
    "a negative shape": {"w_mean_square_0": make_array("f4", shape=(-1, -2))},
    "an unknown dtype": {"w_mean_square_0": make_array(",")},
    "a state of another length": {"w_mean_square_0": make_array("f4", state=(1, 2))},
    "an unknown codec": {"w_mean_square_0": Call(__import__("_codecs").encode, ("x", "rot13"))},
    "a key that takes for ever to hash": Call(OrderedDict, ([[make_deep_tuple(), 1]],)),
    "a tree that takes for ever to search": {"a": [make_deep_tuple()], "b": 1},
    "names are a number": {"w_mean_square_0": np.ones(2), "StructuredToParameterName@@": 7},
}
RAW = {
    "memo.pdopt": b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".",
    "bytes.pdopt": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "objects.pdopt": b"\x80\x02" + b"]" * 2_100_000 + b".",
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


def make_flax_file(dtype, shape=(2,), data=b"\0" * 8):
    body = msgpack.packb((shape, dtype, data), use_bin_type=True)
    return msgpack.packb({"0": {"nu": {"w": msgpack.ExtType(1, body)}}, "1": {}, "2": {}})


def write_weights(path, change):
    """Write a Keras weights file, changed by `change(file)`."""
    with h5py.File(path, "w") as file:
        group = file.create_group("optimizer/vars")
        group.attrs["name"] = "rmsprop"
        for i, value in enumerate((np.int64(3), np.float32(0.1), np.ones(2, "f4"))):
            group[str(i)] = value
        change(file, group)
    return path


def replace_item(name, make):
    def change(file, group):
        del group[name]
        make(group, name)

    return change


def add_virtual(group, name):
    layout = h5py.VirtualLayout((6,), "f4")
    layout[:] = h5py.VirtualSource(__file__, "x", (6,))
    group.create_virtual_dataset(name, layout)


HDF5 = {
    "data of another file": replace_item(
        "2", lambda group, name: group.create_dataset(name, (2,), "f4", external=[(__file__, 0, 8)])
    ),
    "a link to another file": replace_item(
        "2", lambda group, name: group.__setitem__(name, h5py.ExternalLink(__file__, "x"))
    ),
    "a link within": replace_item("2", lambda group, name: group.__setitem__(name, h5py.SoftLink("/optimizer/vars/1"))),
    "virtual data": replace_item("2", add_virtual),
    "a slot that is a group": replace_item("2", lambda group, name: group.create_group(name)),
    "more declared than stored": replace_item("2", lambda group, name: group.create_dataset(name, (2**32,), "f4")),
    "compressed zeros": replace_item(
        "2", lambda group, name: group.create_dataset(name, data=np.zeros(2**24, "f4"), compression="gzip")
    ),
    "text": replace_item("2", lambda group, name: group.__setitem__(name, ["a", "b"])),
    "a step of NaN": replace_item("0", lambda group, name: group.__setitem__(name, np.float32("nan"))),
    "a group that holds itself": lambda file, group: group.__setitem__("self", group),
    "a rule that is text": lambda file, group: group.__setitem__("rule", np.frombuffer(b"{{{", np.uint8)),
}


def add_names(names, training="{}"):
    """Add what the older .h5 keeps: the arrays' names, and the configuration."""

    def change(file, group):
        file.create_group("optimizer_weights").attrs["weight_names"] = names
        file.attrs["training_config"] = training

    return change


OLDER = {
    "names that are numbers": add_names([1, 2]),
    "names of nothing": add_names(["rmsprop/w_velocity"]),
    "a configuration of brackets": add_names(["rmsprop/w_velocity"], "[" * 60_000),
    "a configuration that is a list": add_names(["rmsprop/w_velocity"], "[]"),
    "a configuration of another type": add_names(["rmsprop/w_velocity"], '{"optimizer_config": {"config": 7}}'),
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


def write_keras(path, config, member):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", member)
    return path


def write(path, data):
    path.write_bytes(data)
    return path


def make_weights(folder, change=lambda file, group: None):
    return write_weights(folder / "a.weights.h5", change).read_bytes()


def make_fifo(folder, *words):
    os.mkfifo(folder / "fifo")
    return [folder / "fifo", *words]


def link_device(folder):
    (folder / "linked.jsonl").symlink_to("/dev/zero")
    return folder / "linked.jsonl"


def raise_version():
    archive = bytearray((RECORDED / "timm.pt").read_bytes())
    archive[archive.rfind(b"PK\x01\x02") + 6] = 99
    return archive


FORMATS = ("torch", "keras3", "tensorflow1", "optax", "paddle", "rmsprop", "tf-keras", "bitsandbytes")
OTHERS = {
    "a zip bomb": lambda folder: write_keras(folder / "a.keras", "{}", b"\0" * 2**27),
    "a zip of another version": lambda folder: write(folder / "a.pt", raise_version()),
    **{f"a FIFO as {name}": lambda folder, name=name: make_fifo(folder, "--from", name) for name in FORMATS},
    "a FIFO": make_fifo,
    "a device": lambda folder: ["/dev/zero", "--from", "paddle"],
    "a link to a device": link_device,
    "no name": lambda folder: "",
    "a name of 300 letters": lambda folder: "x" * 300,
    "a name with a NUL": lambda folder: "x\0y",
}
TABLES = (
    ("torch", TORCH, lambda folder, tree: save_torch(tree, folder / "a.pt")),
    ("paddle", PADDLE, lambda folder, tree: write(folder / "a.pdopt", pickle.dumps(tree, 4))),
    ("bytes", {name: (name, data) for name, data in RAW.items()}, lambda folder, x: write(folder / x[0], x[1])),
    ("flax", {x[:9]: x for x in DTYPES}, lambda folder, dtype: write(folder / "a.msgpack", make_flax_file(dtype))),
    ("HDF5", HDF5, lambda folder, edit: write_keras(folder / "a.keras", PLAIN, make_weights(folder, edit))),
    ("older HDF5", OLDER, lambda folder, change: write_weights(folder / "a.h5", change)),
    ("config", CONFIGS, lambda folder, config: write_keras(folder / "a.keras", config, make_weights(folder))),
    ("other", OTHERS, lambda folder, make: make(folder)),
)
SLOW = ("bytes: objects.pdopt", "bytes: lists.msgpack")
CASES = [
    pytest.param(make, content, id=f"{kind}: {name}", marks=[pytest.mark.slow] if f"{kind}: {name}" in SLOW else [])
    for kind, table, make in TABLES
    for name, content in table.items()
]


def test_the_same_files_without_a_change_are_read(tmp_path):
    files = (
        write_keras(tmp_path / "a.keras", PLAIN, make_weights(tmp_path)),
        save_torch(make_torch_tree(), tmp_path / "a.pt"),
        write(tmp_path / "a.msgpack", make_flax_file("float32")),
        write(tmp_path / "a.pdopt", pickle.dumps({"w_mean_square_0": make_array("f4")}, 4)),
    )
    assert [checkpoints.read(file).parameters[0].shape for file in files] == [(2,)] * 4


@pytest.mark.slow
@pytest.mark.parametrize("command", ["convert", "doctor"])
@pytest.mark.parametrize(("make", "content"), CASES)
def test_a_crafted_file_is_a_clear_error(make, content, command, tmp_path):
    made = make(tmp_path, content)
    words = [command, *map(str, made if isinstance(made, list) else [made])]
    result = CliRunner(env={"COLUMNS": "1000", "NO_COLOR": "1"}).invoke(app, words)
    assert result.exit_code == 2, result.output or result.exception
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
