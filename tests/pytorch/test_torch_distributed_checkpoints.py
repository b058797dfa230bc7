"""Promise: a checkpoint of torch.distributed.checkpoint can be loaded on any number of processes."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from distributed_helpers import EXACT, assert_has_moved, assert_near, gather, set_up
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch_helpers import TorchRMSprop, train

from rmsprop.torch import RMSprop

pytestmark = [
    pytest.mark.distributed,
    # torch warns if one process reads or writes a checkpoint without a group, even with no_dist=True.
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning"),
]


def collect(model, optimizer):
    weights, state = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": state}


def write(folder, case, cls=RMSprop):
    model, optimizer = set_up(case, shard=dist.is_initialized(), cls=cls)
    train(optimizer, 3)
    dcp.save(collect(model, optimizer), checkpoint_id=folder, no_dist=not dist.is_initialized())
    return model, optimizer


def load(folder, model, optimizer, **options):
    content = collect(model, optimizer)
    dcp.load(content, checkpoint_id=folder, no_dist=not dist.is_initialized(), **options)
    set_state_dict(model, optimizer, model_state_dict=content["model"], optim_state_dict=content["optimizer"])


def resume(folder, case, cls=RMSprop, close=False):
    """Compare a run that never stopped with one that resumes from the checkpoint, both of six steps."""
    single, single_optimizer = set_up(case, cls=cls)
    train(single_optimizer, 6)
    model, optimizer = set_up(case, shard=dist.is_initialized(), cls=cls)
    with torch.no_grad():
        for param in model.parameters():
            param.zero_()
    # torch's centered state has no variance; all other checkpoints fit under a strict planner.
    load(folder, model, optimizer, planner=DefaultLoadPlanner(allow_partial_load=close and case == "centered"))
    train(optimizer, 3, start=3)
    assert_has_moved(single)
    assert_near(model, single, 1e-4 if close else 0.0, 1e-6 if close else 0.0)


@pytest.mark.parametrize("case", EXACT)
def test_a_checkpoint_of_two_ranks_resumes_on_one_two_and_four(two, four, tmp_path, case):
    two(write_on_rank, tmp_path, case)
    resume(tmp_path, case)
    two(resume, tmp_path, case)
    four(resume, tmp_path, case)


def write_on_rank(*args):
    write(*args)


def test_a_checkpoint_of_one_process_resumes_on_two_ranks(two, tmp_path):
    write(tmp_path, "compensated")
    two(resume, tmp_path, "compensated")


@pytest.mark.parametrize("case", ["momentum", "centered"])
def test_a_checkpoint_of_torchs_own_rmsprop_resumes_here_and_back(two, tmp_path, case):
    two(write_on_rank, tmp_path / "theirs", case, TorchRMSprop)
    two(resume, tmp_path / "theirs", case, RMSprop, True)
    two(write_on_rank, tmp_path / "ours", case, RMSprop)
    two(resume, tmp_path / "ours", case, TorchRMSprop, True)


def resume_8_bit(folder, case):
    """Save and go on; load and go on: the same bits on the same number of ranks."""
    model, optimizer = write(folder, case)
    train(optimizer, 3, start=3)
    resumed, resumed_optimizer = set_up(case, shard=True)
    train(resumed_optimizer, 1)
    load(folder, resumed, resumed_optimizer)
    train(resumed_optimizer, 3, start=3)
    assert any(key.endswith("_8bit") for key in resumed_optimizer.state[next(resumed.parameters())])
    assert_near(resumed, model)


@pytest.mark.parametrize("case", ["8-bit state", "8-bit centered"])
def test_an_8_bit_state_resumes_with_the_same_bits_on_the_same_number_of_ranks(two, tmp_path, case):
    two(resume_8_bit, tmp_path, case)


def write_8_bit(folder):
    _, optimizer = write(folder, "8-bit state")
    return gather(optimizer.state_dict()["state"][0]["square_avg"]).tolist()


def test_a_sharded_8_bit_state_resumes_in_one_process_through_float32(two, tmp_path):
    square, _ = two(write_8_bit, tmp_path)
    model, optimizer = set_up({"momentum": 0.9})
    load(tmp_path, model, optimizer)
    first = next(model.parameters())
    torch.testing.assert_close(optimizer.state[first]["square_avg"], torch.tensor(square), rtol=0, atol=0)
    optimizer.param_groups[0]["state_dtype"] = "8bit"
    train(optimizer, 1, start=3)
    assert optimizer.state[first]["square_avg_8bit"].dtype == torch.uint8
    assert "square_avg" not in optimizer.state[first]
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_centered_state_that_torch_trained_on_is_not_mixed_with_an_older_variance_of_ours():
    model, ours = set_up("centered")
    train(ours, 3)
    options = {"lr": 0.01, "momentum": 0.9, "centered": True}
    theirs = TorchRMSprop(model.parameters(), **options)
    theirs.load_state_dict(ours.state_dict())
    train(theirs, 3, start=3)
    assert "grad_var" in theirs.state_dict()["state"][0]  # torch keeps unknown entries
    twin = copy.deepcopy(model)
    for optimizer in (RMSprop(model.parameters(), **options), TorchRMSprop(twin.parameters(), **options)):
        optimizer.load_state_dict(theirs.state_dict())
        train(optimizer, 3, start=6)
    assert_near(model, twin, 1e-4, 1e-6)


FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


@pytest.mark.parametrize("case", ["defaults", "momentum", "centered"])
@pytest.mark.parametrize("by_planner", [True, False], ids=["planner", "dictionary"])
@pytest.mark.parametrize(("source", "target"), [(TorchRMSprop, RMSprop), (RMSprop, RMSprop), (RMSprop, TorchRMSprop)])
def test_a_flattened_checkpoint_resumes_in_torchs_class_and_here(tmp_path, source, target, by_planner, case):
    model, optimizer = set_up(case, cls=source)
    train(optimizer, 3)
    saved = get_optimizer_state_dict(model, optimizer, options=FLAT)
    if by_planner:
        dcp.save({"optimizer": saved}, checkpoint_id=tmp_path, no_dist=True)
    resumed, resumed_optimizer = set_up(case, cls=target)
    resumed.load_state_dict(model.state_dict())
    own = get_optimizer_state_dict(resumed, resumed_optimizer, options=FLAT)
    if by_planner:
        content = {"optimizer": own}
        lacks_variance = case == "centered" and source is TorchRMSprop
        planner = DefaultLoadPlanner(allow_partial_load=lacks_variance)
        dcp.load(content, checkpoint_id=tmp_path, no_dist=True, planner=planner)
        merged = content["optimizer"]
    else:
        merged = copy.deepcopy(saved)
    set_optimizer_state_dict(resumed, resumed_optimizer, merged, options=FLAT)
    for each in (optimizer, resumed_optimizer):
        train(each, 3, start=3)
    exact = source is target
    assert_near(resumed, model, 0.0 if exact else 1e-4, 0.0 if exact else 1e-6)
