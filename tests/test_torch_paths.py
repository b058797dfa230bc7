"""Every path of a PyTorch step ends in the same numbers: memory orders, sparse gradients, subclasses, autograd."""

import copy

import numpy as np
import pytest

import rmsprop
from cases import COVERING, same_bits
from torching import (
    OPTIONS,
    ROUNDINGS,
    SHAPES,
    STATES,
    Host,
    RMSprop,
    assert_near,
    assert_same_bits,
    bits,
    draw_grads,
    parameters,
    params_of,
    train,
)

torch = pytest.importorskip("torch")

SHAPE = (4, 6, 5, 3)


# ---- memory orders ---------------------------------------------------------------------------------------------------


def laid_out(how):
    """A parameter of SHAPE in one memory order; the numbers are the same in all."""
    values = parameters([SHAPE])[0].detach()
    return torch.nn.Parameter(how(values))


def permuted(*axes):
    back = [axes.index(i) for i in range(len(axes))]
    return lambda x: x.permute(axes).contiguous().permute(back)


ORDERS = {
    "contiguous": lambda x: x.clone(),
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "Fortran": permuted(3, 2, 1, 0),
    "permuted": permuted(2, 0, 3, 1),
    "every other element": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "every other row": lambda x: x.repeat_interleave(2, 0)[::2],
    "reversed axes with gaps": lambda x: permuted(3, 1, 0, 2)(x.repeat_interleave(3, 1))[:, 1::3],
}
GRADS = {
    "the same order": lambda g, p: g,
    "contiguous": lambda g, p: g.contiguous(),
    "channels_last": lambda g, p: g.contiguous(memory_format=torch.channels_last),
    "with gaps": lambda g, p: g.repeat_interleave(2, 1)[:, ::2],
    "negated view": lambda g, p: torch.complex(g, -g).conj().imag,
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_the_memory_order_of_a_parameter_changes_no_bit(order, options):
    expected = RMSprop([laid_out(ORDERS["contiguous"])], max_norm=2.0, **options)
    ours = RMSprop([laid_out(order)], max_norm=2.0, **options)
    (param,) = params_of(ours)
    pointer, stride = param.data_ptr(), param.stride()
    train(expected, 5)
    train(ours, 5)
    assert_same_bits(ours, expected)
    assert (param.data_ptr(), param.stride()) == (pointer, stride), "the parameter was replaced"


@pytest.mark.parametrize("order", list(ORDERS)[:2])
@pytest.mark.parametrize("change", GRADS.values(), ids=GRADS)
def test_the_memory_order_of_a_gradient_changes_no_bit(change, order):
    def each(optimizer):
        def apply(_):
            (param,) = params_of(optimizer)
            param.grad = change(param.grad, param)

        return apply

    expected, ours = (RMSprop([laid_out(ORDERS[order])], momentum=0.9, max_norm=2.0) for _ in range(2))
    train(expected, 5)
    train(ours, 5, each=each(ours))
    assert_same_bits(ours, expected)


def test_an_expanded_gradient_is_one_of_equal_elements():
    runs = []
    for full in (False, True):
        weight = laid_out(ORDERS["contiguous"])
        optimizer = RMSprop([weight])
        for _ in range(3):
            weight.grad = torch.full((1, 1, 1, 1), 0.3).expand(SHAPE)
            weight.grad = weight.grad.clone() if full else weight.grad
            optimizer.step()
        runs.append(optimizer)
    assert_same_bits(*runs)


def test_a_gradient_of_one_element_may_wait_to_be_negated():
    """The imaginary part of a conjugate is a view that is yet to be negated; of one element, it is contiguous."""
    weight = torch.nn.Parameter(torch.zeros(1))
    z = torch.tensor([1 + 2j])
    weight.grad = z.conj().imag
    assert weight.grad.is_neg()
    RMSprop([weight], lr=0.01).step()
    assert weight.item() > 0


def test_zeros_without_memory_are_zeros():
    weight = torch.nn.Parameter(torch.ones(5))
    weight.grad = torch._efficientzerotensor(5)
    RMSprop([weight]).step()
    assert_same_bits([weight], [torch.ones(5)])


def test_more_axes_than_the_kernel_looks_at_are_one_axis():
    many, few = torch.nn.Parameter(torch.ones(1, 2, 1, 3, 1, 1, 2, 1, 1, 2)), torch.nn.Parameter(torch.ones(24))
    ours, expected = RMSprop([many], momentum=0.9), RMSprop([few], momentum=0.9)
    for _ in range(3):
        many.grad, few.grad = torch.arange(24.0).view(many.shape), torch.arange(24.0)
        ours.step()
        expected.step()
    assert_same_bits([many.view(24)], [few])
    assert ours.state[many]["square_avg"].shape == many.shape


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("state_dtype", STATES)
def test_memory_with_gaps_takes_every_rounding_and_state(state_dtype, rounding):
    runs = []
    for order in ("contiguous", "every other element"):
        weight = torch.nn.Parameter(laid_out(ORDERS[order]).detach().bfloat16())
        if order != "contiguous":
            weight = torch.nn.Parameter(weight.detach().repeat_interleave(2, -1)[..., ::2])
            assert not weight.is_contiguous()
        runs.append(RMSprop([weight], momentum=0.9, state_dtype=state_dtype, param_rounding=rounding, seed=3))
        train(runs[-1], 4)
    assert_same_bits(*runs)


# ---- sparse gradients ------------------------------------------------------------------------------------------------


def embedding(sparse, rows=50, width=4):
    module = torch.nn.Embedding(rows, width, sparse=sparse)
    with torch.no_grad():
        module.weight.copy_(parameters([(rows, width)])[0])
    return module


def look_up(module, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    touched = set()
    for _ in range(steps):
        index = torch.randint(0, 20, (12,), generator=generator)
        touched |= set(index.tolist())
        weights = torch.randn(12, 4, generator=generator)
        optimizer.zero_grad()
        (module(index) * weights).sum().backward()
        optimizer.step()
    return touched


@pytest.mark.parametrize("options", [*OPTIONS.values(), {"max_norm": 0.5}], ids=[*OPTIONS, "clipped"])
def test_a_sparse_gradient_acts_like_its_dense_equal(options):
    runs = []
    for sparse in (True, False):
        module = embedding(sparse)
        optimizer = RMSprop(module.parameters(), **options)
        look_up(module, optimizer, 5)
        assert module.weight.grad.is_sparse == sparse
        runs.append(optimizer)
    assert_near(*map(params_of, runs), tolerance=2e-6)  # rows that occur twice are added up in another order
    for mine, other in zip(*(o.state.values() for o in runs)):
        for key in other:
            torch.testing.assert_close(mine[key], other[key], rtol=2e-5, atol=1e-7)


def test_a_row_that_occurs_twice_steps_once_with_the_sum():
    """The square of the sum, 9, not the sum of the squares, 5."""
    weight = torch.nn.Parameter(torch.zeros(3, 1))
    optimizer = RMSprop([weight], alpha=0.0)
    with torch.sparse.check_sparse_tensor_invariants():
        weight.grad = torch.sparse_coo_tensor([[1, 1]], [[1.0], [2.0]], (3, 1))
    optimizer.step()
    assert optimizer.state[weight]["square_avg"].flatten().tolist() == [0.0, 9.0, 0.0]
    assert optimizer.state[weight]["step"] == 1


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_lazy_step_touches_only_the_rows_of_the_gradient(options, rounding, state_dtype):
    module = embedding(True).bfloat16()
    before = module.weight.detach().clone()
    optimizer = RMSprop(
        module.parameters(), lazy=True, eager_state=True, param_rounding=rounding, state_dtype=state_dtype, **options
    )
    touched = sorted(look_up(module, optimizer, 4))
    untouched = [i for i in range(50) if i not in touched]
    assert untouched
    assert touched
    assert_same_bits([module.weight[untouched]], [before[untouched]])
    assert bool((module.weight[touched] != before[touched]).any(1).all())
    for key, value in optimizer.state[module.weight].items():
        if key != "step":
            assert not value[untouched].any(), key


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_lazy_step_on_all_rows_is_a_dense_step(options):
    dense, lazy = (RMSprop(parameters([(8, 3)]), lazy=lazy, **options) for lazy in (False, True))
    train(dense, 4)
    train(lazy, 4, each=lambda _: [setattr(p, "grad", p.grad.to_sparse(1)) for p in params_of(lazy)])
    assert_same_bits(lazy, dense)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_lazy_step_takes_gradients_with_any_number_of_sparse_axes(axes):
    weight = parameters([(4, 3, 2)])[0]
    before = weight.detach().clone()
    optimizer = RMSprop([weight], lazy=True, lr=0.1)
    grad = torch.zeros(4, 3, 2)
    grad[2, 1, 0] = 5.0
    weight.grad = grad.to_sparse(axes)
    optimizer.step()
    moved = weight.detach() - before
    assert moved[2, 1, 0] == pytest.approx(-1.0, rel=1e-5)  # lr g / sqrt(0.01 g^2) = 10 lr
    moved[2, 1, 0] = 0
    assert not moved.any()


def test_lazy_complex_rows_step_as_dense_ones():
    runs = []
    for lazy in (False, True):
        weight = torch.nn.Parameter(torch.arange(6.0).view(3, 2) * (1 + 2j))
        optimizer = RMSprop([weight], lazy=lazy)
        for _ in range(3):
            weight.grad = torch.sparse_coo_tensor(
                [[0, 1, 2]], torch.full((3, 2), 1 - 1j), (3, 2), check_invariants=True
            )
            optimizer.step()
        runs.append([weight])
    assert_same_bits(*runs)


# ---- other tensors ---------------------------------------------------------------------------------------------------


class Marked(torch.Tensor):
    """A tensor subclass without any behaviour of its own."""


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_tensor_subclass_steps_with_the_same_numbers(options):
    plain = RMSprop(parameters([(5, 3)]), **options)
    marked = parameters([(5, 3)])[0].detach().as_subclass(Marked).requires_grad_()
    ours = RMSprop([marked], **options)
    train(plain, 5)
    train(ours, 5)
    assert type(marked) is Marked
    assert_near([marked.as_subclass(torch.Tensor)], params_of(plain), tolerance=1e-6)  # torch's root is not IEEE's


def test_a_subclass_gradient_of_a_plain_parameter_steps_with_the_same_numbers():
    plain, marked = (RMSprop(parameters([(5, 3), (2,)]), max_norm=1.0) for _ in range(2))
    train(plain, 4)
    train(
        marked, 4, each=lambda _: setattr(params_of(marked)[0], "grad", params_of(marked)[0].grad.as_subclass(Marked))
    )
    assert_near(
        params_of(marked), params_of(plain), tolerance=1e-6
    )  # torch's norm of the one, the kernel's of the other
    assert len(marked.state) == 2


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_meta_tensors_step_without_numbers(options):
    weight = torch.nn.Parameter(torch.empty(4, 3, device="meta"))
    optimizer = RMSprop([weight], **options)
    weight.grad = torch.empty_like(weight)
    optimizer.step()
    state = optimizer.state[weight]
    assert state["step"] == 1
    assert all(value.device.type == "meta" for key, value in state.items() if key != "step")


def test_one_group_may_hold_tensors_of_several_devices():
    """As torch's optimizer allows; each takes its own path."""
    alone = RMSprop(parameters([(3,), (4,)]), momentum=0.9)
    mixed = RMSprop([*parameters([(3,), (4,)]), torch.nn.Parameter(torch.empty(2, device="meta"))], momentum=0.9)
    train(alone, 3)
    train(mixed, 3)
    assert_same_bits(params_of(mixed)[:2], params_of(alone))
    assert mixed.state[params_of(mixed)[2]]["step"] == 3


@pytest.mark.parametrize("state_dtype", STATES)
def test_a_group_may_mix_dtypes_with_every_state_dtype(state_dtype):
    def mixed():
        return [
            *parameters([(300,)], torch.float64),
            *parameters([(300,)]),
            *parameters([(300,)], torch.bfloat16),
            *parameters([(30,)], torch.complex64),
        ]

    together = RMSprop(mixed(), state_dtype=state_dtype, momentum=0.9, seed=2)
    train(together, 3)
    state = together.state[params_of(together)[0]]
    assert {value.dtype for key, value in state.items() if key != "step"} == {torch.float64}
    exact = RMSprop(mixed(), momentum=0.9)
    train(exact, 3)
    assert_same_bits(params_of(together)[:1], params_of(exact)[:1])
    assert_same_bits(params_of(together)[3:], params_of(exact)[3:])


def test_a_gradient_of_another_dtype_keeps_its_precision():
    """torch lets a bfloat16 parameter have a float32 gradient; the statistics see all of it."""
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    weight.grad_dtype = torch.float32
    weight.grad = torch.tensor([1.001, 1.002, 1.003])
    optimizer = RMSprop([weight], alpha=0.0)
    optimizer.step()
    expected = torch.tensor([1.001, 1.002, 1.003]) ** 2
    torch.testing.assert_close(optimizer.state[weight]["square_avg"], expected, rtol=2e-7, atol=0)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_capturable_gives_the_same_numbers(dtype, options):
    plain, capturable = (RMSprop(parameters(dtype=dtype), capturable=flag, **options) for flag in (False, True))
    train(plain, 20)
    train(capturable, 20)
    assert_near(params_of(capturable), params_of(plain), tolerance=1e-12 if dtype == torch.float64 else 2e-6)


@pytest.mark.parametrize("dialect", ["tensorflow1", "keras3", "sb3"])
def test_the_general_path_equals_the_kernel_in_other_dialects(dialect):
    runs = []
    for capturable in (False, True):
        optimizer = RMSprop(parameters(), lr=torch.tensor(0.01), capturable=capturable, dialect=dialect)
        train(optimizer, 6, each=lambda step, o=optimizer: o.param_groups[0]["lr"].fill_(0.01 / (1 + step)))
        runs.append(params_of(optimizer))
    assert_near(*runs, tolerance=1e-6)  # a tensor lr is a float32, the kernel's a double


def test_corrected_weight_decay_follows_the_largest_lr_on_every_path():
    rule = rmsprop.Rule(weight_decay=0.1, weight_decay_mode="decoupled_corrected")
    runs = []
    for capturable in (False, True):
        lr = torch.tensor(0.5, dtype=torch.float64)
        optimizer = RMSprop(parameters(dtype=torch.float64), lr=lr, capturable=capturable, dialect=rule)
        train(optimizer, 6, each=lambda step, lr=lr: lr.fill_(0.5 / (1 + step)))
        runs.append(params_of(optimizer))
    assert_near(*runs)


# ---- differentiable --------------------------------------------------------------------------------------------------


def unrolled(cls, options, *, wrt):
    """A weight after differentiable steps, or a loss's gradient with respect to the start or the steps' gradient.

    One step where torch's own class, centered, overwrites what autograd has kept; three elsewhere.
    """
    start = parameters([(4,)], torch.float64)[0]
    pull = parameters([(4,)], torch.float64, seed=1)[0]
    weight = start.clone()
    weight.retain_grad()
    optimizer = cls([weight], differentiable=True, **options)
    for step in range(1 if options.get("centered") else 3):
        weight.grad = pull * (1.0 + step) + 0.1 * weight.detach()
        optimizer.step()
    (weight**2).sum().backward()
    return [weight, start.grad, pull.grad][wrt]


@pytest.mark.parametrize("wrt", [0, 1, 2], ids=["weight", "start", "gradient"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_autograd_runs_through_a_differentiable_step_as_through_torchs(options, wrt):
    assert_near([unrolled(RMSprop, options, wrt=wrt)], [unrolled(Host, options, wrt=wrt)], tolerance=1e-9)


def test_autograd_through_a_differentiable_step_is_the_finite_difference():
    def after(pull):
        weight = torch.ones(3, dtype=torch.float64).requires_grad_().clone()
        optimizer = RMSprop([weight], differentiable=True, momentum=0.5, centered=True)
        for step in (1.0, -0.5):
            weight.grad = pull * step
            optimizer.step()
        return weight

    pull = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(after, (pull,))


# ---- front ends, threads, groups -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", COVERING)
def test_numpy_and_torch_agree_bitwise(name, dtype):
    rule = COVERING[name]
    arrays = [p.detach().numpy().copy() for p in parameters(SHAPES[1:], getattr(torch, dtype))]
    tensors = [torch.nn.Parameter(torch.from_numpy(a.copy())) for a in arrays]
    numpy_side = rmsprop.RMSprop(arrays, lr=0.02, rule=rule)
    torch_side = RMSprop(tensors, lr=0.02, dialect=rule)
    for step in range(10):
        draw_grads(tensors, step)
        numpy_side.step([p.grad.numpy() for p in tensors])
        torch_side.step()
    for array, tensor in zip(arrays, tensors):
        assert same_bits(array, tensor.detach().numpy())


@pytest.fixture
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}, {"centered": True, "momentum": 0.9}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_changes_no_bit(dtype, options):
    runs = []
    extra = {"param_rounding": "stochastic", "state_dtype": "bfloat16"} if dtype == torch.bfloat16 else {}
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        optimizer = RMSprop(parameters([(70_001,), (300, 301)], dtype), seed=5, **extra, **options)
        train(optimizer, 3)
        runs.append(optimizer)
    assert_same_bits(runs[1], runs[0])
    assert_same_bits(runs[2], runs[0])


@pytest.mark.usefixtures("_threads")
def test_threads_follow_torch(monkeypatch):
    from rmsprop import _step

    asked = []
    step = _step.core.step

    class Spy:
        def __getattr__(self, name):
            return getattr(real, name)

        def step(self, *args):
            asked.append(args[11])
            return step(*args)

    real = _step.core
    monkeypatch.setattr(_step, "core", Spy())
    optimizer = RMSprop(parameters())
    for threads in (1, 3, 2):
        torch.set_num_threads(threads)
        train(optimizer, 1)
    assert asked == [1, 3, 2]


@pytest.mark.parametrize(
    "options", [{}, {"max_norm": 0.7}, {"param_rounding": "stochastic", "state_dtype": "8bit"}], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_how_parameters_are_grouped_changes_no_bit(dtype, options):
    shapes = [(7,), (300,), (3, 5), (1000,), (2, 2)]
    runs = []
    for cuts in ([5], [1, 4], [2, 3], [1, 1, 1, 1, 1]):
        params = parameters(shapes, dtype)
        rest = iter(params)
        groups = [{"params": [next(rest) for _ in range(n)]} for n in cuts]
        optimizer = RMSprop(groups, momentum=0.9, seed=11, **options)
        for step in range(4):
            draw_grads(params, step)
            optimizer.step()
        runs.append((params, [optimizer.state[p] for p in params], optimizer.grad_norm))
    for params, states, norm in runs[1:]:
        assert_same_bits(params, runs[0][0])
        for state, expected in zip(states, runs[0][1]):
            assert bits(list(state.values())) == bits(list(expected.values()))
        assert norm == runs[0][2] or "max_norm" not in options


def test_a_half_done_step_is_impossible():
    """A group with a sparse gradient and parameters that share memory: refused before the sparse one has stepped."""
    first, second = parameters([(3,), (3,)])
    alias = torch.nn.Parameter(second.data)
    optimizer = RMSprop([first, second, alias])
    draw_grads([first, second, alias], 0)
    first.grad = first.grad.to_sparse()
    before = copy.deepcopy([first, second])
    with pytest.raises(ValueError, match="shares memory"):
        optimizer.step()
    assert_same_bits([first, second], before)


def test_numbers_are_those_of_numpy_for_a_step_without_a_past():
    """p - lr g / (sqrt(v) + eps), v = (1 - alpha) g^2, each operation rounded once to float32."""
    weight = parameters([(1000,)])[0]
    draw_grads([weight], 0)
    p, g = weight.detach().numpy().copy(), weight.grad.numpy()
    RMSprop([weight], lr=0.02).step()
    v = np.float32(1 - 0.99) * (g * g)
    assert same_bits(p - np.float32(0.02) * (g / (np.sqrt(v) + np.float32(1e-8))), weight.detach().numpy())
