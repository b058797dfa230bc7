"""What was seen, as a table, as text, and as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rmsprop._display import embed_image, make_list, make_table
from rmsprop.doctor import picture
from rmsprop.doctor.findings import Finding, summarize
from rmsprop.doctor.sample import Sample
from rmsprop.errors import MissingDependency

__all__ = ["make_rows", "write_html", "write_lines", "write_text"]

SHOWN = 40
"""Tensors in a table; more are not read."""
_COLUMNS = {"rms of mean_sq": "root_mean_sq", "eps dominates": "eps_share"}
_OF_WATCH = {"update:weight": "update_to_weight", "g2/mean_sq": "decoupling", "stalled": "stalled_share"}
_OF_CHECKPOINT = {"untouched": "untouched_share"}


def make_rows(
    samples: Sequence[Sample], findings: Sequence[Finding], *, is_watch: bool
) -> tuple[list[str], list[list[str]]]:
    """Return the heads of a table and a row for each of the first 40 samples; a checkpoint shows no changes."""
    columns = _COLUMNS | (_OF_WATCH if is_watch else _OF_CHECKPOINT)
    rows = []
    for sample in samples[:SHOWN]:
        low, _, middle, _, high = sample.effective_lr or (None,) * 5
        shape = "x".join(map(str, sample.shape)) or "scalar"
        cells = [_format(x) for x in (low, middle, high)]
        cells += [_format(getattr(sample, name), is_share=name.endswith("_share")) for name in columns.values()]
        kinds = [finding.kind for finding in findings if finding.tensor == sample.tensor]
        rows.append([sample.tensor, shape, f"{sample.step:,}" if sample.step else "?", *cells, " ".join(kinds)])
    return ["tensor", "shape", "step", "effective lr 5 %", "median", "95 %", *columns, "findings"], rows


def write_lines(samples: Sequence[Sample], findings: Sequence[Finding]) -> list[str]:
    """Return a sentence for each kind of finding, or the one that there is none."""
    if not samples:
        return ["nothing to judge: no tensor has had a step"]
    return summarize(findings) or ["healthy: no findings"]


def write_text(samples: Sequence[Sample], findings: Sequence[Finding], notes: Iterable[str] = ()) -> str:
    """Return the report as plain text, without the table."""
    return "\n".join([f"{len(samples)} tensors", *notes, *write_lines(samples, findings)])


def write_html(
    samples: Sequence[Sample], findings: Sequence[Finding], notes: Iterable[str] = (), *, is_watch: bool
) -> str:
    """Return the report for a notebook, with the picture of the effective learning rates if matplotlib is there."""
    heads, rows = make_rows(samples, findings, is_watch=is_watch)
    parts = [make_list([*notes, *write_lines(samples, findings)]), make_table(heads, rows) if rows else ""]
    if len(samples) > len(rows):
        parts.append(f"<p>and {len(samples) - len(rows)} more tensors</p>")
    if picture.select_drawable(samples):
        try:
            content = picture.draw_png(samples, marked={finding.tensor for finding in findings})
            parts.append(embed_image(content, format="png", text="effective learning rate of each tensor"))
        except MissingDependency:
            pass
    return "".join(parts)


def _format(x: float | None, *, is_share: bool = False) -> str:
    if x is None:
        return ""
    return f"{100 * x:.0f} %" if is_share else f"{x:.3g}"
