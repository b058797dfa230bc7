"""Fixtures of the doctor's tests."""

from __future__ import annotations

import pytest

from rmsprop import doctor
from rmsprop.doctor import read


@pytest.fixture(autouse=True)
def use_one_thread():
    """On arrays this small a second thread only waits, long where the machine has other work."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
