"""Promise: the optimizer behaves as PyTorch expects, for every input of RMSprop's row in PyTorch's table of optimizers.

torch.testing._internal.common_optimizers ships the table, its inputs and its errors, but not the tests.
"""

import copy
import gc
import re
import tracemalloc

import pytest
import torch

pytest.importorskip("expecttest", reason="torch.testing._internal.common_optimizers imports it")
from torch.testing._internal.common_optimizers import (
    OptimizerErrorEnum,
    optim_db,
    optim_error_inputs_func_rmsprop,
    optim_inputs_func_rmsprop,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch_helpers import (
    RMSprop,
    TorchRMSprop,
    assert_near,
    assert_same_bits,
    draw_grads,
    list_params,
    make_params,
    read_bits,
    train,
)

TABLE = next(info for info in optim_db if info.optim_cls is TorchRMSprop)
INPUTS = {given.desc: given.kwargs for given in optim_inputs_func_rmsprop("cpu")}
ERRORS = {given.optimizer_error_input.desc: given for given in optim_error_inputs_func_rmsprop("cpu", torch.float32)}
all_inputs = pytest.mark.parametrize("options", INPUTS.values(), ids=INPUTS)


def make(options, params=None, *, cls=RMSprop, **more):
    return cls(make_params() if params is None else params, **{**copy.deepcopy(options), **more})


def test_this_class_keeps_what_the_row_promises():
    assert set(TABLE.supported_impls) == {"foreach", "differentiable"}
    assert TABLE.has_capturable_arg
    assert TABLE.supports_complex
    assert TABLE.supports_param_groups
    assert TABLE.supports_multiple_devices
    assert not TABLE.step_requires_closure
    assert len(INPUTS) >= 8


# ---- the step --------------------------------------------------------------------------------------------------------


@all_inputs
def test_a_run_gives_torchs_numbers(options):
    runs = [make(options, make_params(dtype=torch.float64), cls=cls) for cls in (RMSprop, TorchRMSprop)]
    for optimizer in runs:
        group, lr = optimizer.param_groups[0], copy.deepcopy(optimizer.param_groups[0]["lr"])
        train(optimizer, 100, each=lambda step, group=group, lr=lr: group.update(lr=lr * (1.0 + 0.5 * (step % 7))))
    assert_near(*runs)


@all_inputs
def test_training_goes_in_the_right_direction(options):
    weight, bias = make_params([(10, 5), (10,)])
    optimizer = make(options, [weight, bias])

    def closure():
        optimizer.zero_grad()
        loss = (weight.mv(torch.linspace(-1, 1, 5, device=weight.device)) + bias).pow(2).sum()
        loss.backward()
        return loss

    losses = [float(optimizer.step(closure).detach()) for _ in range(20)]
    assert losses[-1] > losses[0] if options.get("maximize") else losses[-1] < losses[0]


@all_inputs
def test_without_gradients_nothing_happens(options):
    optimizer = make(options)
    before = read_bits(list_params(optimizer))
    for _ in range(3):
        optimizer.step()
        optimizer.zero_grad()
    assert read_bits(list_params(optimizer)) == before
    assert not optimizer.state


@all_inputs
def test_zero_gradients_move_only_parameters_with_weight_decay(options):
    optimizer = make(options)
    before = read_bits(list_params(optimizer))
    for param in list_params(optimizer):
        param.grad = torch.zeros_like(param)
    optimizer.step()
    assert (read_bits(list_params(optimizer)) == before) == (not options.get("weight_decay"))
    assert {float(state["step"]) for state in optimizer.state.values()} == {1.0}


@all_inputs
def test_gradients_are_never_written(options):
    optimizer = make(options, max_norm=0.1)
    train(optimizer, 1)
    grads = [p.grad for p in list_params(optimizer)]
    before, versions = read_bits(grads), [g._version for g in grads]
    optimizer.step()
    assert read_bits(grads) == before
    assert [g._version for g in grads] == versions


@all_inputs
def test_mixed_dtypes_and_devices_in_one_group_step_as_alone(options):
    """The meta device, which has no memory, stands for any second device."""
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64, torch.complex128)
    meta = torch.nn.Parameter(torch.empty(3, device="meta"))
    together = make(options, [*(make_params([(4, 3)], dtype)[0] for dtype in dtypes), meta], lr=1e-2)
    train(together, 5)
    assert together.state[meta]["grad_var" if options.get("centered") else "square_avg"].device.type == "meta"
    for place, dtype in enumerate(dtypes):
        alone = make(options, make_params([(4, 3)], dtype), lr=1e-2)
        for step in range(5):
            # The same draws as for the parameter in its place of the group above.
            copies = [torch.nn.Parameter(torch.zeros_like(p)) for p in list_params(together)]
            draw_grads(copies, step)
            list_params(alone)[0].grad = copies[place].grad
            alone.step()
        assert read_bits([list_params(together)[place]]) == read_bits(list_params(alone)), dtype


@all_inputs
def test_foreach_changes_no_bit(options):
    runs = [make(options, foreach=flag) for flag in (None, True, False)]
    for optimizer in runs:
        train(optimizer, 5)
        optimizer.zero_grad(set_to_none=False)
        assert not any(p.grad.any() for p in list_params(optimizer))
    assert_same_bits(runs[0], runs[1])
    assert_same_bits(runs[0], runs[2])


# ---- memory ----------------------------------------------------------------------------------------------------------


class Allocations(TorchDispatchMode):
    """Counts the bytes of all tensors that torch's own operations create."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.bytes += sum(t.nbytes for t in torch.utils._pytree.tree_leaves(result) if torch.is_tensor(t))
        return result


@pytest.mark.slow
@all_inputs
def test_a_step_allocates_nothing_that_grows_with_the_model(options):
    peaks = []
    for width in (10, 400):
        optimizer = make(options, make_params([(width, 100)] * 3), max_norm=1.0)
        train(optimizer, 2)
        gc.collect()
        with Allocations() as by_torch:
            tracemalloc.start()
            optimizer.step()
            peaks.append((by_torch.bytes, tracemalloc.get_traced_memory()[1] // 1024))
            tracemalloc.stop()
    assert peaks[0][0] == peaks[1][0] == 0
    assert peaks[1][1] <= peaks[0][1] + 4, "KiB of Python's own memory"


def test_the_count_of_allocations_sees_those_of_torchs_own_step():
    theirs = TorchRMSprop(make_params([(100, 100)]), foreach=True)
    train(theirs, 1)
    with Allocations() as by_torch:
        theirs.step()
    assert by_torch.bytes >= 4 * 100 * 100


# ---- the state -------------------------------------------------------------------------------------------------------


@all_inputs
def test_the_state_is_created_by_the_first_step_and_kept(options):
    optimizer = make(options)
    assert not optimizer.state
    train(optimizer, 1)
    assert set(optimizer.state) == set(list_params(optimizer))
    tensors = {(p, key): value for p, state in optimizer.state.items() for key, value in state.items()}
    assert all(torch.is_tensor(value) for value in tensors.values())
    train(optimizer, 3, start=1)
    for (param, key), value in tensors.items():
        assert optimizer.state[param][key] is value
        assert key != "step" or value == 4


def test_the_count_is_a_tensor_of_the_default_dtype():
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            optimizers = [cls(make_params([(3,)])) for cls in (RMSprop, TorchRMSprop)]
            for optimizer in optimizers:
                train(optimizer, 2)
        finally:
            torch.set_default_dtype(torch.float32)
        for optimizer in optimizers:
            (state,) = optimizer.state.values()
            assert (state["step"].dtype, state["step"].shape, float(state["step"])) == (dtype, (), 2.0)


@all_inputs
def test_older_state_dicts_load(options):
    """Without newer keys, and with the step as a number."""
    optimizer, theirs = (make(options, make_params(dtype=torch.float64), cls=cls) for cls in (RMSprop, TorchRMSprop))
    train(theirs, 3)
    train(optimizer, 3)
    old = copy.deepcopy(theirs.state_dict())
    for flag in TABLE.not_og_supported_flags:
        old["param_groups"][0].pop(flag, None)
    for state in old["state"].values():
        state["step"] = state["step"].item()
    optimizer.load_state_dict(old)
    assert {"foreach", "differentiable", "maximize", "capturable"} <= optimizer.param_groups[0].keys()
    for run in (optimizer, theirs):
        train(run, 3, start=3)
    assert_near(optimizer, theirs)
    assert {float(state["step"]) for state in optimizer.state.values()} == {6.0}


def test_an_older_pickle_gets_the_defaults_of_newer_keys():
    optimizer = make({})
    train(optimizer, 1)
    newer = ("maximize", "capturable", "differentiable", "foreach", "switches", "param_rounding", "state_dtype", "lazy")
    for key in newer:
        optimizer.param_groups[0].pop(key, None)
    optimizer.__setstate__({"state": optimizer.state, "param_groups": optimizer.param_groups})
    train(optimizer, 1, start=1)
    assert optimizer.param_groups[0]["state_dtype"] == "float32"


@all_inputs
def test_repr_shows_every_entry_of_a_group(options):
    optimizer = make(options)
    text = repr(optimizer)
    assert text.startswith("RMSprop (\nParameter Group 0\n")
    for key in TorchRMSprop(make_params()).param_groups[0]:
        assert key == "params" or f"\n    {key}: {optimizer.param_groups[0][key]}\n" in text


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ERRORS.values(), ids=ERRORS)
def test_bad_input_gets_torchs_answer(given):
    assert given.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR
    arguments = given.optimizer_error_input
    answers = []
    for cls in (RMSprop, TorchRMSprop):
        params = arguments.params
        params = copy.deepcopy(params) if isinstance(params, list) else params or [torch.nn.Parameter(torch.ones(1))]
        with pytest.raises(Exception) as caught:  # a warning is an error here
            cls(params, **arguments.kwargs)
        answers.append((caught.type, str(caught.value)))
    assert answers[0] == answers[1]
    assert issubclass(answers[0][0], given.error_type)
    assert re.search(given.error_regex, answers[0][1])
