"""On several processes: the numbers of one, the norm of all, and checkpoints that fit any number of them."""

import copy
import os
import pathlib
import re
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this torch is built without torch.distributed", allow_module_level=True)

import torch.distributed as dist  # noqa: E402
import torch.distributed.checkpoint as dcp  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner  # noqa: E402
from torch.distributed.checkpoint.state_dict import (  # noqa: E402
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.fsdp import fully_shard  # noqa: E402
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from ranks import Ranks  # noqa: E402
from rmsprop.torch import RMSprop, release_gradients  # noqa: E402

# What torch says when one process reads or writes a checkpoint without a group, even when it is told no_dist=True.
pytestmark = pytest.mark.filterwarnings(
    "ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning"
)

bf16 = torch.bfloat16

# Every rule whose result does not depend on noise, so that bits can be compared.
EXACT = {
    "defaults": {},
    "momentum": {"momentum": 0.9, "weight_decay": 0.1},
    "centered": {"momentum": 0.9, "centered": True},
    "sb3": {"dialect": "sb3"},
    "corrected decay": {"dialect": "timm", "momentum": 0.9, "weight_decay": 0.1},
    "tensor lr": {"lr": 0.02, "tensor_lr": True},
    "float64": {"dtype": torch.float64, "centered": True},
    "float16": {"dtype": torch.float16, "momentum": 0.9},
    "bfloat16": {"dtype": bf16},
    "compensated": {"dtype": bf16, "param_rounding": "compensated", "momentum": 0.9},
    "capturable": {"capturable": True, "momentum": 0.9},
}
# Their noise follows the place of an element in its own tensor, so a shard's is not the whole tensor's.
NOISY = {
    "stochastic": {"dtype": bf16, "param_rounding": "stochastic", "momentum": 0.9},
    "bfloat16 state": {"state_dtype": "bfloat16", "centered": True},
    "8-bit state": {"state_dtype": "8bit", "momentum": 0.9},
    "8-bit centered": {"state_dtype": "8bit", "centered": True},
}
ALL = EXACT | NOISY


@pytest.fixture(scope="module")
def two():
    ranks = Ranks(2)
    yield ranks
    ranks.stop()


@pytest.fixture(scope="module")
def four():
    ranks = Ranks(4)
    yield ranks
    ranks.stop()


# ---- what runs on every rank -----------------------------------------------------------------------------------------


def network(dtype=torch.float32):
    """Seven inputs and one output: no axis divides by 2, and the last layer leaves ranks without an element."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 45), nn.Tanh(), nn.Linear(45, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)


def setup(case, *, shard=False, cls=RMSprop, mesh=None):
    options = {"lr": 0.01, **ALL.get(case, {})} if isinstance(case, str) else {"lr": 0.01, **case}
    model = network(options.pop("dtype", torch.float32))
    if options.pop("tensor_lr", False):
        options["lr"] = torch.tensor(options["lr"])
    if shard:
        mesh = mesh or init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in model:
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    return model, cls(model.parameters(), **options)


def give_gradients(model, seed):
    """The same gradients on every rank and however the model is sharded; a few of them tiny, a few huge."""
    random = torch.Generator().manual_seed(seed)
    for param in model.parameters():
        grad = torch.randn(param.shape, generator=random) * 10.0 ** torch.randint(-3, 2, param.shape, generator=random)
        grad = grad.to(param.dtype)
        if isinstance(param, DTensor):
            grad = distribute_tensor(grad, param.device_mesh, param.placements)
        param.grad = grad


def steps(model, optimizer, first, last):
    for seed in range(first, last):
        give_gradients(model, seed)
        optimizer.step()


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def assert_same_bits(model, expected):
    for (name, mine), (_, other) in zip(model.named_parameters(), expected.named_parameters()):
        torch.testing.assert_close(whole(mine), whole(other), rtol=0, atol=0, msg=lambda text, name=name: name + text)


def assert_moved(model):
    assert not any(torch.equal(whole(p), q) for p, q in zip(model.parameters(), network(p_dtype(model)).parameters()))


def p_dtype(model):
    return next(model.parameters()).dtype


def batches(n, dtype):
    random = torch.Generator().manual_seed(1)
    return [torch.randn(8, 7, generator=random).to(dtype) for _ in range(n)]


def loss_of(model, x):
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def fit(model, optimizer, data):
    for x in data:
        optimizer.zero_grad()
        loss_of(model, x).backward()
        optimizer.step()


# ---- DistributedDataParallel -----------------------------------------------------------------------------------------


def ddp_on_equal_data(case):
    single, single_optimizer = setup(case)
    model, optimizer = setup(case)
    parallel = DistributedDataParallel(model)
    data = batches(4, p_dtype(model))
    fit(single, single_optimizer, data)
    fit(parallel, optimizer, data)
    assert_moved(model)
    assert_same_bits(model, single)


@pytest.mark.parametrize("case", ALL)
def test_ddp_on_equal_data_has_the_bits_of_one_process(two, case):
    two(ddp_on_equal_data, case)


@pytest.mark.parametrize("max_norm", [0.05, 1e6])
def test_ddp_clips_as_one_process_does(two, max_norm):
    two(ddp_on_equal_data, {"max_norm": max_norm, "momentum": 0.9})


def ddp_on_split_data(case, rtol):
    single, single_optimizer = setup(case)
    model, optimizer = setup(case)
    parallel = DistributedDataParallel(model)
    data = batches(4, p_dtype(model))
    fit(single, single_optimizer, data)
    rank, size = dist.get_rank(), dist.get_world_size()
    fit(parallel, optimizer, [x.chunk(size)[rank] for x in data])
    for mine, other in zip(model.parameters(), single.parameters()):
        torch.testing.assert_close(mine, other, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("case", [{}, {"momentum": 0.9, "centered": True}, {"max_norm": 0.05}, {"dialect": "sb3"}])
def test_ddp_on_halves_of_the_data_equals_one_process_to_rounding(two, case):
    two(ddp_on_split_data, {"dtype": torch.float64, **case}, 1e-12)


def ddp_bits(case):
    model, optimizer = setup(case)
    rank, size = dist.get_rank(), dist.get_world_size()
    fit(DistributedDataParallel(model), optimizer, [x.chunk(size)[rank] for x in batches(4, p_dtype(model))])
    return [p.detach().view(torch.int16 if p.dtype == bf16 else torch.int32).tolist() for p in model.parameters()]


@pytest.mark.parametrize("case", NOISY)
def test_replicas_stay_equal_when_rounding_is_random(two, case):
    first, second = two(ddp_bits, case)
    assert first == second


def ddp_release_is_refused():
    model, optimizer = setup("defaults")
    try:
        release_gradients(DistributedDataParallel(model), optimizer)
    except ValueError as error:
        return str(error)
    return None


def test_gradient_release_under_ddp_is_refused_with_the_reason(two):
    for message in two(ddp_release_is_refused):
        assert "DistributedDataParallel averages gradients after backward" in message
        assert "fully_shard" in message


# ---- FSDP2 and other distributed tensors -----------------------------------------------------------------------------


def sharded_equals_unsharded(case, n_steps=5):
    single, single_optimizer = setup(case)
    model, optimizer = setup(case, shard=True)
    steps(single, single_optimizer, 0, n_steps)
    steps(model, optimizer, 0, n_steps)
    assert_moved(model)
    assert_same_bits(model, single)
    assert all(isinstance(p, DTensor) for p in model.parameters())


@pytest.mark.parametrize("case", EXACT)
def test_fsdp2_has_the_bits_of_the_unsharded_model(two, case):
    two(sharded_equals_unsharded, case)


def shards_are_tensors_of_their_own(case):
    model, optimizer = setup(case, shard=True)
    options = {"lr": 0.01, **ALL[case]}
    options.pop("dtype", None)
    own = [nn.Parameter(p.to_local().detach().clone()) for p in model.parameters()]
    own_optimizer = RMSprop(own, **options)
    for seed in range(5):
        give_gradients(model, seed)
        for mine, param in zip(own, model.parameters()):
            mine.grad = param.grad.to_local().clone()
        optimizer.step()
        own_optimizer.step()
    assert_moved(model)
    for mine, param in zip(own, model.parameters()):
        torch.testing.assert_close(param.to_local(), mine.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("case", NOISY)
def test_under_fsdp2_each_shard_is_rounded_like_a_tensor_of_its_own(two, case):
    two(shards_are_tensors_of_their_own, case)


def fsdp_fit(case, rtol):
    single, single_optimizer = setup(case)
    model, optimizer = setup(case, shard=True)
    data = batches(6, p_dtype(model))
    fit(single, single_optimizer, data)
    rank, size = dist.get_rank(), dist.get_world_size()
    fit(model, optimizer, [x.chunk(size)[rank] for x in data])
    for mine, other in zip(model.parameters(), single.parameters()):
        torch.testing.assert_close(whole(mine), other.detach(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("case", [{}, {"momentum": 0.9, "centered": True}, {"max_norm": 0.05}, {"dialect": "sb3"}])
def test_fsdp2_on_halves_of_the_data_equals_one_process_to_rounding(two, case):
    two(fsdp_fit, {"dtype": torch.float64, **case}, 1e-12)


def clipped(dtype, max_norm):
    case = {"max_norm": max_norm, "momentum": 0.9, "dtype": dtype}
    model, optimizer = setup(case, shard=True)
    single, single_optimizer = setup({"momentum": 0.9, "dtype": dtype})
    norms = []
    for seed in range(3):
        for each in (model, single):
            give_gradients(each, seed)
        norms.append(float(nn.utils.clip_grad_norm_(single.parameters(), max_norm)))
        single_optimizer.step()
        optimizer.step()
        norms[-1] = (norms[-1], optimizer.grad_norm)
    for mine, other in zip(model.parameters(), single.parameters()):
        torch.testing.assert_close(whole(mine), other.detach(), rtol=1e-12, atol=1e-12)
    return norms


@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_fsdp2_clips_to_the_norm_over_all_shards_of_all_ranks(two, max_norm):
    for norms in two(clipped, torch.float64, max_norm):
        for expected, norm in norms:
            assert norm == pytest.approx(expected, rel=1e-14)
            assert 1 < norm < 1e6


def only_one_rank_has_a_gradient():
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    grad = torch.zeros(4, 3, dtype=torch.float64)
    grad[0, 0], grad[0, 1] = 3.0, 4.0  # norm 5, all of it on rank 0
    param = nn.Parameter(distribute_tensor(torch.zeros(4, 3, dtype=torch.float64), mesh, [Shard(0)]))
    param.grad = distribute_tensor(grad, mesh, [Shard(0)])
    optimizer = RMSprop([param], lr=1.0, alpha=0.0, eps=1.0, max_norm=1.0)
    optimizer.step()
    return optimizer.grad_norm, whole(param.detach())[0].tolist()


def test_ranks_with_zero_gradients_know_the_norm_of_the_others(two):
    for norm, row in two(only_one_rank_has_a_gradient):
        assert norm == pytest.approx(5.0, rel=1e-15)
        # alpha 0: v = g^2, so the step is g / (|g| + 1) with g scaled to 3/5 and 4/5.
        assert row == pytest.approx([-0.6 / 1.6, -0.8 / 1.8, 0.0], rel=1e-5)


def part_sharded():
    """Only the middle layer is sharded; the others are plain tensors, the same on every rank."""
    options = {"dtype": torch.float64, "max_norm": 0.5}
    model, _ = setup(options)
    fully_shard(model[2], mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = RMSprop(model.parameters(), lr=0.01, max_norm=0.5)
    single, single_optimizer = setup(options)
    steps(model, optimizer, 0, 3)
    steps(single, single_optimizer, 0, 3)
    assert optimizer.grad_norm == pytest.approx(single_optimizer.grad_norm, rel=1e-14)
    for mine, other in zip(model.parameters(), single.parameters()):
        torch.testing.assert_close(whole(mine), other.detach(), rtol=1e-12, atol=1e-12)


def test_the_norm_covers_sharded_and_plain_parameters_of_one_model(two):
    two(part_sharded)


def partial_gradient(placement):
    """A replicated parameter whose gradient is still one summand per rank, as DTensor's own autograd leaves it."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    start = torch.linspace(-1, 1, 12).reshape(4, 3)
    summands = [torch.arange(12.0).reshape(4, 3) - 3, 5 - torch.arange(12.0).reshape(4, 3) ** 1.5]
    param = nn.Parameter(distribute_tensor(start, mesh, [placement]))
    single = nn.Parameter(start.clone())
    optimizer, single_optimizer = RMSprop([param], momentum=0.9), RMSprop([single], momentum=0.9)
    for _ in range(3):
        param.grad = DTensor.from_local(summands[dist.get_rank()], mesh, [Partial("sum")])
        single.grad = summands[0] + summands[1]
        optimizer.step()
        single_optimizer.step()
    torch.testing.assert_close(whole(param.detach()), single.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("placement", [Replicate(), Shard(0)], ids=str)
def test_a_partial_gradient_is_summed_over_the_ranks_first(two, placement):
    two(partial_gradient, placement)


def otherwise_sharded_gradient():
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    start, grad = torch.linspace(-1, 1, 16).reshape(4, 4), torch.arange(16.0).reshape(4, 4)
    param, single = nn.Parameter(distribute_tensor(start, mesh, [Shard(0)])), nn.Parameter(start.clone())
    param.grad, single.grad = distribute_tensor(grad, mesh, [Shard(1)]), grad
    RMSprop([param]).step()
    RMSprop([single]).step()
    torch.testing.assert_close(whole(param.detach()), single.detach(), rtol=0, atol=0)


def test_a_gradient_sharded_along_another_axis_is_brought_to_its_parameter(two):
    two(otherwise_sharded_gradient)


def hybrid(case):
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    single, single_optimizer = setup(case)
    model, optimizer = setup(case, shard=True, mesh=mesh)
    steps(single, single_optimizer, 0, 4)
    steps(model, optimizer, 0, 4)
    assert_same_bits(model, single)


def both_axes_sharded():
    mesh = init_device_mesh("cpu", (2, 2))
    placements = [Shard(0), Shard(1)]
    random = torch.Generator().manual_seed(0)
    start = torch.randn(7, 9, generator=random)
    param, single = nn.Parameter(distribute_tensor(start, mesh, placements)), nn.Parameter(start.clone())
    optimizer, single_optimizer = RMSprop([param], max_norm=1.0), RMSprop([single], max_norm=1.0)
    grad = torch.randn(7, 9, generator=random)
    param.grad, single.grad = distribute_tensor(grad, mesh, placements), grad
    optimizer.step()
    single_optimizer.step()
    assert optimizer.grad_norm == pytest.approx(single_optimizer.grad_norm, rel=1e-6)
    torch.testing.assert_close(whole(param.detach()), single.detach(), rtol=1e-6, atol=1e-6)


def test_replicated_shards_and_shards_along_two_axes_equal_one_process(four):
    four(hybrid, "centered")
    four(both_axes_sharded)


def release_under_fsdp(case):
    single, single_optimizer = setup(case)
    model, optimizer = setup(case, shard=True)
    release_gradients(model, optimizer)
    for x in batches(4, p_dtype(model)):
        loss_of(model, x).backward()
        assert all(p.grad is None for p in model.parameters())
        optimizer.step()
    fit(single, single_optimizer, batches(4, p_dtype(model)))
    assert_same_bits(model, single)


def test_gradient_release_works_under_fsdp2(two):
    two(release_under_fsdp, "momentum")


# ---- torch.distributed.checkpoint ------------------------------------------------------------------------------------


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


# ---- the examples ----------------------------------------------------------------------------------------------------


def torchrun(processes, example, *arguments):
    script = pathlib.Path(__file__).parent.parent / "examples" / example
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command = [*launch, "--nproc-per-node", str(processes), str(script), *map(str, arguments)]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = run.communicate(timeout=200)
    finally:
        if run.poll() is None:
            run.terminate()  # torchrun ends its workers, which are in sessions of their own
            run.wait(60)
    assert run.returncode == 0, output
    return output


def losses(output):
    return [float(text) for text in re.findall(r"loss ([0-9.]+)", output)]


def test_the_ddp_example_keeps_its_copies_equal():
    output = torchrun(2, "torch_ddp.py")
    weights = re.findall(r"rank (\d): weights (\w+)", output)
    assert {rank for rank, _ in weights} == {"0", "1"}, output
    assert len({checksum for _, checksum in weights}) == 1
    assert losses(output)[-1] < losses(output)[0] / 2


def test_the_fsdp2_example_goes_on_with_another_number_of_processes(tmp_path):
    first = torchrun(2, "torch_fsdp2.py", tmp_path)
    assert "2 processes, step 0: " in first
    then = torchrun(1, "torch_fsdp2.py", tmp_path)
    assert "1 processes, step 20: " in then
    assert "step 0:" not in then
    assert losses(then)[-1] < losses(first)[-1] < losses(first)[0]
