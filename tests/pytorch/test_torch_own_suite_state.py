"""Promise: the state is what PyTorch expects of an optimizer's, for every input of RMSprop's row of its table."""

import copy
import io

import pytest

from torching import Host, assert_same_bits, bits, parameters, params_of, train

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="torch.testing._internal.common_optimizers imports it")

from torchtable import ROW, every_input, made  # noqa: E402


@every_input
def test_the_state_is_made_by_the_first_step_and_kept(options):
    optimizer = made(options)
    assert not optimizer.state
    train(optimizer, 1)
    assert set(optimizer.state) == set(params_of(optimizer))
    tensors = {(p, key): value for p, state in optimizer.state.items() for key, value in state.items()}
    assert all(torch.is_tensor(value) for value in tensors.values())
    train(optimizer, 3, start=1)
    for (param, key), value in tensors.items():
        assert optimizer.state[param][key] is value
        assert key != "step" or value == 4


def test_the_count_is_a_default_float_tensor():
    for default, expected in ((torch.float32, torch.float32), (torch.float64, torch.float64)):
        torch.set_default_dtype(default)
        try:
            optimizer, theirs = made({}, parameters([(3,)])), Host(parameters([(3,)]))
            train(optimizer, 2)
            train(theirs, 2)
        finally:
            torch.set_default_dtype(torch.float32)
        for one in (optimizer, theirs):
            (state,) = one.state.values()
            assert (state["step"].dtype, state["step"].shape, float(state["step"])) == (expected, (), 2.0)


@every_input
def test_state_dict_is_the_same_each_time_and_after_a_round_trip(options):
    optimizer = made(options)
    train(optimizer, 3)
    first = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(optimizer.state_dict())
    second = optimizer.state_dict()
    assert first["param_groups"] == second["param_groups"]
    assert list(first["state"]) == list(second["state"])
    for index, state in first["state"].items():
        assert state.keys() == second["state"][index].keys()
        assert bits(list(state.values())) == bits([second["state"][index][key] for key in state])


@every_input
@pytest.mark.parametrize("weights_only", [True, False])
def test_saved_and_loaded_it_is_equal(options, weights_only):
    optimizer = made(options)
    train(optimizer, 3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    state_dict = torch.load(file, weights_only=weights_only)
    other = made(options, copy.deepcopy(params_of(optimizer)))
    other.load_state_dict(state_dict)
    assert_same_bits(other, optimizer)
    train(other, 2, start=3)
    train(optimizer, 2, start=3)
    assert_same_bits(other, optimizer)


@every_input
def test_a_deep_copy_is_another_optimizer(options):
    optimizer = made(options)
    train(optimizer, 2)
    other = copy.deepcopy(optimizer)
    before = bits(params_of(other))
    train(optimizer, 2, start=2)
    assert bits(params_of(other)) == before
    train(other, 2, start=2)
    assert_same_bits(other, optimizer)


@every_input
def test_older_state_dicts_load(options):
    optimizer = made(options)
    train(optimizer, 2)
    old = copy.deepcopy(optimizer.state_dict())
    for group in old["param_groups"]:
        for flag in ROW.table.not_og_supported_flags:
            group.pop(flag, None)
    for state in old["state"].values():
        state["step"] = state["step"].item()
    optimizer.load_state_dict(old)
    for flag in ("foreach", "differentiable", "maximize", "capturable"):
        assert flag in optimizer.param_groups[0]
    train(optimizer, 2, start=2)
    assert {float(state["step"]) for state in optimizer.state.values()} == {4.0}


def test_a_pickle_from_before_newer_keys_gets_their_defaults():
    optimizer = made({})
    train(optimizer, 1)
    for key in (
        "maximize",
        "capturable",
        "differentiable",
        "foreach",
        "switches",
        "param_rounding",
        "state_dtype",
        "lazy",
    ):
        del optimizer.param_groups[0][key]
    optimizer.__setstate__({"state": optimizer.state, "param_groups": optimizer.param_groups})
    train(optimizer, 1, start=1)
    assert optimizer.param_groups[0]["state_dtype"] == "float32"


@every_input
def test_it_prints_itself(options):
    optimizer = made(options)
    text = repr(optimizer)
    assert text.startswith("RMSprop (\nParameter Group 0\n")
    for key in Host(parameters()).param_groups[0]:
        assert key == "params" or f"\n    {key}: {optimizer.param_groups[0][key]}\n" in text
