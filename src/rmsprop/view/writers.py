"""Frames into files: GIF, APNG, WebP by Pillow, MP4 by imageio-ffmpeg.

A GIF has one palette of 256 colours for all its frames, chosen from a few of them laid together: that takes a tenth of
the time of a palette per frame, and no colour flickers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import InputError, MissingDependency

__all__ = ["FORMATS", "check_timing", "durations", "write"]

Pixels = NDArray[np.uint8]

FORMATS = {".gif": "GIF", ".png": "APNG", ".apng": "APNG", ".webp": "WebP", ".mp4": "MP4"}
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
    path: Path, frames: Iterator[Pixels], samples: Sequence[Pixels], *, count: int, fps: float, suffix: str
) -> None:
    """Write all frames.

    Args:
        path: Where, whatever its suffix.
        frames: `count` arrays (height, width, 3), uint8; each may be overwritten after it was handed out.
        samples: A few of them, from which a GIF takes its colours.
        count: How many there are.
        fps: Frames per second.
        suffix: One of `FORMATS`.

    Raises:
        MissingDependency: Pillow, or imageio-ffmpeg for an MP4.
    """
    if suffix == ".mp4":
        _mp4(path, frames, fps=fps)
        return
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency.of("Pillow", extra="lab", purpose="animations") from error
    options: dict[str, Any] = {"save_all": True, "loop": 0}
    if suffix == ".gif":
        sheet = Image.fromarray(np.concatenate(list(samples)))
        palette = sheet.quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        images = (Image.fromarray(pixels).quantize(palette=palette, dither=Image.Dither.NONE) for pixels in frames)
        options |= {"format": "GIF", "duration": durations(count, fps, unit=10), "optimize": True, "disposal": 1}
    else:
        images = (Image.fromarray(pixels.copy()) for pixels in frames)
        options |= {"duration": durations(count, fps, unit=1)}
        options |= {"format": "WEBP", "quality": 90, "method": 2} if suffix == ".webp" else {"format": "PNG"}
    first = next(images)
    first.save(path, append_images=images, **options)


def _mp4(path: Path, frames: Iterator[Pixels], *, fps: float) -> None:
    try:
        import imageio_ffmpeg
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
        encoder.send(np.ascontiguousarray(first))
        for pixels in frames:
            encoder.send(np.ascontiguousarray(pixels))
    finally:
        encoder.close()
