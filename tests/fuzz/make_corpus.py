"""Write the seeds of the corpus: one small checkpoint of each layout, and texts."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import tf_keras
import torch

import rmsprop
from rmsprop import checkpoints
from rmsprop.dialects import dialect

CORPUS = Path(__file__).parent / "corpus"
RECORDED = Path(__file__).parents[1] / "checkpoints" / "recorded"
TEXTS = {
    "expression": [
        "0.1x^2 + 2y^2",
        "-(3sin(x) - abs(x))^2^y / relu(1e-3 x)",
        "1e9/x - sigmoid(.5)",
        "2xy + exp(-pi*y) ** e",
    ],
    "rule": [rmsprop.Rule().to_json(), dialect("graves2013").to_json()],
    "names": ['["net/w", "net/b"]', '{"0": "w", "1": null, "2": {"to": 3, "transpose": [1, 0]}}'],
}


def write(target: str, name: str, data: bytes) -> None:
    (CORPUS / target).mkdir(parents=True, exist_ok=True)
    (CORPUS / target / name).write_bytes(data)


def pack(folder: Path) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return target.getvalue()


def save_model(library: object, optimizer: object, path: Path) -> None:
    model = library.Sequential([library.layers.Input((2,)), library.layers.Dense(1)])
    model.compile(optimizer, "mse")
    model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)
    (model.save_weights if path.name == "ckpt" or ".weights" in path.name else model.save)(path)


def main() -> None:
    for target, texts in TEXTS.items():
        for i, text in enumerate(texts):
            write(target, f"seed{i}", text.encode())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weight = torch.nn.Parameter(torch.ones(2))
        optimizer = torch.optim.RMSprop([weight], centered=True, momentum=0.9)
        weight.sum().backward()
        optimizer.step()
        torch.save(optimizer.state_dict(), folder / "run.pt")
        torch.save(optimizer.state_dict(), folder / "legacy.pt", _use_new_zipfile_serialization=False)
        own = rmsprop.RMSprop([np.ones(2)], 0.1, dialect="graves2013")
        own.step([np.ones(2)])
        own.save(folder / "rmsprop")
        for to, file in (
            ("optax", "flax.msgpack"),
            ("optax", "o/ckpt"),
            ("tensorflow1", "t/ckpt"),
            ("paddle", "paddle"),
        ):
            (folder / file).parent.mkdir(exist_ok=True)
            checkpoints.convert(folder / "run.pt", folder / file, to=to, names={"0": "w"}, lr=0.1)
        save_model(keras, keras.optimizers.RMSprop(momentum=0.9, centered=True), folder / "model.keras")
        save_model(keras, keras.optimizers.RMSprop(), folder / "model.weights.h5")
        save_model(tf_keras, tf_keras.optimizers.RMSprop(), folder / "model.h5")
        (folder / "k").mkdir()
        save_model(tf_keras, tf_keras.optimizers.legacy.RMSprop(), folder / "k" / "ckpt")
        (folder / "k" / "checkpoint").unlink()
        files = {"torch": ("run.pt", "legacy.pt"), "rmsprop": ("rmsprop",), "paddle": ("paddle",)}
        files |= {"flax": ("flax.msgpack",), "keras": ("model.keras", "model.weights.h5", "model.h5")}
        for target, names in files.items():
            for file in names:
                write(target, f"seed-{file}", (folder / file).read_bytes())
        for target, part in (("orbax", "o"), ("tensorflow", "t"), ("tensorflow", "k")):
            write(target, f"seed-{part}", pack(folder / part))
    for target, file in (("torch", "timm.pt"), ("torch", "bitsandbytes8.pt"), ("paddle", "paddle_centered.pdopt")):
        shutil.copy(RECORDED / file, CORPUS / target)


if __name__ == "__main__":
    main()
