"""Write frames to files: GIF, APNG and WebP by Pillow, MP4 by imageio-ffmpeg.

A GIF has one palette of 256 colors for all its frames, chosen from a few of them together: that is 10x faster than a
palette per frame, and no color flickers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import InputError, MissingDependency

__all__ = ["FORMATS", "check_timing", "compute_durations", "write_frames"]

Pixels = NDArray[np.uint8]
Color = tuple[int, int, int]

FORMATS = {".gif": "GIF", ".png": "PNG", ".apng": "PNG", ".webp": "WEBP", ".mp4": "MP4"}
COLORS = 255
SAMPLES = 5
GIF_FASTEST = 50.0
"""Viewers slow a GIF with a delay below 2 hundredths of a second down to 10 frames per second."""


def compute_durations(frames: int, fps: float, *, unit: int) -> list[int]:
    """Return how long each frame shows, in milliseconds, as multiples of `unit`; the sum is right to one unit.

    Example:
        >>> compute_durations(3, 30.0, unit=10)
        [30, 40, 30]
    """
    ends = [round(i * 1000.0 / fps / unit) for i in range(frames + 1)]
    return [unit * (end - start) for start, end in itertools.pairwise(ends)]


def check_timing(suffix: str, *, fps: float) -> None:
    """Raise InputError for a rate that the format cannot store."""
    if suffix == ".gif" and fps > GIF_FASTEST:
        raise InputError(f"fps={fps:g}, expected at most {GIF_FASTEST:g} for a GIF: viewers slow down anything faster")


def write_frames(
    file: Path | IO[bytes], render: Callable[[float], Pixels], times: Sequence[float], *, fps: float, suffix: str
) -> None:
    """Write a frame for each time.

    Args:
        file: Where, whatever its suffix; for an MP4 a path.
        render: Returns the frame of a time, (height, width, 4), uint8, RGBA; each call may overwrite the last result.
        times: At least one.
        fps: Frames per second.
        suffix: One of `FORMATS`.

    Raises:
        MissingDependency: Pillow, or imageio-ffmpeg for an MP4.
    """
    if suffix == ".mp4":
        _write_mp4(file, map(render, times), fps=fps)
        return
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency.of("Pillow", extra="lab", purpose="animations") from error
    is_gif, palette = suffix == ".gif", None
    options: dict[str, Any] = {"duration": compute_durations(len(times), fps, unit=10 if is_gif else 1)}
    if is_gif:
        some = np.linspace(0, len(times) - 1, min(len(times), SAMPLES)).astype(int)
        palette = Image.new("P", (1, 1))
        palette.putpalette(_choose_palette([render(times[i]).copy() for i in some]))
        # "optimize" leaves out of each frame what did not change.
        options |= {"optimize": True, "disposal": 1}
    elif suffix == ".webp":
        options |= {"quality": 90, "method": 2}

    def convert(time: float) -> Any:
        image = Image.fromarray(render(time)).convert("RGB")
        return image if palette is None else image.quantize(palette=palette, dither=Image.Dither.NONE)

    class Rest:
        """All frames but the first, one at a time; Pillow iterates twice over those of a PNG."""

        def __iter__(self) -> Iterator[Any]:
            return map(convert, times[1:])

    first = convert(times[0])
    first.save(file, FORMATS[suffix], save_all=True, loop=0, append_images=Rest(), **options)


def _choose_palette(samples: Sequence[Pixels]) -> list[int]:
    """Return 255 colors, flat: the most common ones exactly, so that backgrounds stay true, and mixed ones.

    One place is left free: a GIF marks with it what does not change.
    """
    from PIL import Image

    # Every second pixel: no line of these pictures is thinner than two.
    sheet = np.concatenate([sample[::2, ::2, :3] for sample in samples]).reshape(-1, 3)
    packed = sheet.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    colors, counts = np.unique(packed, return_counts=True)
    common = colors[np.argsort(-counts, kind="stable")][: 2 * COLORS]
    chosen = _select_distinct([(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in common], COLORS // 2)
    rest = sheet[~np.isin(packed, common[: COLORS // 2])]
    if len(rest):
        image = Image.fromarray(np.ascontiguousarray(rest[None]))
        mixed = image.quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).getpalette() or []
        chosen = _select_distinct([*chosen, *zip(mixed[::3], mixed[1::3], mixed[2::3])], COLORS)
    return [part for color in chosen for part in color]


def _select_distinct(colors: Sequence[Color], most: int) -> list[Color]:
    """Return the first `most` colors that differ enough: Pillow looks colors up to six bits only."""
    chosen: list[Color] = []
    for color in colors:
        if len(chosen) < most and all(max(abs(a - b) for a, b in zip(color, other)) > 5 for other in chosen):
            chosen.append(color)
    return chosen


def _write_mp4(path: Path | IO[bytes], frames: Iterator[Pixels], *, fps: float) -> None:
    try:
        import imageio_ffmpeg  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingDependency.of("imageio-ffmpeg", extra="video", purpose="MP4 files") from error
    first = next(frames)
    height, width, _ = first.shape
    if width % 2 or height % 2:
        raise InputError(f"size={(width, height)}, expected even numbers for an MP4: its colors have half the pixels")
    # The temporary file has no suffix from which the container could be known.
    options = ["-f", "mp4", "-crf", "18", "-preset", "veryfast", "-movflags", "+faststart"]
    encoder = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, codec="libx264", pix_fmt_out="yuv420p", macro_block_size=2,
        output_params=options, quality=None, ffmpeg_log_level="error",
    )  # fmt: skip
    encoder.send(None)
    try:
        for pixels in itertools.chain([first], frames):
            encoder.send(np.ascontiguousarray(pixels[..., :3]))
    finally:
        encoder.close()
