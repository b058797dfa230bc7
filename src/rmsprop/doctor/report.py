"""Findings and looks as text: tensors that share a finding are told together."""

from __future__ import annotations

from collections.abc import Iterable

from rmsprop.doctor.findings import KINDS, Finding

__all__ = ["told"]

NAMED = 3


def told(findings: Iterable[Finding]) -> list[str]:
    """Return one line for each kind of finding: the worst tensor in words, the others by name.

    Example:
        >>> one = Finding(kind="eps", tensor="w", step=7, value=0.6, words="eps rules 60 %", remedy="lower eps")
        >>> told([one])
        ['eps: w, step 7: eps rules 60 %: lower eps']
    """
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    lines = []
    for kind in sorted(by_kind, key=KINDS.index):
        members = sorted(by_kind[kind], key=lambda finding: finding.value, reverse=kind != "lag")
        others = list(dict.fromkeys(member.tensor for member in members if member.tensor != members[0].tensor))
        more = f" (also {', '.join(others[:NAMED])}" if others else ""
        more += f" and {len(others) - NAMED} more)" if len(others) > NAMED else ")" if others else ""
        lines.append(f"{kind}: {members[0]}{more}")
    return lines
