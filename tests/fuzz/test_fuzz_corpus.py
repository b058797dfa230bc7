"""Promise: every input that ever failed under `make fuzz`, and every seed, is read or rejected by a clear error."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
PACKAGES = {"torch": "torch", "flax": "msgpack", "keras": "h5py", "tensorflow": "tensorflow"}
PACKAGES |= {"orbax": "orbax"}


@pytest.mark.slow
@pytest.mark.parametrize("target", sorted(path.name for path in (FOLDER / "corpus").iterdir()))
def test_the_corpus_is_read_or_rejected(target):
    package = PACKAGES.get(target, "rmsprop")
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    command = [sys.executable, str(FOLDER / "fuzz.py"), "0", target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
