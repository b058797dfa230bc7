"""Fixtures of the Keras suite: float64 unless a test asks for float32."""

import keras
import pytest


@pytest.fixture(name="float64", autouse=True)
def float64_fixture():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.fixture(name="float32")
def float32_fixture(float64):
    keras.config.set_floatx("float32")
