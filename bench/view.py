"""How long an animation takes: 200 frames of 640x480, two runs with their squares, for each format.

The promise: a GIF in less than 2 seconds on 2 cores. The yardstick is Pillow alone writing 200 frames that are already
drawn, each with a palette of its own, as a plain `save` does.

    python -m bench.view [--quick]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rmsprop import landscapes, minimize, view
from rmsprop.errors import MissingDependency
from rmsprop.view.animation import Camera
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
    rounds = 1 if quick else 5
    found: dict[str, Any] = {"frames": 200, "size": [640, 480], "promise_s": PROMISE_S}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("gif",) if quick else ("gif", "apng", "webp", "mp4"):
            path = Path(folder) / f"run.{suffix}"
            try:
                seconds = min(_timed(lambda: view.animate(runs, path, function=f, theme="dark")) for _ in range(rounds))
            except MissingDependency:
                continue
            found[suffix] = {"seconds": round(seconds, 3), "bytes": path.stat().st_size}
        if not quick:
            scene = Scene.of(runs, function=f)
            camera = Camera(Picture(scene, theme="dark", size=(640, 480), moving=True))
            drawn = [Image.fromarray(pixels).convert("RGB") for pixels in camera.film(scene.times(200))]
            path = Path(folder) / "plain.gif"
            seconds = _timed(lambda: drawn[0].save(path, save_all=True, append_images=drawn[1:], duration=20))
            found["plain_save_of_drawn_frames"] = {"seconds": round(seconds, 3), "bytes": path.stat().st_size}
    return found


def _timed(call: Any) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


if __name__ == "__main__":
    print(json.dumps(main("--quick" in sys.argv[1:]), indent=2))
