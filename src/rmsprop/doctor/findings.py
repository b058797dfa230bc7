"""From measurements to findings: each threshold with its reason, each finding in plain words with a remedy.

    start      the first steps go beyond 30 lr: `rmsprop._advice`, which also warns when an optimizer is built
    update     a step changes a tensor by more than a tenth of its size, 100 steps after the start
    eps        eps rules more than half of the elements, once mean_sq is 1 / (1 - rho) steps old
    stalled    rounding holds more than half of the elements in place
    collapsed  the variance of a centered rule is gone in more than 1 % of the elements
    lag        mean_sq is 100 times what the gradients are now, and has done nothing but forget for three memories
    spike      a gradient 10 times its own root mean square
    dead       more than a quarter of the rows have had no gradient for 20 / (1 - rho) steps (not of words)
    exploding  a row with 1000 times the gradient of the median row
    nan        NaN or infinity in the gradient, the statistics, the parameter or its change

A training with any framework's defaults, that goes well, gives none:
`tests/doctor/test_doctor_silence.py` trains some.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from rmsprop import _advice
from rmsprop.doctor.look import Look
from rmsprop.doctor.sample import units_last

__all__ = ["Finding", "History", "examine"]

UPDATE = 0.1
"""A tenth of the tensor in one step. 1e-3 is the usual rule of thumb; 100 steps in, a tensor that began at 0 and only
grew is at 1e-2, so 0.1 means that it is shaken, not that it is young."""
SETTLED = 100
EPS = 0.5
"""Where eps is more than half of the denominator, the step is nearer to lr g / eps than to RMSprop's."""
STALLED = 0.5
"""Half: at bfloat16, lr 1e-4, all of the weights near 1 stood still for 1000 steps; healthy float32 loses under 1 %."""
COLLAPSED = 0.01
"""Each such element takes a step over 100 times too long. torch's own formula gets NaN there: step 133 at alpha 0.9."""
LAG = 0.01
"""g^2 below 1 % of mean_sq: it forgets 100 times faster than it learns, the decoupling before a loss spike of
arXiv 2506.04805, and steps are 10 times shorter than the gradients ask for."""
LAG_MEMORIES = 3.0
"""Of 1 / (1 - rho) steps: mean_sq is then a twentieth of what it was. Rare large gradients would have fed it."""
LAG_SLACK = 2.0
SPIKE = 100.0
"""A gradient 10 times its root mean square: no such sum over a tensor comes from the noise of batches."""
DEAD = 0.25
"""A quarter. Some ReLU units die in every training; nobody plans for a quarter."""
COMING = 0.5
"""Units have a gradient in nearly every batch. Where fewer than half of the living rows have one in this step, rows are
words or users: of 30,000 words, 64 % have not come in 100 batches of 640, and nothing is wrong."""
TABLE = (1000, 16)
"""Without a gradient, as in a checkpoint: at least 1000 rows, each 16 times shorter than there are rows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with one tensor.

    Attributes:
        kind: What: one of the words at the top of this module.
        tensor: Where.
        step: When: steps done; 0: not known.
        value: The figure it rests on.
        words: What was seen.
        remedy: What to do.
    """

    kind: str
    tensor: str
    step: int
    value: float
    words: str
    remedy: str

    def __str__(self) -> str:
        when = f", step {self.step:,}" if self.step else ""
        return f"{self.tensor}{when}: {self.words}: {self.remedy}"


def examine(look: Look) -> list[Finding]:
    """Return what a single look shows; "lag" needs several, which `History` has.

    Example:
        >>> look = Look(tensor="w", shape=(2,), dtype="float32", step=90, lr=0.1, rule={}, eps_share=0.9,
        ...     root_mean_sq=1e-6)
        >>> print(examine(look)[0])
        w, step 90: eps rules 90 % of its elements, whose steps are nearly lr g / 0.0001: lower eps, below 1e-12
    """
    if not look.finite:
        words = f"NaN or infinity in {look.not_finite or 'the gradient or in mean_sq'}"
        remedy = "look for the first such tensor; clip (max_norm), lower lr, or go back to a checkpoint before it"
        return [_finding(look, "nan", math.inf, words, remedy)]
    found = [*_start(look), *_steps(look), *_denominators(look), *_gradients(look)]
    return sorted(found, key=lambda finding: KINDS.index(finding.kind))


KINDS = ("nan", "start", "update", "collapsed", "stalled", "eps", "spike", "lag", "exploding", "dead")


def _finding(look: Look, kind: str, value: float, words: str, remedy: str) -> Finding:
    return Finding(kind=kind, tensor=look.tensor, step=look.step, value=value, words=words, remedy=remedy)


def _start(look: Look) -> list[Finding]:
    rule = look.full_rule()
    past = look.step_over_lr is None  # a checkpoint: what its first steps were can only be told from its rule
    early = past or look.step <= _advice.start(rule).at
    found = []
    lr = look.lr if look.start_lr is None else look.start_lr
    for advice in _advice.advise(rule, lr) if early else ():
        measured = f" (measured at step {look.step}: {look.step_over_lr:.3g} x lr)" if look.step_over_lr else ""
        measured += "" if look.start_lr is None else f" (initial_lr {look.start_lr:g})"
        found.append(_finding(look, advice.kind, advice.value, advice.words + measured, advice.remedy))
    return found


def _steps(look: Look) -> list[Finding]:
    found = []
    ratio, stalled = look.update_to_weight, look.stalled_share
    if ratio is not None and ratio > UPDATE and look.step >= SETTLED and len(look.shape) > 1:
        lower = 10 ** math.ceil(math.log10(ratio / 1e-2))
        words = f"one step changes it by {_percent(ratio)} of its size, where 0.1 % is usual"
        found.append(_finding(look, "update", ratio, words, f"lower lr, {lower:g} times to begin with"))
    if stalled is not None and stalled > STALLED:
        words = f"rounding to {look.dtype} holds {_percent(stalled)} of its elements in place"
        narrow = look.dtype in _advice.SIGNIFICANT_BITS
        lost = "lr has become too small to move anything: stop, or raise it"
        remedy = _advice.rounding_remedy(look.dtype) if narrow else lost
        found.append(_finding(look, "stalled", stalled, words, remedy))
    return found


def _denominators(look: Look) -> list[Finding]:
    found = []
    rule = look.full_rule()
    share, gone, root = look.eps_share, look.collapsed_share, look.root_mean_sq
    collapsed = gone is not None and gone > COLLAPSED  # where eps dominates because there is nothing beside it
    if share is not None and share > EPS and not collapsed and rule.eps > 0 and root and _grown(look, rule.rho):
        inside = rule.eps_mode == "inside"
        rate = math.sqrt(rule.eps) if inside else rule.eps
        low = look.eps_root or root
        least = _round_down(low**2 if inside else low)
        words = f"eps rules {_percent(share)} of its elements, whose steps are nearly lr g / {rate:.3g}"
        found.append(_finding(look, "eps", share, words, f"lower eps, below {least:g}"))
    if gone is not None and gone > COLLAPSED:
        words = f"the gradient of {_percent(gone)} of its elements has stopped changing: centering divides by nearly 0"
        remedy = "centered=False, or a larger eps (DQN's 0.01, inside the root), or var_floor in a Rule"
        found.append(_finding(look, "collapsed", gone, words, remedy))
    return found


def _grown(look: Look, rho: float) -> bool:
    """Whether mean_sq is a memory old; before that it is small because it is young."""
    return not look.step or look.step * (1.0 - rho) >= 1.0 - 1e-9


def _gradients(look: Look) -> list[Finding]:
    found = []
    if look.decoupling is not None and look.decoupling > SPIKE:
        words = f"a gradient {math.sqrt(look.decoupling):.3g} times its own root mean square"
        found.append(_finding(look, "spike", look.decoupling, words, "clip: max_norm in rmsprop.torch.RMSprop"))
    table = _table(look)
    if look.exploding_rows and not table:
        words = f"{look.exploding_rows} of {look.rows} rows have 1000 times the gradient of the median row"
        remedy = "look at what feeds them; clip the gradient, scale the input"
        found.append(_finding(look, "exploding", float(look.exploding_rows), words, remedy))
    if look.rows and look.dead_rows > DEAD * look.rows and not table:
        share = look.dead_rows / look.rows
        words = f"{_percent(share)} of its rows have had no gradient for long, if ever"
        remedy = "units that died: lower lr or a leaky activation; words that never come do no harm"
        found.append(_finding(look, "dead", share, words, remedy))
    return found


def _table(look: Look) -> bool:
    """Return whether rows are what comes and goes, as the words of an embedding, and not units of a layer."""
    if look.coming_rows is not None:
        return look.coming_rows < COMING
    if len(look.shape) != 2 or units_last(look.tensor):
        return False
    least, times = TABLE
    return look.shape[0] >= max(least, times * look.shape[1])


def _lag(look: Look, since: int) -> Finding:
    ratio = look.decoupling or 0.0
    size = f"{math.sqrt(1 / ratio):.3g} times smaller than the root of mean_sq" if ratio else "0 beside a mean_sq"
    words = f"gradients are {size}, which only forgets since step {since}"
    remedy = (
        "a smaller rho forgets faster; or start the averages anew, with a warm-up (optimizer.state.clear(); "
        "rmsprop.torch has reset_state())"
    )
    return _finding(look, "lag", ratio, words, remedy)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _round_down(x: float) -> float:
    """Return the power of ten below x."""
    return float(f"1e{math.floor(math.log10(x))}") if x > 0 else 0.0


class History:
    """Findings of a training, look by look.

    It knows what a single look cannot: that mean_sq lags for long, and that eps came to rule only as the gradients of
    a training that is done fell below it, which is no finding.

    Attributes:
        findings: The first finding of each kind and tensor, in the order they came.
        counts: How many looks showed it: {(kind, tensor): looks}.
        worst: The finding with the worst value, of each.

    Example:
        >>> history = History()
        >>> look = Look(tensor="w", shape=(2, 2), dtype="float32", step=200, lr=0.1, rule={}, update_to_weight=0.5)
        >>> [finding.kind for finding in history.add([look])], [finding.kind for finding in history.add([look])]
        (['update'], [])
    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.counts: dict[tuple[str, str], int] = {}
        self.worst: dict[tuple[str, str], Finding] = {}
        self._behind: dict[str, Look] = {}
        self._outgrown: dict[str, bool] = {}

    def add(self, looks: Iterable[Look]) -> list[Finding]:
        """Take in looks, and return the findings that had not come before."""
        fresh = []
        for look in looks:
            for finding in [*examine(look), *self._lagging(look)]:
                key = (finding.kind, finding.tensor)
                if finding.kind == "eps" and self._outgrown.get(look.tensor):
                    continue
                self.counts[key] = self.counts.get(key, 0) + 1
                if key not in self.worst:
                    fresh.append(finding)
                if key not in self.worst or _worse(finding, self.worst[key]):
                    self.worst[key] = finding
            if look.eps_share is not None and _grown(look, look.full_rule().rho):
                self._outgrown.setdefault(look.tensor, look.eps_share <= EPS)
        self.findings += fresh
        return fresh

    def _lagging(self, look: Look) -> list[Finding]:
        if look.decoupling is None or look.root_mean_sq is None:
            return []
        if look.decoupling >= LAG:
            self._behind.pop(look.tensor, None)
            return []
        since = self._behind.setdefault(look.tensor, look)
        rho, passed = look.full_rule().rho, look.step - since.step
        free = (since.root_mean_sq or 0.0) * rho ** (passed / 2)
        if passed < 0 or look.root_mean_sq > math.sqrt(LAG_SLACK) * free:  # fed in between
            self._behind[look.tensor] = look
            return []
        return [_lag(look, since.step)] if passed * (1 - rho) >= LAG_MEMORIES else []


def _worse(finding: Finding, than: Finding) -> bool:
    return finding.value < than.value if finding.kind == "lag" else finding.value > than.value
