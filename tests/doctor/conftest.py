"""Fixtures of the doctor's tests."""

from __future__ import annotations

import pytest

from rmsprop import doctor
from rmsprop.doctor import read


@pytest.fixture
def quiet():
    """No warnings at construction: the long starts of a test are for the doctor to find."""
    doctor.quiet()
    yield
    doctor.quiet(False)


@pytest.fixture
def steps_in():
    """The steps that have a line in a folder."""
    return lambda folder, run=None: sorted({sample.step for sample in read(folder, run=run)})
