"""Folders for programs that are killed and starved."""

import contextlib
import os
import subprocess

import pytest
from chaos_programs import Starter


@pytest.fixture
def starter(tmp_path):
    return Starter(tmp_path / "with a space\nand lines")


@pytest.fixture
def mount(tmp_path):
    """Return a function: `mount(options)` makes a Starter in a new tmpfs, which only root can mount."""
    with contextlib.ExitStack() as stack:

        def run(options):
            folder = tmp_path / "mounted"
            folder.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
            if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
                pytest.skip("only root can mount a tmpfs, and not in every container")
            stack.callback(subprocess.run, ["umount", str(folder)], check=True)
            starter = Starter(folder)
            if options == "full":
                with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as filler:
                    while filler.write(bytes(4096)):
                        pass
            elif options == "ro":
                subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
            return starter

        yield run
