"""Read, write and convert checkpoints of any layout."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rmsprop._files import check_regular, write_atomically, write_files_atomically, write_folder_atomically
from rmsprop.checkpoints import optax, pytorch, tensorflow
from rmsprop.checkpoints._bounds import raise_file_errors, shorten
from rmsprop.checkpoints._child import read_safely
from rmsprop.checkpoints._fit import fit, list_notes
from rmsprop.checkpoints._layouts import FORMATS, Layout, find_layout, find_reader
from rmsprop.checkpoints._names import parse_names
from rmsprop.checkpoints._shared import Options
from rmsprop.checkpoints._snapshot import Snapshot, check_snapshot
from rmsprop.errors import FileError, InputError, RMSpropError, StateError
from rmsprop.rule import BufferMode

__all__ = ["Report", "convert", "read", "write"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a conversion.

    Attributes:
        source: What was read.
        written: What was written, with the target's names and conventions.
        path: The file, folder or prefix.
        notes: Sentences for the user about what differs.
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
        format: One of `FORMATS`. Default: recognized by the file's bytes.
        slots: What the arrays of a file without names are; an error asks for it if it is needed.
        schedule: Whether the learning rate of a `.weights.h5` is a schedule; an error asks for it if it is needed.
        at: Which optimizer, in a checkpoint with several: "optimizer_g".
        finite: Whether NaN and infinity raise, because no run can continue from them; False reads them.

    Returns:
        The optimizer's statistics.

    Raises:
        FileError: A file that is missing, truncated, corrupt or of no known layout.
        StateError: The state of another optimizer, NaN, or statistics that RMSprop cannot have.
        InputError: An unknown format, a file that needs one of the options, or an option that it does not need.
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
    options = _collect_options(slots=slots, schedule=schedule, at=at)
    snapshot = _read(Path(path), format, options, finite=finite)
    _check_all_used(options, path, snapshot.format)
    return snapshot


def _collect_options(**given: Any) -> Options:
    return {name: value for name, value in given.items() if value is not None}


def _check_all_used(options: Options, path: str | Path, format: str) -> None:
    """Raise for an option that a layout left in `options`, as it has no use for it."""
    for name in options:
        raise InputError(f"{name}: {path}, in the layout of {format}, does not need this option; leave it out")


def _read(path: Path, format: str | None, options: Options, *, finite: bool = True) -> Snapshot:
    """Read a checkpoint, and take the options that its layout uses out of `options`."""
    layout = None if format is None else find_layout(format)
    with raise_file_errors(path, f"{format} checkpoint" if format else "checkpoint"):
        reader = find_reader(path, format)
        if reader is tensorflow:
            files = tensorflow.get_files(tensorflow.get_prefix(path))
        elif path.is_dir():
            files = [Path(folder, file) for folder, _, names in os.walk(path) for file in names]
        else:
            files = [path]
        size = sum(map(check_regular, files))
        snapshot = read_safely(reader, path, options, size=size)
        if layout is not None and snapshot.format != layout.format:
            if {snapshot.format, layout.format} != {"torch", "sb3"}:  # which an old torch shares
                raise FileError(f"{path}: in the layout of {snapshot.format}, not of {format}")
            snapshot = dataclasses.replace(snapshot, format=layout.format, init=layout.dialect.rule.init_value)
        return check_snapshot(snapshot, str(path), finite=finite)


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
        path: What to write, atomically.
        format: One of `FORMATS`.
        like: A checkpoint of the run that is to go on; `path` becomes a copy with the optimizer's state replaced. Read.
        force: Whether to replace an existing `path`.
        slots: Of `like`, as in `read`.
        schedule: Of `like`, as in `read`; for optax without `like`: whether to write a count for a schedule.
        at: Of `like`, as in `read`.

    Raises:
        InputError: `path` exists and `force` is not set; an unknown format; `like` is needed.
        StateError: The parameters are not those of `like`, in its order.
        OSError: The disk is full or the folder is not writable; an existing `path` is unchanged.
    """
    _find_target(format, like)
    options = _collect_options(slots=slots, schedule=schedule, at=at)
    if like is not None:
        model = _read_like(like, format, options)
        if [p.name for p in snapshot.parameters] != [p.name for p in model.parameters]:
            raise StateError(f"snapshot: its parameters are not those of {like}, in this order; use convert")
    _write(snapshot, Path(path), format, None if like is None else Path(like), options, force=force)


def _write(snapshot: Snapshot, path: Path, format: str, like: Path | None, options: Options, *, force: bool) -> None:
    check_snapshot(snapshot, "what is to be written")
    writer = find_layout(format).reader if like is None else find_reader(like, format)
    prefix = tensorflow.get_prefix(path)
    if not force:
        for file in tensorflow.get_files(prefix) if writer is tensorflow else [path]:
            if os.path.lexists(file):
                raise InputError(f"{file}: exists; nothing was written (--force replaces it)")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist")
    output: contextlib.AbstractContextManager[Path]
    if writer is tensorflow:
        output = write_files_atomically(prefix, tensorflow.SUFFIXES)
    elif writer is optax and (like.is_dir() if like is not None else path.suffix != ".msgpack"):
        if path.is_dir() and any(path.iterdir()) and not optax.is_orbax_alone(path):
            raise InputError(f"{path}: a folder that holds more than an Orbax checkpoint; --force does not replace it")
        output = write_folder_atomically(path)
    else:
        output = write_atomically(path)
    try:
        with output as temporary:
            writer.write(temporary, snapshot, format, like, options)
            _check_all_used(options, path, format)
    except RMSpropError:
        raise
    except Exception as error:  # each package has its own error for a full disk
        reason = getattr(error, "strerror", None) or shorten(error)
        raise OSError(f"{path}: could not be written ({reason}); what was there before is unchanged") from error


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
    """Convert an optimizer's state from one framework's checkpoint to another's. Weights are not converted.

    Args:
        source: The checkpoint to convert. Read.
        target: What to write, atomically.
        to: One of `FORMATS`. Default: the layout of `like`.
        from_: The layout of `source`. Default: recognized by its bytes.
        like: A checkpoint of the run that is to go on, from before its first step or after; `target` becomes a copy
            with the optimizer's state replaced. It decides names, order, shapes, centering and momentum. Read.
        names: Which parameter is which: a dict (or a JSON file of one) from the source's name to the target's name or
            position, to None (left out), or to {"to": name, "transpose": True or the axes}; or a list of the source's
            names in the target's order. Nothing is transposed unless the map says so.
        lr: The learning rate of the last steps, needed if the momentum buffer has lr inside in only one of the layouts.
        step: Steps done, if the source does not say.
        buffer: What the target's momentum buffer sums, without `like`. "none" leaves the source's buffer out; a target
            that always has one starts it at zero.
        force: Whether to replace an existing `target`.
        slots: Of the source, as in `read`.
        schedule: Of the source, as in `read`; for optax without `like` of the target.
        at: Of the source, as in `read`.
        like_slots: Of `like`, as in `read`.
        like_at: Of `like`, as in `read`.

    Returns:
        What was read, what was written, and what the user should know about it.

    Raises:
        FileError: A file that is missing, truncated, corrupt or of no known layout.
        StateError: What cannot be converted, by name. Nothing was written.
        InputError: An option that is missing or does not fit. Nothing was written.
        OSError: The disk is full or the folder is not writable; an existing `target` is unchanged.

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
    if to is not None:
        find_layout(to)
    options = _collect_options(slots=slots, schedule=schedule, at=at)
    found = _read(Path(source), from_, options)
    like_options = _collect_options(slots=like_slots, at=like_at)
    if to == "optax" and like is None and schedule is not None:
        like_options["schedule"] = schedule
        options.pop("schedule", None)
    _check_all_used(options, source, found.format)
    model = None
    if like is not None:
        model = _read_like(like, to, like_options)
        to = model.format if to is None else to
        if model.format != to and {model.format, to} != {"torch", "sb3"}:
            raise InputError(f"like: {like} is in the layout of {model.format}, not of {to}")
    elif to is None:
        raise InputError(f"to: which layout? One of {', '.join(FORMATS)}; or --like a checkpoint of the target")
    layout, path, entries = _find_target(to, like), Path(target), parse_names(names)
    fitted = fit(found, layout, like=model, names=entries, lr=lr, step=step, buffer=buffer)
    notes = [*fitted.notes, *list_notes(found, fitted, to, model)]
    _write(fitted, path, to, None if like is None else Path(like), like_options, force=force)
    return Report(source=found, written=fitted, path=path, notes=tuple(dict.fromkeys(notes)))


def _find_target(format: str, like: str | Path | None) -> Layout:
    """Return the layout to write; raise if it needs a `like`."""
    layout = find_layout(format)
    if like is None and not layout.alone:
        raise InputError(
            f"like: {format} stores the optimizer's state beside things that only the framework can make: give --like "
            "a checkpoint of the run that is to go on"
        )
    return layout


def _read_like(like: str | Path, to: str | None, options: Options) -> Snapshot:
    unused = dict(options)
    try:
        model = _read(Path(like), None if to in pytorch.FAMILY else to, unused)
        _check_all_used(unused, like, model.format)
    except (StateError, InputError) as error:
        raise type(error)(f"like: {error}") from error
    return model
