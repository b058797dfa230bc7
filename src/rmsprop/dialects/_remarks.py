"""Remarks and settings that several rows share."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["CENTERED_NAN", "CLIP_THEN_L2", "FRESH_IN_FLOAT32"]

CENTERED_NAN: Final = "centered: v - m**2 is the difference of two nearly equal numbers, becomes negative and gives NaN"

CLIP_THEN_L2: Final[Literal["clip-decay"]] = "clip-decay"

FRESH_IN_FLOAT32: Final = (
    "1 - rho is computed as T(1) - T(rho) in the array's dtype there, in double and rounded once here: "
    "at rho .99 in float32 the two differ by 9.5e-7 relative"
)
