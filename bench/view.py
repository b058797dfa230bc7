"""How long an animation takes: 200 frames of 640x480, two runs with their squares, for each format.

The promise: a GIF in less than 2 seconds on 2 cores. The yardstick is Pillow alone writing 200 frames that are already
drawn, each with a palette of its own, as a plain `save` does.

    python -m bench.view [--quick]
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rmsprop import landscapes, minimize, view
from rmsprop.errors import MissingDependency
from rmsprop.view.figure import FrameRenderer
from rmsprop.view.picture import Picture
from rmsprop.view.scene import Scene

PROMISE_S = 2.0


def main(quick: bool = False) -> dict[str, Any]:
    from PIL import Image

    f = landscapes.get("ravine")
    runs = [
        minimize(f, list(f.start), jac=f.gradient, lr=0.2, steps=60, optimizer=name, trace=True).trace
        for name in (None, "adagrad")
    ]
    rounds = 3 if quick else 5
    found: dict[str, Any] = {"frames": 200, "size": [640, 480], "promise_s": PROMISE_S}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("gif",) if quick else ("gif", "apng", "webp", "mp4"):
            path = Path(folder) / f"run.{suffix}"
            try:
                draw = functools.partial(view.animate, runs, path, function=f, theme="dark")
                times = [_time_call(draw) for _ in range(rounds)]
            except MissingDependency:
                continue
            wall, processor = (min(column) for column in zip(*times, strict=True))
            found[suffix] = {"seconds": wall, "processor_seconds": processor, "bytes": path.stat().st_size}
            asked = f"at most {PROMISE_S:g} s asked" if suffix == "gif" else ""
            print(f"{suffix}: 200 frames of 640x480 in {wall:.2f} s, {path.stat().st_size / 1e3:.0f} kB {asked}")
        if not quick:
            scene = Scene.of(runs, function=f)
            renderer = FrameRenderer(Picture(scene, theme="dark", size=(640, 480), moving=True))
            drawn = [Image.fromarray(pixels).convert("RGB") for pixels in map(renderer.render, scene.times(200))]
            path = Path(folder) / "plain.gif"
            wall, _ = _time_call(lambda: drawn[0].save(path, save_all=True, append_images=drawn[1:], duration=20))
            found["plain_save_of_drawn_frames"] = {"seconds": wall, "bytes": path.stat().st_size}
    return found


def _time_call(call: Callable[[], Any]) -> tuple[float, float]:
    """Return seconds by the clock and of the processor."""
    begin, worked = time.perf_counter(), time.process_time()
    call()
    return round(time.perf_counter() - begin, 3), round(time.process_time() - worked, 3)


if __name__ == "__main__":
    print(json.dumps(main("--quick" in sys.argv[1:]), indent=2))
