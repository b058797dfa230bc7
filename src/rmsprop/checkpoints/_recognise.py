"""Which layout a file has, from its own bytes; its name decides only between two readings of the same bytes."""

from __future__ import annotations

from pathlib import Path

from rmsprop._files import check_regular
from rmsprop.checkpoints import _archive, optax, tensorflow
from rmsprop.errors import FileError

__all__ = ["recognised"]

_TORCH_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def recognised(path: Path) -> str:
    """Return the family of a checkpoint: "torch", "keras3", "tensorflow", "optax", "paddle" or "rmsprop".

    Raises:
        FileError: There is nothing, or nothing that is known.
    """
    prefix = tensorflow.prefix_of(path)
    if all(file.is_file() for file in tensorflow.files_of(prefix)):
        return "tensorflow"
    if (prefix.parent / f"{prefix.name}.index").is_file():
        raise FileError(f"{prefix}: a TensorFlow checkpoint without its .data-00000-of-00001 (or in several shards)")
    if path.is_dir():
        return _folder(path)
    check_regular(path)
    with open(path, "rb") as file:
        head = file.read(64)
    if head[:2] == b"PK":
        names = _archive.members(path)
        if "model.weights.h5" in names:
            return "keras3"
        if "policy.optimizer.pth" in names or any(name.endswith("data.pkl") for name in names):
            return "torch"
        raise FileError(f"{path}: a zip archive that is neither Keras's nor torch's nor stable-baselines3's")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras3"
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "rmsprop"
    if path.suffix == ".msgpack":
        return "optax"
    if head.startswith(_TORCH_BEFORE_1_6):
        return "torch"
    if head[:1] == b"\x80" and len(head) > 1 and head[1] in (2, 3, 4, 5) and path.suffix == ".pdopt":
        return "paddle"
    if head[:1] == b"\x80" and len(head) > 1 and head[1] in (2, 3, 4, 5):
        raise FileError(f"{path}: a pickle, which is never run; if it is PaddlePaddle's, say --from paddle")
    raise FileError(f"{path}: not a checkpoint that is known, or truncated at its start; if it is, say which: --from")


def _folder(path: Path) -> str:
    if optax.is_orbax(path) or ((path / "default").is_dir() and optax.is_orbax(path / "default")):
        return "optax"
    steps = sorted((int(p.name) for p in path.iterdir() if p.is_dir() and p.name.isdigit()), reverse=True)
    if steps and ((path / str(steps[0]) / "default").is_dir() or optax.is_orbax(path / str(steps[0]))):
        raise FileError(f"{path}: an Orbax CheckpointManager's folder; give one step of it: {path / str(steps[0])}")
    if (path / "checkpoint").is_file():
        raise FileError(f"{path}: a folder of TensorFlow checkpoints; give the prefix of one: {path}/name-123")
    if any((path / name).exists() for name in ("saved_model.pb", "keras_metadata.pb")):
        raise FileError(f"{path}: a SavedModel; give its {path}/variables/variables")
    raise FileError(f"{path}: a folder that is no Orbax checkpoint")
