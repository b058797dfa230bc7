"""CartPole: advantage actor-critic, two networks 4-64-64-2 and 4-64-64-1, 9,155 parameters in all.

Eight games are played at once. A batch is STEPS moves of each, played by the current policy:

    R[t] = r[t] + GAMMA V(s[t+1])   where the game was cut off at 500 moves, or where the batch ends
    R[t] = r[t]                     where the pole fell
    R[t] = r[t] + GAMMA R[t+1]      elsewhere
    loss = mean of -log pi(a[t] | s[t]) (R[t] - V(s[t])) + VALUE (R[t] - V(s[t]))^2 - ENTROPY H(pi)

A game that is cut off is not lost: without the value of its last state the networks learn that long games end badly.

Source: V. Mnih and others, Asynchronous methods for deep reinforcement learning, ICML 2016, which trained with RMSprop;
the game: A. Barto, R. Sutton and C. Anderson, IEEE SMC 13 (1983), as CartPole-v1 of gymnasium.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import MissingDependency
from rmsprop.race.task import Budget, Data, Metric, Split
from rmsprop.race.tasks._torch import TorchLearner, TorchTask, seeded

if TYPE_CHECKING:
    import torch

__all__ = ["TASK", "CartPole", "Player", "returns"]

GAME = "CartPole-v1"
GAMES, STEPS, BATCHES = 8, 8, 100
GAMMA, VALUE, ENTROPY = 0.99, 0.5, 0.0
LONGEST = 500
SEEDS = {"valid": 10_000, "test": 20_000}
SCORED = {"valid": 20, "test": 50}
METRIC = Metric(name="mean return", better="higher", percent=False, target=450)
# 23 x 100 x 64 = 147,200 frames.
BUDGET = Budget(epochs=23, seeds=5, tuning_seeds=2, grid=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1))
QUICK = Budget(epochs=3, seeds=2, tuning_seeds=1, grid=(0.002, 0.03))


class Played(NamedTuple):
    """What eight games brought, of shape (STEPS, GAMES) or (STEPS, GAMES, 4); `counts` is False where one restarted."""

    states: NDArray[np.float32]
    after: NDArray[np.float32]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    fallen: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    counts: NDArray[np.bool_]


class Player(TorchLearner):
    """A learner (see `rmsprop.race.task`) that plays; an epoch is a block of BATCHES batches.

    Args:
        seed: Of the initial weights, the games and the moves drawn. Which moves those are depends on the policy, and so
            on the optimizer.
        device: Where it trains; the game itself runs on the CPU.
    """

    max_norm: ClassVar[float | None] = 0.5

    def __init__(self, seed: int, *, device: str = "cpu") -> None:
        from torch import nn

        def network(outputs: int) -> nn.Module:
            return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))

        with seeded(seed):
            model = nn.ModuleDict({"actor": network(2), "critic": network(1)})
            with_small_steps: Any = model["actor"][-1]
            # All moves begin about equally likely.
            with_small_steps.weight.data.mul_(0.01)
        super().__init__(model, device=device)
        self._rng = np.random.default_rng(seed)
        self._games = _games(GAMES)
        self._state = self._games.reset(seed=seed)[0]
        self._fresh = np.zeros(GAMES, np.bool_)

    def batches(self, epoch: int) -> Iterator[None]:
        """Yield nothing, BATCHES times: what is learned from is played in `loss`."""
        yield from [None] * BATCHES

    def loss(self, batch: None) -> torch.Tensor:
        """Play, and return the mean loss over the moves."""
        import torch

        played = self._play()
        states, after = (torch.from_numpy(array).to(self.device) for array in (played.states, played.after))
        with torch.no_grad():
            later = self.model["critic"](after).squeeze(-1).cpu().numpy()
        goals = torch.from_numpy(returns(played.rewards, later, played.fallen, played.ended)).to(self.device)
        counts = torch.from_numpy(played.counts).to(self.device)
        values = self.model["critic"](states).squeeze(-1)
        logs = torch.log_softmax(self.model["actor"](states), dim=-1)
        chosen = logs.gather(-1, torch.from_numpy(played.actions).to(self.device)[..., None]).squeeze(-1)
        advantage = goals - values
        entropy = -(logs.exp() * logs).sum(-1)
        each = -chosen * advantage.detach() + VALUE * advantage.square() - ENTROPY * entropy
        return (each * counts).sum() / counts.sum().clamp(min=1)

    def score(self, split: Split) -> tuple[float, float]:
        """Return the mean return of whole games, always the likelier move, and the part of LONGEST that is missing."""
        import torch

        games = _games(SCORED[split])
        state = games.reset(seed=SEEDS[split])[0]
        alive, total = np.ones(len(state), np.bool_), np.zeros(len(state))
        with self.evaluating():
            for _ in range(LONGEST):
                scores = self.model["actor"](torch.from_numpy(state).to(self.device))
                state, reward, fallen, cut, _ = games.step(scores.argmax(1).cpu().numpy())
                total += reward * alive
                alive &= ~(fallen | cut)
                if not alive.any():
                    break
        mean = float(total.mean())
        return mean, 1 - mean / LONGEST

    def _play(self) -> Played:
        import torch

        rows: list[Any] = []
        for _ in range(STEPS):
            with torch.no_grad():
                scores = self.model["actor"](torch.from_numpy(self._state).to(self.device)).double()
            right = torch.softmax(scores, dim=1)[:, 1].cpu().numpy()
            actions = (self._rng.random(GAMES) < right).astype(np.int64)
            after, reward, fallen, cut, _ = self._games.step(actions)
            # The step after an end restarts the game and takes no move: it teaches nothing.
            rows.append((self._state, after, actions, reward, fallen, fallen | cut, ~self._fresh))
            self._state, self._fresh = after, fallen | cut
        return Played(*(np.stack(column) for column in zip(*rows, strict=True)))


def returns(
    rewards: NDArray[np.float32], later: NDArray[np.float32], fallen: NDArray[np.bool_], ended: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return R of the module's first lines, float32 of shape (STEPS, GAMES).

    Args:
        rewards: r. Read.
        later: V(s[t+1]), of the state before any restart. Read.
        fallen: The pole fell: nothing follows. Read.
        ended: It fell, or the game was cut off. Read.

    Example:
        >>> one = lambda *numbers: np.array(numbers)[:, None]
        >>> returns(one(1.0, 1.0), one(0.0, 10.0), one(False, False), one(False, False)).ravel()
        array([11.791, 10.9  ], dtype=float32)
        >>> returns(one(1.0, 1.0), one(5.0, 10.0), one(True, False), one(True, True)).ravel()
        array([ 1. , 10.9], dtype=float32)
    """
    found = np.empty_like(rewards, dtype=np.float32)
    following = later[-1]
    for t in range(len(rewards) - 1, -1, -1):
        following = rewards[t] + GAMMA * np.where(fallen[t], 0.0, np.where(ended[t], later[t], following))
        found[t] = following
    return found


def _games(count: int) -> Any:
    """Return `count` games that are played in step; each restarts in the step after its end."""
    import gymnasium

    return gymnasium.make_vec(GAME, num_envs=count, vectorization_mode="vector_entry_point")


@dataclasses.dataclass(frozen=True)
class CartPole(TorchTask):
    """The task; `TASK` is the one instance."""

    name: str = "cartpole"
    title: str = "Balancing a pole"
    model: str = (
        "actor and critic, 4-64-64-2 and 4-64-64-1 with tanh, 9,155 parameters; advantage actor-critic on 8 games of 8 "
        "moves, an epoch is 6,400 frames; gradients clipped to norm 0.5 for all"
    )
    source: str = (
        "CartPole-v1 of gymnasium (A. Barto, R. Sutton and C. Anderson, IEEE SMC 13, 1983); nothing to download"
    )
    licence: str = "gymnasium: MIT"
    notes: tuple[str, ...] = (
        "The metric is the mean return of 50 games that no training saw, at most 500, making the likelier move.",
        "Within a seed all start from the same weights and games; what they see after that depends on how they play.",
    )
    threads: int = 1
    metric: Metric = METRIC
    budget: Budget = BUDGET
    quick: Budget = QUICK

    def load(self) -> Data:
        """Look that the game is there.

        Raises:
            MissingDependency: gymnasium or torch is not installed.
        """
        self.ready()
        try:
            import gymnasium
        except ImportError as error:
            raise MissingDependency.of("gymnasium", extra="race", purpose="the game of the task cartpole") from error
        import torch

        rules = f"{GAME} {GAMES} {STEPS} {BATCHES} {GAMMA} {sorted(SEEDS.items())} {sorted(SCORED.items())}"
        return Data(
            content=None,
            sizes=dict(SCORED),
            versions={"torch": torch.__version__, "gymnasium": gymnasium.__version__},
            fingerprint=hashlib.sha256(rules.encode()).hexdigest()[:16],
        )

    def learner(self, data: Data, seed: int) -> Player:
        """Build the networks with the weights of `seed`."""
        return Player(seed, device=self.device)


TASK = CartPole()
