"""Promise: whatever a program does to an optimizer between steps, the next step is what torch or the formula says.

Hypothesis draws the programs: always the same few, or FUZZ_EXAMPLES new ones (`make fuzz`).
"""

from __future__ import annotations

import copy
import io
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import rmsprop
from cases import COVERING, same_bits
from rmsprop import formula

torch = pytest.importorskip("torch", reason="torch is not installed")

from rmsprop.torch import RMSprop  # noqa: E402

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SETTINGS = settings(
    max_examples=EXAMPLES or 40, derandomize=not EXAMPLES, stateful_step_count=30, deadline=None, database=None
)
CHANGES = [("lr", 0.0), ("lr", 0.03), ("alpha", 0.99), ("eps", 1e-3), ("weight_decay", 0.1), ("maximize", True)]
PLACES = st.integers(0, 99)


class Torch(RuleBasedStateMachine):
    """The PyTorch front end and torch's own optimizer over equal parameters with equal gradients."""

    @initialize(
        wide=st.booleans(), centered=st.booleans(), momentum=st.sampled_from([0.0, 0.9]), maximize=st.booleans()
    )
    def make(self, wide, **options):
        self.draws, self.draws_grads = 0, True
        self.options = {"lr": 0.01, "alpha": 0.9, **options}
        self.dtype = torch.float64 if wide else torch.float32
        self.rounded = not wide
        self.optimizers = [
            cls([{"params": group} for group in groups], **self.options)
            for cls, groups in zip((RMSprop, torch.optim.RMSprop), zip(*map(self.draw_params, ((), (3, 5)))))
        ]

    def draw(self, shape):
        self.draws += 1
        return torch.from_numpy(np.random.default_rng(self.draws).normal(size=shape)).to(self.dtype)

    def draw_params(self, shape):
        """Return a list of one parameter for each of the two optimizers."""
        values = self.draw(shape)
        return [[torch.nn.Parameter(values.clone())] for _ in range(2)]

    def choose(self, place):
        """Return the group at a place, and its first parameter, of each optimizer."""
        groups = [o.param_groups[place % len(o.param_groups)] for o in self.optimizers]
        return [(group, group["params"][0]) for group in groups]

    @invariant()
    def step(self):
        ours, theirs = map(self.list_params, self.optimizers)
        for pair in zip(ours, theirs) if self.draws_grads else ():
            grad = self.draw(pair[0].shape)
            for param in pair:
                param.grad = grad.clone() if param.requires_grad else None
        self.draws_grads = True
        for optimizer in self.optimizers:
            optimizer.step()
        tolerance = 1e-4 if self.rounded else 1e-9  # of 30 steps of size 0.1 that each round a few times
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        for mine, other in zip(ours, theirs):
            states = [o.state.get(p, {}) for o, p in zip(self.optimizers, (mine, other))]
            assert len({float(state.get("step", 0)) for state in states}) == 1

    @staticmethod
    def list_params(optimizer):
        return [param for group in optimizer.param_groups for param in group["params"]]

    @rule()
    def keep_grads(self):
        self.draws_grads = False

    @rule(to_none=st.booleans())
    def zero_grad(self, to_none):
        self.draws_grads = False
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=to_none)

    @rule(place=PLACES, frozen=st.booleans())
    def freeze(self, place, frozen):
        for _, param in self.choose(place):
            param.requires_grad_(not frozen)
            param.grad = None

    @precondition(lambda self: self.draws < 60)
    @rule(shape=st.sampled_from([(1,), (7,), (2, 3, 2, 2)]), own=st.sampled_from([{}, {"lr": 0.1}, {"eps": 1e-3}]))
    def add_param_group(self, shape, own):
        for optimizer, params in zip(self.optimizers, self.draw_params(shape)):
            optimizer.add_param_group({"params": params, **own})

    @rule(place=PLACES, change=st.sampled_from(CHANGES))
    def change_number(self, place, change):
        for group, _ in self.choose(place):
            group.update([change])

    @precondition(lambda self: self.options["momentum"])  # torch cannot start a buffer later
    @rule(place=PLACES, momentum=st.sampled_from([0.5, 0.9]))
    def change_momentum(self, place, momentum):
        for group, _ in self.choose(place):
            group["momentum"] = momentum

    @rule(place=PLACES)
    def stop_centering(self, place):
        for group, _ in self.choose(place):
            group["centered"] = False

    @rule(wide=st.booleans())
    def change_dtype(self, wide):
        self.dtype = torch.float64 if wide else torch.float32
        self.rounded |= not wide
        for optimizer in self.optimizers:
            for param in self.list_params(optimizer):
                param.data, param.grad = param.data.to(self.dtype), None
        for state in self.optimizers[1].state.values():  # which torch leaves to its user
            state.update({key: value.to(self.dtype) for key, value in state.items() if key != "step"})

    @rule(place=PLACES)
    def change_memory_order(self, place):
        for _, param in self.choose(place):
            param.data = param.data.mT.contiguous().mT if param.ndim > 1 else param.data.clone()

    @rule(place=PLACES)
    def write_into(self, place):
        for _, param in self.choose(place):
            param.data.mul_(0.5).add_(0.1)

    @rule(copied=st.sampled_from([copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]))
    def replace_by_copy(self, copied):
        self.optimizers = copied(self.optimizers)

    @rule(crossed=st.booleans())
    def resume(self, crossed):
        """Load each checkpoint, or each other's, into new optimizers over copies of the parameters."""
        files = [io.BytesIO(), io.BytesIO()]
        for optimizer, file in zip(self.optimizers, files):
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
        for i, optimizer in enumerate(self.optimizers):
            groups = [{"params": copy.deepcopy(group["params"])} for group in optimizer.param_groups]
            self.optimizers[i] = type(optimizer)(groups, **self.options)
            self.optimizers[i].load_state_dict(torch.load(files[i ^ crossed]))

    @rule()
    def forget(self):
        self.optimizers[0].reset_state()
        self.optimizers[1].state.clear()


GRADS = {
    "plain": lambda grad: grad,
    "none": lambda grad: None,
    "fortran": np.asfortranarray,
    "strided": lambda grad: np.repeat(grad, 2, axis=0)[::2],
    "other dtype": lambda grad: grad.astype("float32" if grad.dtype == np.float64 else "float64"),
    "list": lambda grad: grad.tolist(),
}


class NumPy(RuleBasedStateMachine):
    """The NumPy front end and the formula: the same bits."""

    @initialize(name=st.sampled_from(sorted(COVERING)))
    def make(self, name):
        self.rule, self.lr, self.lr_once, self.draws = COVERING[name], 0.01, None, 0
        self.kinds = ("plain",) * 3
        shapes = [("float32", (7,)), ("float64", (3, 5)), ("float32", (2, 3))]
        self.leaves = [self.draw(shape).astype(dtype) for dtype, shape in shapes]
        self.optimizer = self.make_optimizer([leaf.copy("F") for leaf in self.leaves])
        self.forget()

    def make_optimizer(self, params):
        return rmsprop.RMSprop(params, lr=self.lr, dialect=self.rule)

    def draw(self, shape):
        self.draws += 1
        return np.random.default_rng(self.draws).normal(size=shape)

    @rule(kinds=st.tuples(*[st.sampled_from(sorted(GRADS))] * 3), lr_once=st.sampled_from([None, 0.0, 0.1]))
    def change_arguments(self, kinds, lr_once):
        self.kinds, self.lr_once = kinds, lr_once

    @invariant()
    def step(self):
        grads = [GRADS[kind](self.draw(leaf.shape).astype(leaf.dtype)) for kind, leaf in zip(self.kinds, self.leaves)]
        self.optimizer.step(grads, lr=self.lr_once)
        lr, self.lr_once = self.lr if self.lr_once is None else self.lr_once, None
        self.calls += 1
        self.lr_max = max(self.lr_max, lr)
        for i, grad in enumerate(grads):
            if grad is None:
                continue
            self.steps[i] += 1
            leaf, grad = self.leaves[i], np.asarray(grad, self.leaves[i].dtype)
            numbers = {"lr": lr, "lr_max": self.lr_max, "step": self.steps[i]}
            self.leaves[i], self.buffers[i] = formula.step(leaf, grad, self.buffers[i], self.rule, **numbers)
        assert (self.optimizer.step_count, self.optimizer.steps.tolist()) == (self.calls, self.steps)
        for mine, expected in zip(self.optimizer.params, self.leaves):
            assert same_bits(mine, expected)

    @rule(lr=st.sampled_from([0.001, 0.3]))
    def change_lr(self, lr):
        self.lr = self.optimizer.lr = lr

    @rule(place=PLACES)
    def write_into(self, place):
        for leaves in (self.optimizer.params, self.leaves):
            leaves[place % 3][...] *= 0.5

    @rule(copied=st.sampled_from([copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]))
    def replace_by_copy(self, copied):
        self.optimizer = copied(self.optimizer)

    @rule()
    def save_and_load(self):
        with tempfile.TemporaryDirectory() as folder:
            self.optimizer.save(Path(folder, "run.safetensors"))
            self.optimizer = self.make_optimizer([np.zeros_like(leaf) for leaf in self.optimizer.params])
            self.optimizer.load(Path(folder, "run.safetensors"))

    @rule()
    def forget(self):
        self.optimizer.reset_state()
        self.calls, self.steps, self.lr_max = 0, [0, 0, 0], 0.0
        self.buffers = [{name: np.zeros_like(leaf) for name in self.rule.buffers} for leaf in self.leaves]
        for buffers in self.buffers:
            buffers["grad_var" if self.rule.centered else "mean_sq"] += self.rule.init_value


TestTorch, TestNumPy = Torch.TestCase, NumPy.TestCase
TestTorch.settings = TestNumPy.settings = SETTINGS
