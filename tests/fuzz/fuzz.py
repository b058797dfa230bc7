"""Fuzz what reads the files and texts of others: `make fuzz`.

    python tests/fuzz/fuzz.py SECONDS [TARGET...]

libFuzzer (atheris) mutates the inputs in `corpus/TARGET` for SECONDS in all, and writes what fails there, as a case for
ever. 0 seconds: only the corpus is tried, which needs no atheris.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

CORPUS = Path(__file__).parent / "corpus"
ROOT = Path(__file__).parents[2]
NEW = ROOT / "build" / "fuzz"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
LIMITS = [
    "-print_final_stats=1",
    "-timeout=60",
    "-rss_limit_mb=6000",
    "-max_len=100000",
    "-len_control=0",
    "-report_slow_units=60",
]
ODD = [None, True, "", "x", "\ud800", [], {}, [[1]], 0, -1, 0.5, 7, 2**63, 10**400, math.inf, math.nan]


def prepare_expression() -> Callable[[bytes], Any]:
    from rmsprop import expression

    def try_expression(data: bytes) -> None:
        parsed = expression.parse(data.decode(errors="replace"))
        assert expression.parse(str(parsed)) == parsed, "the normal form is not read as the same function"
        point = [0.5, -1.5][: len(parsed.variables)]
        parsed(point), parsed.grad(point)

    return try_expression


def prepare_rule() -> Callable[[bytes], Any]:
    from rmsprop import Rule

    def try_rule(data: bytes) -> None:
        rule = Rule.from_json(data.decode(errors="replace"))
        assert Rule.from_json(rule.to_json()) == rule

    return try_rule


def prepare_names() -> Callable[[bytes], Any]:
    from rmsprop.checkpoints import _names

    def try_names(data: bytes) -> None:
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(data)
            _names.parse_names(file.name)

    return try_names


def prepare_reader(
    format: str | None = None, *, package: str | None = None, packed: bool = False
) -> Callable[[bytes], Any]:
    """A checkpoint is a file; if it is `packed`, the zip archive of a folder `ckpt` or of files `ckpt.*`.

    If the reader uses a C `package`, it runs in a fork, as `convert` runs it in a process of its own: it may crash, or
    be stopped after 3 seconds.
    """
    from rmsprop import checkpoints
    from rmsprop.checkpoints import _convert

    def read_here(reader: Any, path: Path, options: Any, *, size: int) -> Any:
        return reader.read(path, options)

    mock.patch.object(_convert, "read_safely", read_here).start()
    if package:
        importlib.import_module(package)

    def try_reader(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "ckpt")
            if packed:
                try:
                    zipfile.ZipFile(io.BytesIO(data)).extractall(folder)
                except Exception:  # not the reader's
                    return
            else:
                path.write_bytes(data)
            checkpoints.read(path, format)

    return (lambda data: run_in_fork(try_reader, data)) if package else try_reader


def run_in_fork(function: Callable[[bytes], Any], data: bytes) -> None:
    child = os.fork()
    if not child:
        for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(3)
        os._exit(0 if accept(function, data) else 99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        print(f"the child ended by {signal.Signals(-code).name}: convert would say so", file=sys.stderr)
    assert code != 99, "failed in the child"


def accept(function: Callable[[bytes], Any], data: bytes) -> bool:
    """Whether an input is read, or rejected by an error of this library."""
    from rmsprop.errors import RMSpropError

    try:
        function(data)
    except RMSpropError:
        pass
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return False
    return True


TARGETS: dict[str, Callable[[], Callable[[bytes], Any]]] = {
    "expression": prepare_expression,
    "rule": prepare_rule,
    "names": prepare_names,
    "rmsprop": lambda: prepare_reader("rmsprop"),
    "paddle": lambda: prepare_reader("paddle"),
    "flax": lambda: prepare_reader("optax"),
    "torch": prepare_reader,
    "keras": lambda: prepare_reader(package="h5py"),
    "tensorflow": lambda: prepare_reader(package="tensorflow", packed=True),
    "orbax": lambda: prepare_reader(package="orbax.checkpoint", packed=True),
}


def mutate(seeds: list[bytes], data: bytes, limit: int, seed: int) -> bytes:
    """Change the bytes, one value of JSON, or one member of a zip archive, whose checksum is then right.

    A fork reports no coverage, so that libFuzzer keeps nothing: then, and sometimes, a seed is changed.
    """
    import atheris

    rng = random.Random(seed)
    if len(data) < 2 or rng.random() < 0.1:
        data = rng.choice(seeds)
    with contextlib.suppress(Exception):
        archive = zipfile.ZipFile(io.BytesIO(data))
        contents = {name: archive.read(name) for name in archive.namelist()}
        if rng.random() < 0.8:
            chosen = rng.choice([name for name, content in contents.items() if content])
            contents[chosen] = atheris.Mutate(contents[chosen], 2 * len(contents[chosen]) + 64)
            target = io.BytesIO()
            with zipfile.ZipFile(target, "w") as changed:
                for name, content in contents.items():
                    changed.writestr(name, content)
            return target.getvalue()
    with contextlib.suppress(Exception):
        first = min(data.index(bracket) for bracket in (b"[", b"{") if bracket in data)
        places = list(list_places(tree := json.loads(data[first:])))
        if rng.random() < 0.5:
            container, key = rng.choice(places)
            container[key] = rng.choice(ODD)
            return data[:first] + json.dumps(tree).encode()
    return atheris.Mutate(data, limit)


def list_places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container in a tree of JSON with each of its keys."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from list_places(value)


def run(name: str, seconds: float) -> None:
    folder = CORPUS / name
    if not seconds:
        function = TARGETS[name]()
        failed = [path for path in sorted(folder.iterdir()) if not accept(function, path.read_bytes())]
        sys.exit(f"{name}: failed: {failed}" if failed else 0)
    import atheris

    # The finder of an editable install comes last: atheris cannot instrument what it loads.
    sys.meta_path.sort(key=lambda finder: "Redirecting" in type(finder).__name__)
    sys.path.insert(0, str(ROOT / "src"))
    with atheris.instrument_imports(include=["rmsprop"]):
        function = TARGETS[name]()

    def test(data: bytes) -> None:
        assert accept(function, data), "see the error above"

    seeds = [path.read_bytes() for path in folder.iterdir()]
    (NEW / name).mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={max(1, round(seconds))}", f"-artifact_prefix={folder}/", *LIMITS]
    atheris.Setup([name, *options, str(NEW / name), str(folder)], test, custom_mutator=partial(mutate, seeds))
    atheris.Fuzz()


def main(seconds: str, *names: str) -> None:
    if len(names) == 1:
        run(names[0], float(seconds))
        return
    names = names or tuple(TARGETS)
    share = str(float(seconds) / len(names))
    codes = {name: subprocess.run([sys.executable, __file__, share, name], check=False).returncode for name in names}
    sys.exit(f"failed: {', '.join(name for name, code in codes.items() if code)}" if any(codes.values()) else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
