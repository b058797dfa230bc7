"""Read, write, convert: the layouts as one table, and what every writer has in common."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rmsprop._files import check_regular, replacing
from rmsprop.checkpoints import _names, keras, native, optax, paddle, pytorch, tensorflow
from rmsprop.checkpoints._archive import raise_file_errors, short
from rmsprop.checkpoints._child import ROOM, read_in_child
from rmsprop.checkpoints._fit import Target, fit
from rmsprop.checkpoints._recognise import recognised
from rmsprop.checkpoints._remarks import remarks
from rmsprop.checkpoints._replacing import replacing_files, replacing_folder
from rmsprop.checkpoints._snapshot import Snapshot, checked
from rmsprop.errors import FileError, InputError, RMSpropError, StateError
from rmsprop.rule import BufferMode

__all__ = ["FORMATS", "Report", "convert", "read", "write"]

_TARGETS = (
    Target(format="torch", buffer="unit", positional=True, dense=False, complex=True),
    Target(format="timm", buffer="lr", positional=True, dense=False, complex=True, init=1.0),
    Target(format="sb3", buffer="unit", positional=True, dense=False, complex=True, init=1.0),
    Target(format="bitsandbytes", buffer="none", positional=True, dense=False, centered=False),
    Target(format="keras3", buffer="lr", positional=True),
    Target(format="tf-keras", buffer="lr", positional=True),
    Target(format="tf-keras-legacy", buffer="lr"),
    Target(format="tensorflow1", buffer="lr", always_buffer=True, init=1.0),
    Target(format="optax", buffer="lr"),
    Target(format="paddle", buffer="lr", always_buffer=True),
    Target(format="rmsprop", buffer="none"),
)
_BY_NAME = {target.format: target for target in _TARGETS}
FORMATS = tuple(_BY_NAME)
"""The layouts, by the names of `rmsprop.dialects`; "rmsprop" is this library's own file."""

_ALONE = ("torch", "sb3", "tensorflow1", "optax", "paddle")
"""What can be written without a checkpoint of the target to copy."""
_FAMILY = {
    **dict.fromkeys(pytorch.FAMILY, "torch"),
    **dict.fromkeys(("tensorflow1", "tensorflow"), "tensorflow"),
    **dict.fromkeys(("tf-keras", "tf-keras-legacy"), "keras3"),
}


class Family(NamedTuple):
    """Layouts with one reader and writer, the library that these load, and the bytes of data that it needs."""

    read: Callable[..., Snapshot]
    write: Callable[..., None]
    library: str = ""
    room: int = ROOM


_STACKS = 2**25 * (os.cpu_count() or 1)
"""Bytes for the stacks of threads, some for each core."""
FAMILIES = {
    "torch": Family(pytorch.read, pytorch.write, "torch", 2**31),
    "keras3": Family(keras.read, keras.write, "h5py"),
    "tensorflow": Family(tensorflow.read, tensorflow.write, "tensorflow", 2**31 + _STACKS),
    "optax": Family(optax.read, optax.write, "orbax.checkpoint", 2**32 + _STACKS),
    "paddle": Family(paddle.read, paddle.write),
    "rmsprop": Family(native.read, native.write),
}


def _select_options(function: Callable[..., Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the options that a function has."""
    return {name: value for name, value in told.items() if name in inspect.signature(function).parameters}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What a conversion found and did.

    Attributes:
        source: What was read.
        written: What was written: under the target's names, with its conventions.
        path: Where.
        notes: What a user should know, as sentences.
    """

    source: Snapshot
    written: Snapshot
    path: Path
    notes: tuple[str, ...]


def read(
    path: str | Path,
    format: str | None = None,
    *,
    slots: Sequence[str] | None = None,
    schedule: bool | None = None,
    at: str | None = None,
    finite: bool = True,
) -> Snapshot:
    """Read an optimizer's state from a checkpoint of any known layout.

    Args:
        path: A file, an Orbax folder, or the prefix of a TensorFlow checkpoint. Read; nothing in it is executed.
        format: One of `FORMATS`. Default: what the file's bytes say.
        slots: What the arrays of a file without names are; a refusal asks for it where it is needed.
        schedule: Whether the learning rate of a `.weights.h5` is a schedule; asked for likewise.
        at: Which optimizer, in a checkpoint with several: "optimizer_g".
        finite: Refuse NaN and infinity, with which no run goes on; False reads them, to look at.

    Returns:
        The statistics in this library's words.

    Raises:
        FileError: Nothing there, truncated, corrupt, or of no known layout.
        StateError: The state of another optimizer, with NaN, or that cannot be RMSprop's.
        InputError: An unknown format, or a file that leaves open what an option says.
        MissingDependency: The package that reads this layout is not installed.

    Example:
        >>> import pathlib, tempfile, numpy as np, rmsprop
        >>> from rmsprop import checkpoints
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.safetensors"
        >>> optimizer = rmsprop.RMSprop({"w": np.ones(3)}, lr=0.1)
        >>> optimizer.step({"w": np.ones(3)})
        >>> optimizer.save(path)
        >>> snapshot = checkpoints.read(path)
        >>> snapshot.format, snapshot.step, snapshot.parameters[0].name
        ('rmsprop', 1, 'w')
    """
    path = Path(path)
    _known(format)
    with raise_file_errors(path, f"{format} checkpoint" if format else "checkpoint"):
        snapshot = _read(path, format, {"slots": slots, "schedule": schedule, "at": at})
        if format is not None and snapshot.format != format:
            if {snapshot.format, format} != {"torch", "sb3"}:  # which an old torch shares
                raise FileError(f"{path}: in the layout of {snapshot.format}, not of {format}")
            snapshot = dataclasses.replace(snapshot, format=format, init=_BY_NAME[format].init)
        return checked(snapshot, str(path), finite=finite)


def _known(format: str | None) -> None:
    if format is not None and format not in FORMATS:
        raise InputError(f"format: {format!r}, expected one of {', '.join(FORMATS)}")


def _read(path: Path, format: str | None, told: Mapping[str, Any]) -> Snapshot:
    name = recognised(path) if format is None else _family(path, format)
    family = FAMILIES[name]
    if name == "tensorflow":
        files = tensorflow.files_of(tensorflow.prefix_of(path))
    elif path.is_dir():
        files = [Path(folder, file) for folder, _, inside in os.walk(path) for file in inside]
    else:
        files = [path]
    size = sum(map(check_regular, files))
    told = _select_options(family.read, told)
    # What a program has loaded it trusts with its own files; HDF5 spins on some that are corrupt.
    if name == "keras3" or (family.library and family.library not in sys.modules):
        return read_in_child(name, path, told, size=size, room=family.room)
    return family.read(path, **told)


def _family(path: Path, format: str) -> str:
    """Return who reads `format`; tf_keras writes TensorFlow checkpoints and HDF5 files."""
    if format.startswith("tf-keras") and not path.is_file():
        return "tensorflow"
    return _FAMILY.get(format, format)


def write(
    snapshot: Snapshot,
    path: str | Path,
    format: str,
    *,
    like: str | Path | None = None,
    force: bool = False,
    slots: Sequence[str] | None = None,
    schedule: bool | None = None,
    at: str | None = None,
) -> None:
    """Write a snapshot that has the target's names and conventions already, as `convert` makes it.

    Args:
        snapshot: The state. Read.
        path: What to write, whole or not at all.
        format: One of `FORMATS`.
        like: A checkpoint of the run that is to go on: it is copied, with the optimizer's state replaced. Read.
        force: Replace what stands at `path`.
        slots: Of `like`, as in `read`.
        schedule: Of `like`, as in `read`; for optax without `like`: keep a count for a schedule.
        at: Of `like`, as in `read`.

    Raises:
        InputError: Something stands at `path` and `force` is not set; an unknown format; `like` is needed.
        StateError: The parameters are not those of `like`, in its order.
        OSError: The disk is full or the folder cannot be written; what stood at `path` is unchanged.
    """
    _known(format)
    told = {"slots": slots, "schedule": schedule, "at": at}
    if like is not None:
        model = _model(like, format, told)
        if [p.name for p in snapshot.parameters] != [p.name for p in model.parameters]:
            raise StateError(f"snapshot: its parameters are not those of {like}, in this order: convert does that")
    _write(snapshot, Path(path), format, like, force, told)


def _write(
    snapshot: Snapshot, path: Path, format: str, like: str | Path | None, force: bool, told: Mapping[str, Any]
) -> None:
    model = None if like is None else Path(like)
    if model is None and format not in _ALONE:
        raise InputError(
            f"like: {format} keeps the optimizer's state beside things that only it can make: give --like a checkpoint "
            "of the run that is to go on, saved there before its first step or after"
        )
    checked(snapshot, "what is to be written")
    tf_files = tensorflow.files_of(tensorflow.prefix_of(path))
    as_tf = format == "tensorflow1" or (format.startswith("tf-keras") and model is not None and not model.is_file())
    if not force:
        for file in tf_files if as_tf else [path]:
            if os.path.lexists(file):
                raise InputError(f"{file}: exists; nothing was written (--force replaces it)")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist")
    folder = format == "optax" and not (model.is_file() if model is not None else path.suffix == ".msgpack")
    if folder and path.is_dir() and any(path.iterdir()) and not optax.is_orbax_alone(path):
        raise InputError(f"{path}: a folder that holds more than an Orbax checkpoint; --force does not replace those")
    write = tensorflow.write if as_tf else FAMILIES[_FAMILY.get(format, format)].write
    told = {**told, "format": format, "like": model, "msgpack": not folder}
    try:
        with (
            replacing_files(tensorflow.prefix_of(path), tensorflow.SUFFIXES)
            if as_tf
            else replacing_folder(path)
            if folder
            else replacing(path)
        ) as temporary:
            write(temporary, snapshot, **_select_options(write, told))
    except RMSpropError:
        raise
    except Exception as error:  # each library has its own for a full disk
        reason = getattr(error, "strerror", None) or short(error)
        raise OSError(f"{path}: could not be written ({reason}); what stood there is unchanged") from error


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: str | None = None,
    from_: str | None = None,
    like: str | Path | None = None,
    names: str | Path | Mapping[str, Any] | Sequence[str] | None = None,
    lr: float | None = None,
    step: int | None = None,
    buffer: BufferMode | None = None,
    force: bool = False,
    slots: Sequence[str] | None = None,
    schedule: bool | None = None,
    at: str | None = None,
    like_slots: Sequence[str] | None = None,
    like_at: str | None = None,
) -> Report:
    """Move an optimizer's state from one framework's checkpoint into another's. Weights are not moved.

    Args:
        source: The checkpoint to convert. Read.
        target: What to write, whole or not at all.
        to: One of `FORMATS`. Default: the layout of `like`.
        from_: The layout of `source`. Default: what its bytes say.
        like: A checkpoint of the run that is to go on, from before its first step or after; `target` is a copy with the
            optimizer's state replaced. It decides names, order, shapes, centering and momentum. Read.
        names: Which parameter is which: a dict (or a JSON file of one) from the source's name to the target's name or
            position, to None (left out), or to {"to": name, "transpose": True}; or a list of the source's names in
            the target's order. Nothing is transposed without being told.
        lr: The learning rate of the last steps, where the momentum buffer changes its kind.
        step: Steps done, where the source does not say.
        buffer: The kind of the target's momentum buffer, without `like`; "none" leaves it out.
        force: Replace what stands at `target`.
        slots: Of the source, as in `read`.
        schedule: Of the source, as in `read`; for optax without `like` of the target.
        at: Of the source, as in `read`.
        like_slots: Of `like`, as in `read`.
        like_at: Of `like`, as in `read`.

    Returns:
        What was found, what was written, and what to know about it.

    Raises:
        FileError: A file that is missing, truncated, corrupt or of no known layout.
        StateError: What cannot be converted, by name. Nothing was written.
        InputError: An option that is missing or does not fit. Nothing was written.
        OSError: The disk is full or the folder cannot be written; what stood at `target` is unchanged.

    Example:
        >>> import pathlib, tempfile, torch
        >>> from rmsprop import checkpoints
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = torch.optim.RMSprop([weight])
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> torch.save(optimizer.state_dict(), folder / "run.pt")
        >>> report = checkpoints.convert(folder / "run.pt", folder / "run.msgpack", to="optax", names={"0": "w"})
        >>> checkpoints.read(folder / "run.msgpack").parameters[0].mean_sq
        array([0.01, 0.01], dtype=float32)
    """
    _known(to)
    found = read(source, from_, slots=slots, schedule=schedule, at=at)
    told: dict[str, Any] = {"slots": like_slots, "schedule": None, "at": like_at}
    model = None
    if like is not None:
        model = _model(like, to, told)
        if to is None:
            to = model.format
        elif model.format != to and {model.format, to} != {"torch", "sb3"}:
            raise InputError(f"like: {like} is in the layout of {model.format}, not of {to}")
    elif to is None:
        raise InputError(f"to: which layout? One of {', '.join(FORMATS)}; or --like a checkpoint of the target")
    elif to == "optax":
        told["schedule"] = schedule
    entries = _names.names_of(names)
    plan = _BY_NAME[to]
    if model is None and to not in _ALONE:
        _write(found, Path(target), to, None, force, told)  # refuses, and says why
    fitted = fit(found, plan, like=model, names=entries, lr=lr, step=step, buffer=buffer)
    notes = [*fitted.notes, *remarks(found, fitted, to, model)]
    _write(fitted, Path(target), to, like, force, told)
    return Report(source=found, written=fitted, path=Path(target), notes=tuple(dict.fromkeys(notes)))


def _model(like: str | Path, to: str | None, told: Mapping[str, Any]) -> Snapshot:
    try:
        return read(like, None if to in pytorch.FAMILY else to, **told)
    except StateError as error:
        raise type(error)(f"like: {error}") from error
