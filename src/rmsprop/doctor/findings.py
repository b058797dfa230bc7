"""Every finding of the doctor: when it is reported and why there, its text, and its remedy. No framework is needed.

    nan        NaN or infinity in the gradient, the statistics, the parameter or its change
    start      the first steps exceed 30 lr; the text is in `rmsprop._advice`, which also logs it at construction
    update     a step changes a tensor by more than a tenth of its size, 100 steps after the start
    collapsed  the variance of a centered rule has vanished in more than 1 % of the elements
    stalled    rounding keeps more than half of the elements from changing
    eps        eps dominates more than half of the elements, once mean_sq is 1 / (1 - rho) steps old
    spike      a gradient is 10 times its own root mean square
    lag        mean_sq is 100 times the square of the gradients, and has only decayed for 3 / (1 - rho) steps
    exploding  a row has 1000 times the gradient of the median row
    dead       more than a quarter of the rows (units, not words) have had no gradient for 20 / (1 - rho) steps

A log line of "rmsprop.doctor" begins with one of these words. A training that goes well with the defaults of any
framework has no finding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator

from rmsprop import _advice
from rmsprop.doctor.sample import Sample, has_units_last

__all__ = ["Finding", "History", "examine", "summarize"]

KINDS = ("nan", "start", "update", "collapsed", "stalled", "eps", "spike", "lag", "exploding", "dead")
"""In the order in which they are reported."""

UPDATE = 0.1
"""A tenth of the tensor in one step. 1e-3 is the usual rule of thumb. A tensor that started at 0 and only grew is at
1e-2 after 100 steps, so 0.1 then means that the training is unstable."""
UPDATE_STEPS = 100
EPS = 0.5
"""Where eps is more than half of the denominator, the step is nearer to lr g / eps than to RMSprop's."""
STALLED = 0.5
"""At bfloat16, lr 1e-4, no weight near 1 changed in 1000 steps; healthy float32 loses under 1 % of its steps."""
COLLAPSED = 0.01
"""Each such element takes a step over 100 times too long; torch's formula gives NaN there, at alpha 0.9 in step 133."""
LAG = 0.01
"""g^2 below 1 % of mean_sq: the decoupling before a loss spike of arXiv 2506.04805. Steps are 10 times shorter than
with a mean_sq that follows the gradients."""
LAG_MEMORIES = 3.0
"""Times 1 / (1 - rho) steps: mean_sq is then a twentieth of what it was, unless a large gradient came in between."""
LAG_SLACK = 2.0
"""How much larger than after pure decay mean_sq may be."""
SPIKE = 100.0
"""A gradient 10 times its root mean square: the noise of batches does not bring such a sum over a tensor."""
DEAD = 0.25
"""Some ReLU units die in every training; a quarter of them is never intended."""
ACTIVE = 0.5
"""Units have a gradient in nearly every batch. Where fewer than half of the rows that ever had one have one in this
step, rows are words or users: of 30,000 words, 64 % have not appeared in 100 batches of 640, and nothing is wrong."""
MIN_TABLE_ROWS = 1000
TABLE_RATIO = 16
"""A checkpoint has no gradients: there a table of words has at least 1000 rows, and 16 times more rows than columns."""
NAMED = 3
"""Tensors that a summary names beside the worst."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with one tensor.

    Attributes:
        kind: One of the words at the top of this module.
        tensor: Name of the tensor.
        step: Steps done; 0: not known.
        value: The number it was judged by.
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


def examine(sample: Sample) -> list[Finding]:
    """Return what a single sample shows; "lag" needs several, which `History` has.

    Example:
        >>> sample = Sample(tensor="w", shape=(2,), dtype="float32", step=90, lr=0.1, rule={}, eps_share=0.9,
        ...     root_mean_sq=1e-6)
        >>> print(examine(sample)[0])
        w, step 90: eps dominates 90 % of its elements, whose steps are nearly lr g / 0.0001: lower eps, below 1e-12
    """
    if sample.not_finite:
        remedy = "find the first such tensor; clip (max_norm), lower lr, or go back to a checkpoint before it"
        found = [("nan", math.inf, f"NaN or infinity in {sample.not_finite}", remedy)]
    else:
        checks = (_check_start, _check_change, _check_denominator, _check_grad, _check_rows)
        found = [item for check in checks for item in check(sample)]
    findings = [_build_finding(sample, *item) for item in found]
    return sorted(findings, key=lambda finding: KINDS.index(finding.kind))


Found = tuple[str, float, str, str]
"""kind, value, words, remedy"""


def _build_finding(sample: Sample, kind: str, value: float, words: str, remedy: str) -> Finding:
    return Finding(kind=kind, tensor=sample.tensor, step=sample.step, value=value, words=words, remedy=remedy)


def _check_start(sample: Sample) -> Iterator[Found]:
    # The first steps of a checkpoint, which shows no change, are known from its rule alone.
    if sample.step_over_lr is not None and sample.step > _advice.measure_start(sample.full_rule).at:
        return
    advice = _advice.advise(sample.full_rule, sample.lr if sample.start_lr is None else sample.start_lr)
    if advice is not None:
        words = advice.words
        if sample.step_over_lr:
            words += f" (measured at step {sample.step}: {sample.step_over_lr:.3g} x lr)"
        if sample.start_lr is not None:
            words += f" (initial_lr {sample.start_lr:g})"
        yield advice.kind, advice.value, words, advice.remedy


def _check_change(sample: Sample) -> Iterator[Found]:
    ratio, stalled = sample.update_to_weight or 0.0, sample.stalled_share or 0.0
    if ratio > UPDATE and sample.step >= UPDATE_STEPS and len(sample.shape) > 1:
        factor = 10 ** math.ceil(math.log10(ratio / 1e-2))
        words = f"one step changes it by {_percent(ratio)} of its size, where 0.1 % is usual"
        yield "update", ratio, words, f"lower lr, {factor:g} times to begin with"
    if stalled > STALLED:
        words = f"rounding to {sample.dtype} keeps {_percent(stalled)} of its elements from changing"
        if sample.dtype in _advice.SIGNIFICANT_BITS:
            remedy = _advice.recommend_rounding(sample.dtype)
        else:
            remedy = "lr has become too small to change anything: stop, or raise it"
        yield "stalled", stalled, words, remedy


def _check_denominator(sample: Sample) -> Iterator[Found]:
    rule, share, collapsed = sample.full_rule, sample.eps_share or 0.0, sample.collapsed_share or 0.0
    if collapsed > COLLAPSED:  # then a lower eps would make it worse
        words = f"the gradient of {_percent(collapsed)} of its elements is constant: centering divides by nearly 0"
        remedy = "centered=False, or a larger eps (DQN's 0.01, inside the root), or var_floor in a Rule"
        yield "collapsed", collapsed, words, remedy
    elif share > EPS and rule.eps > 0 and sample.root_mean_sq and _is_settled(sample):
        power = 2 if rule.eps_mode == "inside" else 1
        least = math.floor(math.log10((sample.eps_root or sample.root_mean_sq) ** power))
        rate = rule.eps ** (1 / power)
        words = f"eps dominates {_percent(share)} of its elements, whose steps are nearly lr g / {rate:.3g}"
        yield "eps", share, words, f"lower eps, below {float(f'1e{least}'):g}"


def _check_grad(sample: Sample) -> Iterator[Found]:
    if sample.decoupling is not None and sample.decoupling > SPIKE:
        words = f"a gradient {math.sqrt(sample.decoupling):.3g} times its own root mean square"
        yield "spike", sample.decoupling, words, "clip: max_norm in rmsprop.torch.RMSprop"


def _check_rows(sample: Sample) -> Iterator[Found]:
    if not sample.rows or _is_table(sample):
        return
    dead = sample.dead_rows / sample.rows
    if sample.exploding_rows:
        words = f"{sample.exploding_rows} of {sample.rows} rows have 1000 times the gradient of the median row"
        yield "exploding", float(sample.exploding_rows), words, "check their inputs; clip the gradient, scale the input"
    if dead > DEAD:
        words = f"{_percent(dead)} of its rows have had no gradient for a long time, or never had one"
        yield "dead", dead, words, "for units: lower lr or a leaky activation; for words that never appear: nothing"


def _is_settled(sample: Sample) -> bool:
    """Whether mean_sq is 1 / (1 - rho) steps old; before that it may be small because it started at 0."""
    return not sample.step or sample.step * (1.0 - sample.full_rule.rho) >= 1.0 - 1e-9


def _is_table(sample: Sample) -> bool:
    """Whether the rows are like the words of an embedding, which are rare, and not like the units of a layer."""
    if sample.active_rows is not None:
        return sample.active_rows < ACTIVE
    if len(sample.shape) != 2 or has_units_last(sample.tensor):
        return False
    return sample.shape[0] >= max(MIN_TABLE_ROWS, TABLE_RATIO * sample.shape[1])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


class History:
    """The findings of a training, sample by sample.

    It finds what a single sample cannot show: that mean_sq lags for long. And it leaves out an eps that dominates only
    because the gradients of a finished training have fallen below it.

    Attributes:
        findings: The first finding of each kind and tensor, in the order they came.
        counts: How many samples showed it: {(kind, tensor): samples}.
        worst: The finding with the worst value: {(kind, tensor): finding}.

    Example:
        >>> history = History()
        >>> sample = Sample(tensor="w", shape=(2, 2), dtype="float32", step=200, lr=0.1, rule={}, update_to_weight=0.5)
        >>> [finding.kind for finding in history.add([sample])], [finding.kind for finding in history.add([sample])]
        (['update'], [])
    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.counts: dict[tuple[str, str], int] = {}
        self.worst: dict[tuple[str, str], Finding] = {}
        self._decays_since: dict[str, Sample] = {}
        self._exceeded_eps: dict[str, bool] = {}

    def add(self, samples: Iterable[Sample]) -> list[Finding]:
        """Add samples, and return the findings that are new."""
        fresh = []
        for sample in samples:
            for finding in [*examine(sample), *self._check_lag(sample)]:
                key = (finding.kind, finding.tensor)
                if finding.kind == "eps" and self._exceeded_eps.get(sample.tensor):
                    continue
                self.counts[key] = self.counts.get(key, 0) + 1
                if key not in self.worst:
                    fresh.append(finding)
                self.worst[key] = max(self.worst.get(key, finding), finding, key=_rank)
            if sample.eps_share is not None and _is_settled(sample):
                self._exceeded_eps.setdefault(sample.tensor, sample.eps_share <= EPS)
        self.findings += fresh
        return fresh

    def _check_lag(self, sample: Sample) -> Iterator[Finding]:
        ratio = sample.decoupling
        if ratio is None or sample.root_mean_sq is None:
            return
        if ratio >= LAG:
            self._decays_since.pop(sample.tensor, None)
            return
        first = self._decays_since.setdefault(sample.tensor, sample)
        rho, passed = sample.full_rule.rho, sample.step - first.step
        decayed = (first.root_mean_sq or 0.0) * rho ** (passed / 2)
        if passed < 0 or sample.root_mean_sq > math.sqrt(LAG_SLACK) * decayed:  # a large gradient came in between
            self._decays_since[sample.tensor] = sample
        elif passed * (1 - rho) >= LAG_MEMORIES:
            size = f"{math.sqrt(1 / ratio):.3g} times smaller than the root of mean_sq" if ratio else "0"
            words = f"gradients are {size}, and mean_sq has only decayed since step {first.step}"
            remedy = (
                "use a smaller rho; or restart the averages, with a warm-up (optimizer.state.clear(); rmsprop.torch "
                "has reset_state())"
            )
            yield _build_finding(sample, "lag", ratio, words, remedy)


def _rank(finding: Finding) -> float:
    """Return how bad a finding is among those of its kind."""
    return -finding.value if finding.kind == "lag" else finding.value


def summarize(findings: Iterable[Finding]) -> list[str]:
    """Return one line for each kind of finding: the worst tensor in full, the others by name."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    lines = []
    for kind in sorted(by_kind, key=KINDS.index):
        worst, *rest = sorted(by_kind[kind], key=_rank, reverse=True)
        others = list(dict.fromkeys(finding.tensor for finding in rest if finding.tensor != worst.tensor))
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        lines.append(f"{kind}: {worst}" + (f" (also {', '.join(others[:NAMED])}{more})" if others else ""))
    return lines
