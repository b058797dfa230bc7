"""The table of layouts, and which of their modules reads a file."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from rmsprop._files import check_regular
from rmsprop.checkpoints import keras, native, optax, paddle, pytorch, tensorflow
from rmsprop.checkpoints._pickles import is_pickle
from rmsprop.checkpoints._snapshot import get_dialect
from rmsprop.dialects import Dialect
from rmsprop.errors import FileError, InputError

__all__ = ["FORMATS", "LAYOUTS", "Layout", "find_layout", "find_reader"]


class Layout(NamedTuple):
    """What a layout can hold, whatever the model.

    Attributes:
        format: Its name, that of a dialect.
        reader: The module that reads and writes it: see `_shared.py`.
        positional: Whether it has positions instead of names.
        alone: Whether it can be written without a checkpoint to copy.
    """

    format: str
    reader: ModuleType
    positional: bool = False
    alone: bool = False

    @property
    def dialect(self) -> Dialect:
        """What else is known of its framework: the buffer, mean_sq before the first step."""
        return get_dialect(self.format)

    @property
    def dense(self) -> bool:
        """Whether each parameter must have each statistic, also before its first step."""
        return self.reader is not pytorch

    @property
    def complex(self) -> bool:
        """Whether it can hold complex statistics."""
        return self.reader is pytorch and self.format != "bitsandbytes"


LAYOUTS = {
    layout.format: layout
    for layout in (
        Layout("torch", pytorch, positional=True, alone=True),
        Layout("timm", pytorch, positional=True),
        Layout("sb3", pytorch, positional=True, alone=True),
        Layout("bitsandbytes", pytorch, positional=True),
        Layout("keras3", keras, positional=True),
        Layout("tf-keras", keras, positional=True),
        Layout("tf-keras-legacy", keras),
        Layout("tensorflow1", tensorflow, alone=True),
        Layout("optax", optax, alone=True),
        Layout("paddle", paddle, alone=True),
        Layout("rmsprop", native),
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
