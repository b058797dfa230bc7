"""Spoken digits: clips that a synthesiser makes, recordings of a human, and what both become for a network."""

from __future__ import annotations

import io
import itertools
import os
import re
import subprocess
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmsprop._files import write_atomically
from rmsprop.errors import FileError
from rmsprop.race import data as sources

__all__ = ["BANDS", "Clips", "bands", "heard", "human", "synthetic"]

RATE = 8000
WINDOW, HOP, BANDS = 200, 80, 24
LONGEST = 80
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en-us", "en-us-nyc", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
VARIANTS = ("m1", "m3", "m5", "m7", "f1", "f2", "f3", "f4", "f5", "klatt")
DRAWN = 2002


class Clips(NamedTuple):
    """Clips: float32 frames, shape (n, LONGEST, BANDS), zero after the end; lengths, digits, variants, int64, (n,)."""

    frames: NDArray[np.float32]
    lengths: NDArray[np.int64]
    digits: NDArray[np.int64]
    variants: NDArray[np.int64]


def human() -> Clips:
    """Return the ten recordings, digits 0 to 9 in order.

    Raises:
        MissingDependency: They are not here.
        FileError: One is damaged.
    """
    return _stacked([heard(*sound(sources.read("spoken-digits", f"{k}.wav"))) for k in range(10)], range(10), [0] * 10)


def synthetic() -> Clips:
    """Return 800 clips: ten digits in eight accents and ten voices, at speeds and pitches drawn once.

    They are made once per version of the synthesiser, in some ten seconds, and kept beside the fetched data.

    Raises:
        MissingDependency: The synthesiser is not here.
        FileError: It fails, or the clips cannot be kept.
    """
    program = sources.program("espeak-ng")
    version = re.search(rb"\d+(?:\.\d+)+", _run(program, ["--version"]).stdout)
    kept = sources.cache() / "espeak-ng" / f"digits-{version.group().decode() if version else 'unknown'}-1.npz"
    if (clips := _kept(kept)) is not None:
        return clips
    rng = np.random.default_rng(DRAWN)
    orders = list(itertools.product(range(len(DIGITS)), range(len(VARIANTS)), range(len(ACCENTS))))
    # Words per minute, and the synthesiser's own scale of pitch from 0 to 99.
    speeds, pitches = rng.integers(110, 190, len(orders)), rng.integers(25, 75, len(orders))

    def spoken(k: int) -> NDArray[np.float32]:
        digit, variant, accent = orders[k]
        options = ["-v", f"{ACCENTS[accent]}+{VARIANTS[variant]}", "-s", str(speeds[k]), "-p", str(pitches[k])]
        return _spoken(program, options, DIGITS[digit])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        frames = list(pool.map(spoken, range(len(orders))))
    clips = _stacked(frames, [digit for digit, _, _ in orders], [variant for _, variant, _ in orders])
    _keep(kept, clips)
    return clips


def sound(raw: bytes) -> tuple[NDArray[np.float64], int]:
    """Return samples in [-1, 1] and their rate, of a WAV file of one channel and 16 bits.

    The length that the header tells is not believed: a program that writes to a pipe cannot know it.
    """
    try:
        with wave.open(io.BytesIO(raw)) as file:
            if file.getnchannels() != 1 or file.getsampwidth() != 2:
                raise FileError("expected one channel of 16 bits")
            samples = np.frombuffer(file.readframes(len(raw)), "<i2")
            return samples / 32768, file.getframerate()
    except (wave.Error, EOFError, ValueError) as error:
        raise FileError(f"not a sound that can be read: {error}") from error


def heard(samples: NDArray[np.float64], rate: int) -> NDArray[np.float32]:
    """Return what the network hears: log power in mel bands, shape (frames, BANDS), without silence at both ends.

    Every band has mean 0 over the clip, so that neither loudness nor the line's tone says anything.
    """
    from scipy.signal import resample_poly

    if rate != RATE:
        common = np.gcd(rate, RATE)
        samples = resample_poly(samples, RATE // common, rate // common)
    padded = np.pad(samples, WINDOW // 2)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(pieces * np.hanning(WINDOW), n=256, axis=1)) ** 2 @ bands().T
    loud = power.sum(axis=1)
    # What is 45 decibels below the loudest frame counts as silence: the s of "six" is faint.
    where = np.flatnonzero(loud > 10**-4.5 * loud.max())
    power = power[where[0] : where[-1] + 1][:LONGEST]
    log = np.log(power + 1e-4 * power.mean())
    return ((log - log.mean(axis=0)) / log.std()).astype(np.float32)


def bands() -> NDArray[np.float64]:
    """Return triangular filters over the 129 frequencies of a transform of 256 samples, shape (BANDS, 129).

    Their corners lie evenly in mel = 2595 log10(1 + f / 700), f in hertz (D. O'Shaughnessy, 1987).
    """
    mel = np.linspace(2595 * np.log10(1 + 100 / 700), 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)
    corners = 700 * (10 ** (mel / 2595) - 1)
    frequency = np.fft.rfftfreq(256, 1 / RATE)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    return np.maximum(np.minimum((frequency - left) / (centre - left), (right - frequency) / (right - centre)), 0)


def _run(program: Path, words: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run([program, *words], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FileError(f"{program} does not speak: {error}") from error


def _spoken(program: Path, options: list[str], word: str) -> NDArray[np.float32]:
    done = _run(program, ["--stdout", *options, word])
    if done.returncode != 0 or not done.stdout:
        told = done.stderr.decode(errors="replace").strip()
        raise FileError(f"{program} does not speak {word!r} as {options[1]}: {told or 'it made no sound'}")
    return heard(*sound(done.stdout))


def _stacked(frames: list[NDArray[np.float32]], digits: Any, variants: Any) -> Clips:
    padded = np.zeros((len(frames), LONGEST, BANDS), np.float32)
    for row, clip in zip(padded, frames, strict=True):
        row[: len(clip)] = clip
    lengths = np.array([len(clip) for clip in frames], np.int64)
    return Clips(padded, lengths, np.array(list(digits), np.int64), np.array(list(variants), np.int64))


def _kept(path: Path) -> Clips | None:
    """Return clips made earlier; a file that is damaged is made again."""
    try:
        with np.load(path) as file:
            return Clips(*(file[name] for name in Clips._fields))
    except Exception:
        return None


def _keep(path: Path, clips: Clips) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **clips._asdict())
    except OSError as error:
        raise FileError(
            f"{path}: {error.strerror or error}: set RMSPROP_DATA to a folder with room that can be written to"
        ) from error
