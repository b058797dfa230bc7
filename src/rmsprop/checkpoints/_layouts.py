"""The table of layouts, and which of their modules reads a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType

from rmsprop._files import check_regular
from rmsprop.checkpoints import keras, native, optax, paddle, pytorch, tensorflow
from rmsprop.checkpoints._pickles import is_pickle
from rmsprop.errors import FileError, InputError
from rmsprop.rule import BufferMode

__all__ = ["FORMATS", "LAYOUTS", "Layout", "find_layout", "find_reader"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """What a layout can hold, whatever the model.

    Attributes:
        format: Its name, that of a dialect.
        reader: The module that reads and writes it: see `_shared.py`.
        buffer: What its momentum buffer sums.
        always_buffer: Whether it has a momentum buffer also without momentum.
        positional: Whether it has positions instead of names.
        dense: Whether each parameter must have each statistic, also before its first step.
        complex: Whether it can hold complex statistics.
        centered: Whether its rule can be centered.
        alone: Whether it can be written without a checkpoint to copy.
        init: mean_sq before the first step.
    """

    format: str
    reader: ModuleType
    buffer: BufferMode
    always_buffer: bool = False
    positional: bool = False
    dense: bool = True
    complex: bool = False
    centered: bool = True
    alone: bool = False
    init: float = 0.0


_TORCH = Layout(format="torch", reader=pytorch, buffer="unit", positional=True, dense=False, complex=True, alone=True)
LAYOUTS = {
    layout.format: layout
    for layout in (
        _TORCH,
        dataclasses.replace(_TORCH, format="timm", buffer="lr", alone=False, init=1.0),
        dataclasses.replace(_TORCH, format="sb3", init=1.0),
        dataclasses.replace(_TORCH, format="bitsandbytes", buffer="none", complex=False, centered=False, alone=False),
        Layout(format="keras3", reader=keras, buffer="lr", positional=True),
        Layout(format="tf-keras", reader=keras, buffer="lr", positional=True),
        Layout(format="tf-keras-legacy", reader=keras, buffer="lr"),
        Layout(format="tensorflow1", reader=tensorflow, buffer="lr", always_buffer=True, alone=True, init=1.0),
        Layout(format="optax", reader=optax, buffer="lr", alone=True),
        Layout(format="paddle", reader=paddle, buffer="lr", always_buffer=True, alone=True),
        Layout(format="rmsprop", reader=native, buffer="none"),
    )
}
FORMATS = tuple(LAYOUTS)
"""The layouts, by the names of `rmsprop.dialects`; "rmsprop" is this library's own file."""

_READERS = (optax, tensorflow, keras, pytorch, native, paddle)
"""In the order in which they are asked: folders and prefixes before the bytes of files."""


def find_layout(format: str) -> Layout:
    """Return the layout with a name."""
    if format not in LAYOUTS:
        raise InputError(f"format: {format!r}, expected one of {', '.join(FORMATS)}")
    return LAYOUTS[format]


def find_reader(path: Path, format: str | None) -> ModuleType:
    """Return the module that reads a checkpoint: of its format if that is given, else the one that recognizes it."""
    if format is not None:
        # tf_keras writes TensorFlow checkpoints and HDF5 files.
        is_prefix = format.startswith("tf-keras") and not path.is_file()
        return tensorflow if is_prefix else find_layout(format).reader
    head = b""
    if path.is_file():
        with open(path, "rb") as file:
            head = file.read(64)
    for reader in _READERS:
        if reader.recognize(path, head):
            return reader
    if path.is_dir():
        raise FileError(f"{path}: a folder that is not an Orbax checkpoint")
    check_regular(path)
    if head[:2] == b"PK":
        raise FileError(f"{path}: a zip archive that is not of Keras, torch or stable-baselines3")
    if is_pickle(head):
        raise FileError(f"{path}: a pickle, which is never run; if it is PaddlePaddle's, give --from paddle")
    raise FileError(f"{path}: not a known checkpoint, or truncated at its start; --from names its layout")
