"""Processes for the distributed tests; without torch the folder is skipped."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header():
    return "torch is not installed: tests/pytorch is skipped" if importlib.util.find_spec("torch") is None else None


@pytest.fixture(scope="module")
def two():
    """Run a job on each of two ranks."""
    yield from start_ranks(2)


@pytest.fixture(scope="module")
def four():
    yield from start_ranks(4)


def start_ranks(size):
    from distributed_helpers import Ranks

    ranks = Ranks(size)
    yield ranks
    ranks.stop()
