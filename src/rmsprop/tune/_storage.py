"""A study in its storage: what must agree before it goes on, and who runs its trials.

A trial that was running when its process died stays "running" in the database for ever. Each trial here carries the
process that runs it, so that the next one on that machine can tell and put it aside: it does not count.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

from rmsprop.errors import InputError, InputTypeError, StateError
from rmsprop.tune._space import Space
from rmsprop.tune._url import optuna_or_refuse

__all__ = ["DIVERGED", "LOST", "Tally", "bury_the_dead", "claim", "ended_elsewhere", "open_study"]

BOOT = Path("/proc/sys/kernel/random/boot_id")
OWNER, PROTOCOL, LOST, DIVERGED = "rmsprop:process", "rmsprop:protocol", "rmsprop:lost", "rmsprop:diverged"


def open_study(storage: Any, name: str, *, direction: str, space: Space, protocol: dict[str, Any]) -> tuple[Any, bool]:
    """Create the study, or return the one of that name if it asks the same question, and whether it was there.

    Raises:
        InputError: `protocol` cannot be kept as JSON.
        StateError: It has another direction, space or protocol, or was made by another program.
    """
    optuna = optuna_or_refuse()
    asked = _asked(direction, space, protocol)
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction=direction)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(storage=storage, study_name=name)
    else:
        study.set_user_attr(PROTOCOL, asked)
        return study, False
    found = study.user_attrs.get(PROTOCOL)
    advice = "go on with the same, or tune under another study name"
    if len(study.directions) != 1 or study.direction.name.lower() != direction:
        raise StateError(f"study {name!r} has another direction, this one is to {direction}: {advice}")
    if found is None and (study.trials or study.user_attrs):
        raise StateError(f"study {name!r} was not made by rmsprop: {advice}")
    if found is None:
        # Created a moment ago, by this program in another process or just before it was killed.
        study.set_user_attr(PROTOCOL, asked)
    elif found != asked:
        mine, theirs = _flat(asked), _flat(found)
        differing = [key for key in {**theirs, **mine} if mine.get(key) != theirs.get(key)]
        # The objective only where nothing else differs: the others are easier to set right.
        key = min(differing, key=lambda key: key == "objective", default=None)
        if key is None:
            return study, True
        if key == "objective":
            raise StateError(
                f"study {name!r} is of another objective ({theirs.get(key)}, this one is {mine.get(key)}): tune under "
                "another study name; or, if it measures the same after an edit, pass "
                f"protocol={{'objective': {theirs.get(key)!r}}}"
            )
        raise StateError(f"study {name!r} has {key}={theirs.get(key)!r}, this one asks for {mine.get(key)!r}: {advice}")
    return study, True


def _asked(direction: str, space: Space, protocol: dict[str, Any]) -> dict[str, Any]:
    """Return what a study asks as JSON gives it back, so that it can be compared with what comes from a storage."""
    if not isinstance(protocol, dict):
        raise InputTypeError(f"protocol: {type(protocol).__name__}, expected a dict of JSON values")
    taken = sorted({"direction", "space"} & set(protocol))
    if taken:
        raise InputError(f"protocol has {taken[0]!r}, which every study has of its own: choose another key")
    try:
        own = json.loads(json.dumps(protocol, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"protocol={protocol!r}, expected JSON values: {error}") from error
    return {"direction": direction, "space": json.loads(json.dumps(space.to_dict())), **own}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


# ---- who runs a trial ------------------------------------------------------------------------------------------------


def _machine() -> str:
    """Tell apart where process numbers mean different processes: hosts, their starts, and containers of one host.

    A digest, not a name: the database may be shown to others.
    """
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(BOOT.read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]


def _born(pid: int) -> str:
    """When a process began, in ticks since the machine did; a number of processes is used again, a pair is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def claim(trial: Any) -> None:
    """Write into a trial that this process runs it."""
    pid = os.getpid()
    trial.set_user_attr(OWNER, [_machine(), pid, _born(pid)])


def _runs_here(owner: Any) -> bool | None:
    """Whether the owner lives; None if it is on another machine, where nobody here can tell."""
    if not (isinstance(owner, list) and len(owner) == 3):
        return None
    machine, pid, born = owner
    if machine != _machine():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return _born(pid) == born and not _zombie(pid)


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def bury_the_dead(study: Any) -> int:
    """Mark the running trials of this machine's dead processes as failed, and say how many."""
    optuna = optuna_or_refuse()
    buried = 0
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if _runs_here(trial.user_attrs.get(OWNER)) is False:
            # Another process may have been quicker: the storage lets only one of them end a trial.
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, RuntimeError, ValueError):
                study._storage.set_trial_user_attr(trial._trial_id, LOST, "its process ended before it did")
                study._storage.set_trial_state_values(trial._trial_id, state=optuna.trial.TrialState.FAIL)
                buried += 1
    return buried


def ended_elsewhere(study: Any, trial: Any) -> bool:
    """Whether another process has ended a trial that runs here, because it took this one for dead."""
    return bool(study._storage.get_trial(trial._trial_id).state.is_finished())


class Tally:
    """How a study stands.

    Attributes:
        complete: Trials with a value.
        pruned: Trials that were given up, those that diverged among them.
        diverged: Trials whose value was not finite.
        lost: Trials that ended with their process, or with an exception; they count as not done.
        running: Trials that a living process of this machine has begun.
        begun: All trials ever begun, the lost ones excepted.
    """

    def __init__(self, study: Any) -> None:
        states = optuna_or_refuse().trial.TrialState
        trials = study.get_trials(deepcopy=False)
        self.complete = sum(trial.state == states.COMPLETE for trial in trials)
        self.pruned = sum(trial.state == states.PRUNED for trial in trials)
        self.diverged = sum(DIVERGED in trial.user_attrs for trial in trials)
        self.lost = sum(trial.state == states.FAIL for trial in trials)
        running = [trial for trial in trials if trial.state == states.RUNNING]
        self.running = sum(_runs_here(trial.user_attrs.get(OWNER)) is True for trial in running)
        self.begun = len(trials) - self.lost

    @property
    def done(self) -> int:
        """Trials that count."""
        return self.complete + self.pruned
