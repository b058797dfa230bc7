"""Inside torch.compile the step is one operator: no graph break, no recompilation for a new lr, the same bits."""

import copy

import pytest
import torch

from torch_helpers import OPTIONS, RMSprop, assert_same_bits, draw_grads, list_params, make_params, read_bits, train

if not torch._dynamo.is_dynamo_supported():
    pytest.skip("torch.compile does not run on this Python", allow_module_level=True)

BACKENDS = ("eager", "aot_eager")
BFLOAT16 = {
    "stochastic": {"param_rounding": "stochastic"},
    "compensated": {"param_rounding": "compensated", "state_dtype": "bfloat16"},
    "8bit": {"param_rounding": "stochastic", "state_dtype": "8bit", "momentum": 0.9},
}
# Compiling draws on torch's own internals, which warn about each other.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compilations():
    """How often a frame was compiled since the last reset of the counters."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def compiled(optimizer, backend="eager", *, fullgraph=True):
    return torch.compile(optimizer.step, backend=backend, fullgraph=fullgraph)


def run(optimizer, step, steps, *, start=0):
    for number in range(start, start + steps):
        draw_grads(list_params(optimizer), number)
        step()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [*OPTIONS.values(), {"max_norm": 0.5}], ids=[*OPTIONS, "clipped"])
def test_a_compiled_step_has_the_bits_of_an_eager_one(options, backend):
    eager, ours = (RMSprop(make_params(), **options) for _ in range(2))
    run(eager, eager.step, 5)
    run(ours, compiled(ours, backend), 5)
    assert_same_bits(ours, eager)
    assert {float(state["step"]) for state in ours.state.values()} == {5.0}


@pytest.mark.parametrize("options", BFLOAT16.values(), ids=BFLOAT16)
def test_narrow_states_and_roundings_compile(options):
    eager, ours = (RMSprop(make_params(dtype=torch.bfloat16), seed=3, **options) for _ in range(2))
    run(eager, eager.step, 4)
    run(ours, compiled(ours, "aot_eager"), 4)
    assert_same_bits(ours, eager)


def test_a_new_learning_rate_recompiles_nothing():
    eager, ours = (RMSprop(make_params(), lr=0.1, momentum=0.9) for _ in range(2))
    schedulers = [torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=30) for o in (eager, ours)]
    step = torch.compile(lambda: ours.step(), backend="eager", fullgraph=True)  # the scheduler has seen `step`
    run(eager, eager.step, 1)
    run(ours, step, 1)
    before = compilations()
    assert before >= 1
    for number in range(1, 12):
        for scheduler in schedulers:
            scheduler.step()
        run(eager, eager.step, 1, start=number)
        run(ours, step, 1, start=number)
    assert compilations() == before
    assert_same_bits(ours, eager)


def test_a_new_tensor_learning_rate_recompiles_nothing():
    eager, ours = (RMSprop(make_params(), lr=torch.tensor(0.1)) for _ in range(2))
    step = compiled(ours)
    for number in range(5):
        for optimizer, one in ((eager, eager.step), (ours, step)):
            optimizer.param_groups[0]["lr"].fill_(0.1 / (1 + number))
            run(optimizer, one, 1, start=number)
        if number == 0:
            before = compilations()
    assert compilations() == before
    assert_same_bits(ours, eager)


def test_a_step_with_a_closure_compiles():
    weights = []
    for compile_ in (False, True):
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = RMSprop([weight])
        weight.grad = torch.ones(3)
        step = compiled(optimizer) if compile_ else optimizer.step
        assert float(step(lambda: torch.tensor(2.0))) == 2.0
        weights.append(weight)
    assert_same_bits(weights[:1], weights[1:])


@pytest.mark.parametrize("clip", [None, 0.5])
def test_several_groups_compile(clip):
    def made():
        first, second, *rest = make_params()
        groups = [{"params": [first]}, {"params": [second], "momentum": 0.9}, {"params": rest, "centered": True}]
        return RMSprop(groups, max_norm=clip)

    eager, ours = made(), made()
    run(eager, eager.step, 4)
    run(ours, compiled(ours, "aot_eager"), 4)
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


def test_gradients_may_come_and_go():
    """The random numbers of a parameter do not depend on who else has a gradient."""
    options = {"momentum": 0.9, "param_rounding": "stochastic", "seed": 6}
    eager, ours = (RMSprop(make_params(dtype=torch.bfloat16), **options) for _ in range(2))
    step = compiled(ours)
    for number in range(8):
        for optimizer, one in ((eager, eager.step), (ours, step)):
            draw_grads(list_params(optimizer), number)
            for k, param in enumerate(list_params(optimizer)):
                if k == number % 3 or (k == 3 and number < 4):
                    param.grad = None
            one()
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
def test_what_happens_to_the_optimizer_between_compiled_steps_counts(reset):
    eager, ours = (RMSprop(make_params()) for _ in range(2))
    step = compiled(ours)
    for optimizer, one in ((eager, eager.step), (ours, step)):
        run(optimizer, one, 2)
        reset(optimizer)
        run(optimizer, one, 3, start=2)
    assert_same_bits(ours, eager)


def test_hooks_and_a_grad_scaler_work_around_a_compiled_step():
    eager, ours = (RMSprop(make_params()) for _ in range(2))
    step = torch.compile(ours.step, backend="eager")
    heard = []
    handle = ours.register_step_post_hook(lambda *_: heard.append(1))
    run(eager, eager.step, 1)
    run(ours, step, 1)
    assert heard == [1]
    handle.remove()
    for number in (1, 2):
        run(eager, eager.step, 1, start=number)
        draw_grads(list_params(ours), number)
        for param in list_params(ours):
            param.grad.mul_(1024.0)
        step(grad_scale=torch.tensor(1024.0), found_inf=torch.tensor(0.0))
        step(grad_scale=torch.tensor(1024.0), found_inf=torch.tensor(1.0))
    assert_same_bits(ours, eager)


def test_parameters_for_the_general_path_break_the_graph_and_step():
    eager, ours = (RMSprop([*make_params(), *make_params([(3,)], torch.complex64)]) for _ in range(2))
    run(eager, eager.step, 3)
    run(ours, compiled(ours, fullgraph=False), 3)
    assert_same_bits(ours, eager)


def model_and_data():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    return model, torch.randn(16, 6), torch.randint(0, 2, (16,))


def training_step(model, optimizer):
    def one(x, y):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return one


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_whole_training_step_compiles_and_trains(backend):
    """torch.compile breaks the graph at backward, by its own rules; forward and step are compiled."""
    runs = []
    for compile_ in (False, True):
        model, x, y = model_and_data()
        optimizer = RMSprop(model.parameters(), lr=0.01, momentum=0.5)
        one = training_step(model, optimizer)
        one = torch.compile(one, backend=backend) if compile_ else one
        losses = [float(one(x, y).detach()) for _ in range(6)]
        assert losses[-1] < losses[0]
        runs.append(list_params(optimizer))
    for mine, other in zip(*runs):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_the_training_step_is_not_broken_at_the_optimizer():
    model, x, y = model_and_data()
    optimizer = RMSprop(model.parameters(), lr=0.01)
    training_step(model, optimizer)(x, y)
    optimizer.zero_grad(set_to_none=False)
    step_only = torch._dynamo.explain(lambda: optimizer.step())()
    assert (step_only.graph_count, step_only.graph_break_count) == (1, 0)
    assert any("rmsprop" in str(node.target) for node in step_only.graphs[0].graph.nodes)


def test_inductor_gives_the_same_bits():
    eager, ours = (RMSprop(make_params([(300,), (5, 7)]), momentum=0.9, centered=True) for _ in range(2))
    run(eager, eager.step, 3)
    try:
        run(ours, compiled(ours, "inductor"), 3)
    except torch._inductor.exc.InductorError as error:
        if "compiler" not in str(error).lower():
            raise
        pytest.skip("torch's default backend needs a C++ compiler")
    assert_same_bits(ours, eager)


def test_an_eager_step_after_a_compiled_one_goes_on():
    eager, ours = (RMSprop(make_params(), momentum=0.9) for _ in range(2))
    step = compiled(ours, "aot_eager")
    train(eager, 6)
    for number in range(6):
        run(ours, step if number % 2 else ours.step, 1, start=number)
    assert_same_bits(ours, eager)
    assert read_bits(list_params(ours)) == read_bits(list_params(eager))
