"""Promise: a checkpoint of torch.distributed.checkpoint fits any number of processes."""

import copy

import pytest

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this torch is built without torch.distributed", allow_module_level=True)

import torch.distributed as dist  # noqa: E402
import torch.distributed.checkpoint as dcp  # noqa: E402
from distributing import (  # noqa: E402
    EXACT,
    assert_moved,
    assert_same_bits,
    four_ranks,  # noqa: F401
    give_gradients,
    setup,
    steps,
    two_ranks,  # noqa: F401
    whole,
)
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner  # noqa: E402
from torch.distributed.checkpoint.state_dict import (  # noqa: E402
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from rmsprop.torch import RMSprop  # noqa: E402

# What torch says when one process reads or writes a checkpoint without a group, even when it is told no_dist=True.
pytestmark = pytest.mark.filterwarnings(
    "ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning"
)


def write(folder, case, cls=RMSprop, first=3):
    model, optimizer = setup(case, shard=dist.is_initialized(), cls=cls)
    steps(model, optimizer, 0, first)
    content = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}
    dcp.save(content, checkpoint_id=folder, no_dist=not dist.is_initialized())


def resume(folder, case, cls=RMSprop, partial=False):
    """Return a model that never stopped and one that went on from the checkpoint, six steps old both."""
    single, single_optimizer = setup(case, cls=cls)
    steps(single, single_optimizer, 0, 6)
    shard = dist.is_initialized()
    model, optimizer = setup(case, shard=shard, cls=cls)
    with torch.no_grad():
        for param in model.parameters():
            param.zero_()
    content = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}
    planner = DefaultLoadPlanner(allow_partial_load=partial)
    dcp.load(content, checkpoint_id=folder, planner=planner, no_dist=not shard)
    set_model_state_dict(model, content["model"])
    set_optimizer_state_dict(model, optimizer, content["optimizer"])
    steps(model, optimizer, 3, 6)
    return model, single


def resume_exactly(folder, case, cls=RMSprop, partial=False):
    model, single = resume(folder, case, cls, partial)
    assert_moved(single)
    assert_same_bits(model, single)


@pytest.mark.parametrize("case", EXACT)
def test_a_checkpoint_of_two_ranks_resumes_on_one_two_and_four(two, four, tmp_path, case):
    two(write, tmp_path, case)
    resume_exactly(tmp_path, case)
    two(resume_exactly, tmp_path, case)
    four(resume_exactly, tmp_path, case)


def test_a_checkpoint_of_one_process_resumes_on_two_ranks(two, tmp_path):
    write(tmp_path, "compensated")
    two(resume_exactly, tmp_path, "compensated")


@pytest.mark.parametrize("case", ["momentum", "centered"])
def test_a_checkpoint_of_torchs_own_rmsprop_resumes_here_and_back(two, tmp_path, case):
    two(write, tmp_path / "theirs", case, torch.optim.RMSprop)
    two(resume_closely, tmp_path / "theirs", case, RMSprop, True)
    two(write, tmp_path / "ours", case, RMSprop)
    two(resume_closely, tmp_path / "ours", case, torch.optim.RMSprop)


def resume_closely(folder, case, cls, partial=False):
    model, single = resume(folder, case, cls, partial)
    for mine, other in zip(model.parameters(), single.parameters()):
        torch.testing.assert_close(whole(mine), other.detach(), rtol=1e-4, atol=1e-6)


def test_a_centered_state_that_torch_trained_on_is_not_mixed_with_an_older_variance_of_ours():
    model, ours = setup("centered")
    steps(model, ours, 0, 3)
    theirs = torch.optim.RMSprop(model.parameters(), lr=0.01, momentum=0.9, centered=True)
    theirs.load_state_dict(ours.state_dict())
    steps(model, theirs, 3, 6)
    assert "grad_var" in theirs.state_dict()["state"][0]  # torch carries what it does not know along
    back = RMSprop(model.parameters(), lr=0.01, momentum=0.9, centered=True)
    back.load_state_dict(theirs.state_dict())
    twin = copy.deepcopy(model)
    theirs_on = torch.optim.RMSprop(twin.parameters(), lr=0.01, momentum=0.9, centered=True)
    theirs_on.load_state_dict(theirs.state_dict())
    steps(model, back, 6, 9)
    steps(twin, theirs_on, 6, 9)
    for mine, other in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def eight_bit_goes_on(folder, case):
    """Save, go on; load, go on: the same bits on the same number of ranks."""
    model, optimizer = setup(case, shard=True)
    steps(model, optimizer, 0, 3)
    content = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}
    kept = copy.deepcopy(content)
    dcp.save(content, checkpoint_id=folder)
    steps(model, optimizer, 3, 6)
    resumed, resumed_optimizer = setup(case, shard=True)
    dcp.load(kept, checkpoint_id=folder)
    set_model_state_dict(resumed, kept["model"])
    set_optimizer_state_dict(resumed, resumed_optimizer, kept["optimizer"])
    steps(resumed, resumed_optimizer, 3, 6)
    assert any(key.endswith("_8bit") for key in resumed_optimizer.state[next(resumed.parameters())])
    assert_same_bits(resumed, model)


@pytest.mark.parametrize("case", ["8-bit state", "8-bit centered"])
def test_an_8_bit_state_resumes_with_the_same_bits_on_the_same_number_of_ranks(two, tmp_path, case):
    two(eight_bit_goes_on, tmp_path, case)


def sharded_8_bit(folder):
    model, optimizer = setup("8-bit state", shard=True)
    steps(model, optimizer, 0, 3)
    content = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}
    dcp.save(content, checkpoint_id=folder)
    return whole(optimizer.state_dict()["state"][0]["square_avg"]).tolist()


def test_a_sharded_8_bit_state_goes_on_in_one_process_by_way_of_float32(two, tmp_path):
    square, _ = two(sharded_8_bit, tmp_path)
    model, optimizer = setup({"momentum": 0.9})
    content = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}
    dcp.load(content, checkpoint_id=tmp_path, no_dist=True)
    set_model_state_dict(model, content["model"])
    set_optimizer_state_dict(model, optimizer, content["optimizer"])
    first = next(model.parameters())
    torch.testing.assert_close(optimizer.state[first]["square_avg"], torch.tensor(square), rtol=0, atol=0)
    optimizer.param_groups[0]["state_dtype"] = "8bit"
    give_gradients(model, 3)
    optimizer.step()
    assert optimizer.state[first]["square_avg_8bit"].dtype == torch.uint8
    assert "square_avg" not in optimizer.state[first]
    assert all(p.isfinite().all() for p in model.parameters())
