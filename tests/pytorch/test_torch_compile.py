"""Promise: inside torch.compile the step is one operator: no graph break, no recompilation for a new lr, same bits."""

import copy

import pytest
import torch
from torch_helpers import OPTIONS, RMSprop, assert_near, assert_same_bits, draw_grads, list_params, make_params, train

if not torch._dynamo.is_dynamo_supported():
    pytest.skip("torch.compile does not run on this Python", allow_module_level=True)

BACKENDS = ("eager", "aot_eager")
CASES = {
    **OPTIONS,
    "clipped": {"max_norm": 0.5},
    "stochastic": {"param_rounding": "stochastic"},
    "compensated": {"param_rounding": "compensated", "state_dtype": "bfloat16"},
    "8bit": {"param_rounding": "stochastic", "state_dtype": "8bit", "momentum": 0.9},
}
# torch's own internals warn about each other while they compile.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(autouse=True)
def reset_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def count_compilations():
    """Return how often a frame was compiled since the last reset of the counters."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def compile_step(optimizer, backend="eager", *, fullgraph=True):
    return torch.compile(optimizer.step, backend=backend, fullgraph=fullgraph)


def run(optimizer, step, steps, *, start=0):
    for number in range(start, start + steps):
        draw_grads(list_params(optimizer), number)
        step()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_compiled_step_has_the_bits_of_an_eager_one(options, backend):
    dtype = torch.bfloat16 if "param_rounding" in options else torch.float32
    eager, ours = (RMSprop(make_params(dtype=dtype), seed=3, **options) for _ in range(2))
    run(eager, eager.step, 5)
    run(ours, compile_step(ours, backend), 5)
    assert_same_bits(ours, eager)
    assert {float(state["step"]) for state in ours.state.values()} == {5.0}


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["number", "tensor"])
def test_a_new_learning_rate_recompiles_nothing(lr):
    eager, ours = (RMSprop(make_params(), lr=copy.deepcopy(lr), momentum=0.9) for _ in range(2))
    schedulers = [torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=30) for o in (eager, ours)]
    step = torch.compile(lambda: ours.step(), backend="eager", fullgraph=True)  # `step` as the scheduler left it
    run(eager, eager.step, 1)
    run(ours, step, 1)
    before = count_compilations()
    assert before >= 1
    for number in range(1, 12):
        for scheduler in schedulers:
            scheduler.step()
        run(eager, eager.step, 1, start=number)
        run(ours, step, 1, start=number)
    assert count_compilations() == before
    assert_same_bits(ours, eager)


def test_a_step_with_a_closure_compiles():
    weights = []
    for compile_ in (False, True):
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = RMSprop([weight])
        weight.grad = torch.ones(3)
        step = compile_step(optimizer) if compile_ else optimizer.step
        assert float(step(lambda: torch.tensor(2.0))) == 2.0
        weights.append(weight)
    assert_same_bits(weights[:1], weights[1:])


@pytest.mark.parametrize("clip", [None, 0.5])
def test_several_groups_compile(clip):
    def make():
        first, second, *rest = make_params()
        groups = [{"params": [first]}, {"params": [second], "momentum": 0.9}, {"params": rest, "centered": True}]
        return RMSprop(groups, max_norm=clip)

    eager, ours = make(), make()
    run(eager, eager.step, 4)
    run(ours, compile_step(ours, "aot_eager"), 4)
    assert_same_bits(ours, eager)
    assert ours.grad_norm == eager.grad_norm or clip is None


def test_each_optimizer_steps_its_own_parameters():
    first, second = RMSprop(make_params(seed=1), lr=0.1), RMSprop(make_params(seed=2), lr=0.01, momentum=0.9)
    eager = [copy.deepcopy(o) for o in (first, second)]

    @torch.compile(backend="eager", fullgraph=True)
    def step(optimizer):
        optimizer.step()

    for number in range(3):
        for optimizer, expected in zip((first, second), eager):
            run(optimizer, lambda o=optimizer: step(o), 1, start=number)
            run(expected, expected.step, 1, start=number)
    for optimizer, expected in zip((first, second), eager):
        assert_same_bits(optimizer, expected)


@pytest.mark.slow
def test_gradients_may_come_and_go():
    """The random numbers of a parameter do not depend on which other parameters have a gradient."""
    options = {"momentum": 0.9, "param_rounding": "stochastic", "seed": 6}
    eager, ours = (RMSprop(make_params(dtype=torch.bfloat16), **options) for _ in range(2))
    step = compile_step(ours)
    for number in range(8):
        for optimizer, do_step in ((eager, eager.step), (ours, step)):
            draw_grads(list_params(optimizer), number)
            for k, param in enumerate(list_params(optimizer)):
                if k == number % 3 or (k == 3 and number < 4):
                    param.grad = None
            do_step()
    assert_same_bits(ours, eager)


@pytest.mark.parametrize(
    "reset",
    [
        lambda o: o.state.clear(),
        lambda o: o.load_state_dict(copy.deepcopy(o.state_dict())),
        lambda o: o.reset_state(),
        lambda o: o.add_param_group({"params": make_params([(2, 2)], seed=9), "lr": 0.1}),
        lambda o: o.param_groups[0].update(momentum=0.9),
        lambda o: o.param_groups[0].update(centered=True, alpha=0.5),
    ],
    ids=["clear", "load_state_dict", "reset_state", "add_param_group", "momentum", "centered"],
)
def test_changes_to_the_optimizer_between_compiled_steps_take_effect(reset):
    eager, ours = (RMSprop(make_params()) for _ in range(2))
    step = compile_step(ours)
    for optimizer, do_step in ((eager, eager.step), (ours, step)):
        run(optimizer, do_step, 2)
        reset(optimizer)
        run(optimizer, do_step, 3, start=2)
    assert_same_bits(ours, eager)


def test_hooks_and_a_grad_scaler_work_around_a_compiled_step():
    eager, ours = (RMSprop(make_params()) for _ in range(2))
    step = torch.compile(ours.step, backend="eager")
    calls = []
    handle = ours.register_step_post_hook(lambda *_: calls.append(1))
    run(eager, eager.step, 1)
    run(ours, step, 1)
    assert calls == [1]
    handle.remove()
    for number in (1, 2):
        run(eager, eager.step, 1, start=number)
        draw_grads(list_params(ours), number)
        for param in list_params(ours):
            param.grad.mul_(1024.0)
        step(grad_scale=torch.tensor(1024.0), found_inf=torch.tensor(0.0))
        step(grad_scale=torch.tensor(1024.0), found_inf=torch.tensor(1.0))
    assert_same_bits(ours, eager)


def test_parameters_that_the_kernel_cannot_take_break_the_graph_and_step():
    eager, ours = (RMSprop([*make_params(), *make_params([(3,)], torch.complex64)]) for _ in range(2))
    run(eager, eager.step, 3)
    run(ours, compile_step(ours, fullgraph=False), 3)
    assert_same_bits(ours, eager)


def make_model_and_data():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    return model, torch.randn(16, 6), torch.randint(0, 2, (16,))


def make_training_step(model, optimizer):
    def do_step(x, y):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return do_step


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_whole_training_step_compiles_and_trains(backend):
    """torch.compile breaks the graph at backward, by its own rules; forward and step are compiled."""
    runs = []
    for compile_ in (False, True):
        model, x, y = make_model_and_data()
        optimizer = RMSprop(model.parameters(), lr=0.01, momentum=0.5)
        do_step = make_training_step(model, optimizer)
        do_step = torch.compile(do_step, backend=backend) if compile_ else do_step
        losses = [float(do_step(x, y).detach()) for _ in range(6)]
        assert losses[-1] < losses[0]
        runs.append(optimizer)
    assert_near(*runs, tolerance=1e-5)


def test_the_training_step_is_not_broken_at_the_optimizer():
    model, x, y = make_model_and_data()
    optimizer = RMSprop(model.parameters(), lr=0.01)
    make_training_step(model, optimizer)(x, y)
    optimizer.zero_grad(set_to_none=False)
    step_only = torch._dynamo.explain(lambda: optimizer.step())()
    assert (step_only.graph_count, step_only.graph_break_count) == (1, 0)
    assert any("rmsprop" in str(node.target) for node in step_only.graphs[0].graph.nodes)


@pytest.mark.slow
def test_inductor_gives_the_same_bits():
    eager, ours = (RMSprop(make_params([(300,), (5, 7)]), momentum=0.9, centered=True) for _ in range(2))
    run(eager, eager.step, 3)
    try:
        run(ours, compile_step(ours, "inductor"), 3)
    except torch._inductor.exc.InductorError as error:
        if "compiler" not in str(error).lower():
            raise
        pytest.skip("torch's default backend needs a C++ compiler")
    assert_same_bits(ours, eager)


def test_an_eager_step_after_a_compiled_one_goes_on():
    eager, ours = (RMSprop(make_params(), momentum=0.9) for _ in range(2))
    step = compile_step(ours, "aot_eager")
    train(eager, 6)
    for number in range(6):
        run(ours, step if number % 2 else ours.step, 1, start=number)
    assert_same_bits(ours, eager)
