"""Groups of processes, and the models, gradients and comparisons of the tests that run on them."""

from __future__ import annotations

import contextlib
import datetime
import faulthandler
import multiprocessing
import os
import signal
import tempfile
import warnings
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait

import pytest
import torch
import torch.distributed as dist

if not dist.is_available():
    pytest.skip("this torch is built without torch.distributed", allow_module_level=True)

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from rmsprop.torch import RMSprop

TIMEOUT = 200
"""Seconds that a job may take; a collective that waits for a failed rank gives up earlier."""

# ---- processes -------------------------------------------------------------------------------------------------------


class Ranks:
    """Processes that form one gloo group: `ranks(job, *args)` returns what `job(*args)` returned on rank 0, 1, ..."""

    def __init__(self, size):
        self.size = size
        self._executors, self._pids = [], []

    def __call__(self, job, *args):
        if not self._executors:
            self._start()
        futures = [executor.submit(_run_job, job, args) for executor in self._executors]
        done, running = wait(futures, TIMEOUT, return_when=FIRST_EXCEPTION)
        failures = [future.exception() for future in done if future.exception()]
        if failures or running:
            self.stop()  # the other ranks may wait for the failed one
            raise failures[0] if failures else TimeoutError(f"{len(running)} ranks did not end within {TIMEOUT} s")
        return [future.result() for future in futures]

    def _start(self):
        # A file instead of a port: no other program can take it between choosing and using.
        self._folder = tempfile.TemporaryDirectory(prefix="ranks")
        context = multiprocessing.get_context("spawn")
        for rank in range(self.size):
            arguments = (rank, self.size, f"file://{self._folder.name}/meeting")
            self._executors.append(ProcessPoolExecutor(1, context, _join_group, arguments))
        self._pids = [future.result() for future in [e.submit(os.getpid) for e in self._executors]]

    def stop(self):
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # an orderly end would wait for ranks that hang
        for executor in self._executors:
            executor.shutdown()
        if self._executors:
            self._folder.cleanup()
        self._executors, self._pids = [], []


def _join_group(rank, size, meeting):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=150)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=timeout)


def _run_job(job, args):
    faulthandler.dump_traceback_later(TIMEOUT - 20)  # shows where a job hangs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # torch.distributed.checkpoint uses deprecated classes of torch.
            warnings.filterwarnings("ignore", "Please use DTensor instead", FutureWarning)
            warnings.filterwarnings("ignore", "TypedStorage is deprecated", UserWarning)
            return job(*args)
    finally:
        faulthandler.cancel_dump_traceback_later()


# ---- models ----------------------------------------------------------------------------------------------------------

# The results of these do not depend on random rounding, so bits can be compared.
EXACT = {
    "defaults": {},
    "momentum": {"momentum": 0.9, "weight_decay": 0.1},
    "centered": {"momentum": 0.9, "centered": True},
    "sb3": {"dialect": "sb3"},
    "corrected decay": {"dialect": "timm", "momentum": 0.9, "weight_decay": 0.1},
    "tensor lr": {"lr": 0.02, "tensor_lr": True},
    "float64": {"dtype": torch.float64, "centered": True},
    "float16": {"dtype": torch.float16, "momentum": 0.9},
    "bfloat16": {"dtype": torch.bfloat16},
    "compensated": {"dtype": torch.bfloat16, "param_rounding": "compensated", "momentum": 0.9},
    "capturable": {"capturable": True, "momentum": 0.9},
}

# Random numbers follow the place of an element in its tensor, so those of a shard differ from those of the full tensor.
RANDOM = {
    "stochastic": {"dtype": torch.bfloat16, "param_rounding": "stochastic", "momentum": 0.9},
    "bfloat16 state": {"state_dtype": "bfloat16", "centered": True},
    "8-bit state": {"state_dtype": "8bit", "momentum": 0.9},
    "8-bit centered": {"state_dtype": "8bit", "centered": True},
}


def make_network(dtype=torch.float32):
    """Seven inputs and one output: no axis divides by 2, and the last layer leaves ranks without an element."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 45), nn.Tanh(), nn.Linear(45, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)


def set_up(case, *, shard=False, cls=RMSprop, mesh=None):
    """Make a model and its optimizer; `case` is a name in EXACT or RANDOM, or options."""
    options = {"lr": 0.01, **(case if isinstance(case, dict) else (EXACT | RANDOM)[case])}
    model = make_network(options.pop("dtype", torch.float32))
    if options.pop("tensor_lr", False):
        options["lr"] = torch.tensor(options["lr"])
    if shard:
        mesh = mesh or init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in (model[0], model[2], model[4], model):
            fully_shard(layer, mesh=mesh)
    return model, cls(model.parameters(), **options)


def gather(tensor):
    """Return all of a tensor on every rank."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def assert_near(model, expected, tolerance=0.0, atol=None):
    atol = tolerance if atol is None else atol
    for (name, mine), other in zip(model.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(gather(mine), gather(other), rtol=tolerance, atol=atol, msg=lambda s, n=name: n + s)


def assert_has_moved(model):
    start = make_network(get_dtype(model))
    assert not any(torch.equal(gather(p), q) for p, q in zip(model.parameters(), start.parameters()))


def get_dtype(model):
    return next(model.parameters()).dtype


def draw_batches(n, dtype):
    random = torch.Generator().manual_seed(1)
    return [torch.randn(8, 7, generator=random).to(dtype) for _ in range(n)]


def take_share(batches):
    """Return this rank's part of each batch."""
    return [x.chunk(dist.get_world_size())[dist.get_rank()] for x in batches]


def compute_loss(model, x):
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def fit(model, optimizer, batches):
    for x in batches:
        optimizer.zero_grad()
        compute_loss(model, x).backward()
        optimizer.step()
