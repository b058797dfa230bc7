"""CartPole: advantage actor-critic with two networks.

Eight games are played in parallel. A batch is STEPS moves of each, played by the current policy:

    R[t] = r[t] + GAMMA V(s[t+1])   where the game was cut off at 500 moves, or where the batch ends
    R[t] = r[t]                     where the pole fell
    R[t] = r[t] + GAMMA R[t+1]      elsewhere
    loss = mean of -log pi(a[t] | s[t]) (R[t] - V(s[t])) + VALUE (R[t] - V(s[t]))^2

A game that is cut off is not lost: without the value of its last state the networks learn that long games end badly.

Source: V. Mnih and others, Asynchronous methods for deep reinforcement learning, ICML 2016, which trained with RMSprop;
the game: A. Barto, R. Sutton and C. Anderson, IEEE SMC 13 (1983), as CartPole-v1 of gymnasium.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rmsprop.race.task import Data, Split, TorchTask, import_package, make_data
from rmsprop.race.tasks._learner import Content, TorchLearner

GAME = "CartPole-v1"
GAMES, STEPS, BATCHES = 8, 8, 100
GAMMA, VALUE = 0.99, 0.5
LONGEST = 500
SEEDS = {"valid": 10_000, "test": 20_000}
SCORED = {"valid": 20, "test": 50}


class Moves(NamedTuple):
    """The moves of eight games, of shape (STEPS, GAMES) or (STEPS, GAMES, 4).

    `fell` and `ended` are as in `compute_returns`; `counts` is False for a move that only restarted a game.
    """

    states: NDArray[np.float32]
    next_states: NDArray[np.float32]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    fell: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    counts: NDArray[np.bool_]


class Learner(TorchLearner):
    """A learner that plays; an epoch is BATCHES batches.

    The seed draws the weights, the games and the moves. Which moves are drawn also depends on the policy, and so on the
    optimizer. The game itself runs on the CPU.
    """

    max_norm: ClassVar[float | None] = 0.5

    def __init__(self, task: TorchTask, content: Content, seed: int) -> None:
        super().__init__(task, content, seed)
        self._rng = np.random.default_rng(seed)
        self._games = _make_games(GAMES)
        self._states = self._games.reset(seed=seed)[0]
        self._restarts = np.zeros(GAMES, np.bool_)

    def build(self, spec: None) -> nn.Module:

        def build_network(outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))

        actor, critic = build_network(2), build_network(1)
        actor[-1].weight.data.mul_(0.01)
        return nn.ModuleDict({"actor": actor, "critic": critic})

    def batches(self, epoch: int) -> Iterator[None]:
        """Yield None, BATCHES times: the moves are played in `loss`."""
        yield from [None] * BATCHES

    def loss(self, batch: None) -> Tensor:
        """Play, and return the mean loss over the moves."""
        moves = self.play()
        states, next_states, actions, counts = (
            torch.from_numpy(array).to(self.device)
            for array in (moves.states, moves.next_states, moves.actions, moves.counts)
        )
        with torch.no_grad():
            next_values = self.model["critic"](next_states).squeeze(-1).cpu().numpy()
        returns = compute_returns(moves.rewards, next_values, moves.fell, moves.ended)
        values = self.model["critic"](states).squeeze(-1)
        log_policy = torch.log_softmax(self.model["actor"](states), dim=-1)
        log_chosen = log_policy.gather(-1, actions[..., None]).squeeze(-1)
        advantage = torch.from_numpy(returns).to(self.device) - values
        losses = -log_chosen * advantage.detach() + VALUE * advantage.square()
        return (losses * counts).sum() / counts.sum().clamp(min=1)

    def evaluate(self, split: Split) -> tuple[float, float]:
        """Return the mean return of whole games, always with the likelier move, and its distance to 500, relative."""
        games = _make_games(SCORED[split])
        states = games.reset(seed=SEEDS[split])[0]
        is_running, total = np.ones(len(states), np.bool_), np.zeros(len(states))
        for _ in range(LONGEST):
            logits = self.model["actor"](torch.from_numpy(states).to(self.device))
            states, rewards, fell, cut_off, _ = games.step(logits.argmax(1).cpu().numpy())
            total += rewards * is_running
            is_running &= ~(fell | cut_off)
            if not is_running.any():
                break
        mean = float(total.mean())
        return mean, 1 - mean / LONGEST

    def play(self) -> Moves:
        """Play STEPS moves of each game."""
        rows: list[Any] = []
        for _ in range(STEPS):
            with torch.no_grad():
                logits = self.model["actor"](torch.from_numpy(self._states).to(self.device)).double()
            right = torch.softmax(logits, dim=1)[:, 1].cpu().numpy()
            actions = (self._rng.random(GAMES) < right).astype(np.int64)
            states, rewards, fell, cut_off, _ = self._games.step(actions)
            # The step after an end restarts the game and ignores the action.
            rows.append((self._states, states, actions, rewards, fell, fell | cut_off, ~self._restarts))
            self._states, self._restarts = states, fell | cut_off
        return Moves(*(np.stack(column) for column in zip(*rows, strict=True)))


def compute_returns(
    rewards: NDArray[np.float32], next_values: NDArray[np.float32], fell: NDArray[np.bool_], ended: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return R of the module's first lines, float32 of shape (STEPS, GAMES).

    `next_values` are V(s[t+1]), of the state before any restart. Nothing follows where the pole `fell`; where a game
    `ended`, it fell or the game was cut off.

    Example:
        >>> column = lambda *numbers: np.array(numbers)[:, None]
        >>> compute_returns(column(1.0, 1.0), column(0.0, 10.0), column(False, False), column(False, False)).ravel()
        array([11.791, 10.9  ], dtype=float32)
    """
    returns = np.empty_like(rewards, dtype=np.float32)
    following = next_values[-1]
    for t in range(len(rewards) - 1, -1, -1):
        following = rewards[t] + GAMMA * np.where(fell[t], 0.0, np.where(ended[t], next_values[t], following))
        returns[t] = following
    return returns


def load(task: TorchTask) -> Data:
    """Check that the game is installed."""
    gymnasium = import_package("gymnasium", extra="race", purpose="the game of the task cartpole")
    rules = f"{GAME} {GAMES} {STEPS} {BATCHES} {GAMMA} {sorted(SEEDS.items())} {sorted(SCORED.items())}"
    versions = {"torch": str(torch.__version__), "gymnasium": gymnasium.__version__}
    return make_data(Content({}), dict(SCORED), [rules.encode()], **versions)


def _make_games(count: int) -> Any:
    """Return `count` games that are played in parallel; each restarts in the step after its end."""
    import gymnasium

    return gymnasium.make_vec(GAME, num_envs=count, vectorization_mode="vector_entry_point")
