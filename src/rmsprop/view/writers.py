"""Frames into files: GIF, APNG, WebP by Pillow, MP4 by imageio-ffmpeg.

A GIF has one palette of 256 colours for all its frames, chosen from a few of them laid together: that takes a tenth of
the time of a palette per frame, and no colour flickers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import InputError, MissingDependency

__all__ = ["FORMATS", "check_timing", "durations", "write"]

Pixels = NDArray[np.uint8]

FORMATS = {".gif": "GIF", ".png": "APNG", ".apng": "APNG", ".webp": "WebP", ".mp4": "MP4"}
COLORS = 255
SAMPLES = 5
GIF_FASTEST = 50.0
"""Viewers slow a GIF with a delay below 2 hundredths of a second down to 10 frames per second."""


def durations(frames: int, fps: float, *, unit: int) -> list[int]:
    """Return how long each frame shows, in milliseconds, as multiples of `unit`; the sum is right to one unit.

    Example:
        >>> durations(3, 30.0, unit=10)
        [30, 40, 30]
    """
    ends = [round((i + 1) * 1000.0 / fps / unit) for i in range(frames)]
    return [unit * (end - start) for start, end in zip([0, *ends[:-1]], ends)]


def check_timing(suffix: str, *, fps: float) -> None:
    """Refuse a rate that the format cannot hold."""
    if suffix == ".gif" and fps > GIF_FASTEST:
        raise InputError(f"fps={fps:g}, expected at most {GIF_FASTEST:g} for a GIF: viewers slow down anything faster")


def write(
    path: Path, film: Callable[[], Iterator[Pixels]], samples: Sequence[Pixels], *, count: int, fps: float, suffix: str
) -> None:
    """Write all frames.

    Args:
        path: Where, whatever its suffix.
        film: Gives `count` arrays (height, width, 4), uint8, RGBA, from the first one, whenever it is called; each may
            be overwritten after it was handed out.
        samples: A few of them, from which a GIF takes its colours.
        count: How many there are.
        fps: Frames per second.
        suffix: One of `FORMATS`.

    Raises:
        MissingDependency: Pillow, or imageio-ffmpeg for an MP4.
    """
    if suffix == ".mp4":
        _mp4(path, film(), fps=fps)
        return
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency.of("Pillow", extra="lab", purpose="animations") from error
    options: dict[str, Any] = {"save_all": True, "loop": 0, "duration": durations(count, fps, unit=1)}
    palette = None
    if suffix == ".gif":
        palette = Image.new("P", (1, 1))
        palette.putpalette(_palette(samples))
        # "optimize" leaves out of each frame what stands in the one before.
        options |= {"format": "GIF", "duration": durations(count, fps, unit=10), "optimize": True, "disposal": 1}
    else:
        options |= {"format": "WEBP", "quality": 90, "method": 2} if suffix == ".webp" else {"format": "PNG"}

    class Rest:
        """All frames but the first, one at a time; Pillow asks twice for those of a PNG."""

        def __iter__(self) -> Iterator[Any]:
            images = _images(film(), palette)
            next(images)
            return images

    next(_images(film(), palette)).save(path, append_images=Rest(), **options)


def _images(frames: Iterator[Pixels], palette: Any) -> Iterator[Any]:
    from PIL import Image

    for pixels in frames:
        image = Image.fromarray(pixels).convert("RGB")
        yield image if palette is None else image.quantize(palette=palette, dither=Image.Dither.NONE)


def _palette(samples: Sequence[Pixels]) -> list[int]:
    """Return 255 colours, flat: the commonest exactly as they are, so that grounds stay true, and mixed ones.

    One place is left free: a GIF marks with it what does not change.
    """
    from PIL import Image

    # Every second pixel: no line of these pictures is thinner than two.
    sheet = np.concatenate([sample[::2, ::2, :3] for sample in samples]).reshape(-1, 3)
    packed = sheet.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    colors, counts = np.unique(packed, return_counts=True)
    common = colors[np.argsort(-counts, kind="stable")][: 2 * COLORS]
    kept = _apart([(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in common], COLORS // 2)
    rest = sheet[~np.isin(packed, common[: COLORS // 2])]
    if len(rest):
        image = Image.fromarray(np.ascontiguousarray(rest[None]))
        mixed = image.quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).getpalette() or []
        kept = _apart([*kept, *zip(mixed[::3], mixed[1::3], mixed[2::3])], COLORS)
    return [part for color in kept for part in color]


def _apart(colors: Sequence[tuple[int, int, int]], most: int) -> list[tuple[int, int, int]]:
    """The first `most` colours that are not nearly one of those before: Pillow looks colours up to six bits only."""
    kept: list[tuple[int, int, int]] = []
    for color in colors:
        if len(kept) < most and all(max(abs(a - b) for a, b in zip(color, other)) > 5 for other in kept):
            kept.append(color)
    return kept


def _mp4(path: Path, frames: Iterator[Pixels], *, fps: float) -> None:
    try:
        import imageio_ffmpeg  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingDependency.of("imageio-ffmpeg", extra="video", purpose="MP4 files") from error
    first = next(frames)
    height, width, _ = first.shape
    if width % 2 or height % 2:
        raise InputError(f"size={(width, height)}, expected even numbers for an MP4: its colours have half the pixels")
    # The temporary file has no suffix to tell the container by.
    options = ["-f", "mp4", "-crf", "18", "-preset", "veryfast", "-movflags", "+faststart"]
    encoder = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, codec="libx264", pix_fmt_out="yuv420p", macro_block_size=2,
        output_params=options, quality=None, ffmpeg_log_level="error",
    )  # fmt: skip
    encoder.send(None)
    try:
        encoder.send(np.ascontiguousarray(first[..., :3]))
        for pixels in frames:
            encoder.send(np.ascontiguousarray(pixels[..., :3]))
    finally:
        encoder.close()
