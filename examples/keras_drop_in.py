"""A Keras model compiled with this RMSprop in TensorFlow 1's dialect, saved, loaded, and trained on.

KERAS_BACKEND=tensorflow, jax or torch in the environment chooses the backend.
"""

import tempfile
from pathlib import Path

import keras
import numpy as np

import rmsprop.keras


def main():
    keras.utils.set_random_seed(0)
    inputs = np.random.default_rng(0).normal(size=(256, 3)).astype("float32")
    targets = np.sin(inputs.sum(axis=1, keepdims=True))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(1)])
    model.compile(optimizer=rmsprop.keras.RMSprop(0.01, momentum=0.5, dialect="tensorflow1"), loss="mse")
    before = model.fit(inputs, targets, epochs=5, verbose=0).history["loss"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        model = keras.saving.load_model(path)
    after = model.fit(inputs, targets, epochs=5, verbose=0).history["loss"]
    print(model.optimizer.rule)
    print(f"loss {before[0]:.4f} -> {before[-1]:.4f}, saved and loaded, -> {after[-1]:.4f}")
    return before + after


if __name__ == "__main__":
    main()
