"""Promise: rmsprop.jax.rmsprop replaces optax.rmsprop, in any dialect, wherever optax takes a transformation."""

from __future__ import annotations

import inspect
from functools import partial

import numpy as np
import pytest

import rmsprop
from cases import MINGLED
from rmsprop import Rule, formula
from rmsprop.errors import InputError, InputTypeError, RuleError, StateError

jax = pytest.importorskip("jax", reason="jax is not installed")
optax = pytest.importorskip("optax", reason="optax is not installed")
jnp = jax.numpy
ours = pytest.importorskip("rmsprop.jax")

SHAPES = {"w": (7, 5), "b": (5,)}
VARIANTS = [
    {},
    {"decay": 0.95, "eps": 1e-4},
    {"eps_in_sqrt": False},
    {"initial_scale": 1.0},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.0, "nesterov": True},
    {"bias_correction": True},
    {"centered": True, "eps": 1e-4},
    {"centered": True, "eps": 1e-4, "momentum": 0.9, "nesterov": True, "eps_in_sqrt": False, "initial_scale": 0.5},
]

WRAPPERS = {
    "chain": lambda tx: optax.chain(optax.clip(1.0), tx, optax.add_decayed_weights(0.01)),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, every_k_schedule=3).gradient_transformation(),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "partition": lambda tx: optax.partition({"a": tx, "z": optax.set_to_zero()}, {"w": "a", "b": "z"}),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 2),
    "flatten": optax.flatten,
}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def gradients(steps, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return [{k: rng.normal(size=s).astype(dtype) for k, s in SHAPES.items()} for _ in range(steps)]


def start(dtype="float64"):
    rng = np.random.default_rng(99)
    return {k: jnp.asarray(rng.normal(size=s), dtype) for k, s in SHAPES.items()}


def schedule(count):
    return 0.01 * (1 + 0.5 * jnp.sin(count * 0.3))


def run(tx, grads, params, state=None):
    state = tx.init(params) if state is None else state
    update = jax.jit(tx.update)
    for grad in grads:
        updates, state = update(grad, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def is_state(node):
    return isinstance(node, ours.RMSpropState)


def assert_close(a, b, rtol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol), a, b)


def test_the_signature_is_that_of_optax_plus_dialect():
    mine = dict(inspect.signature(ours.rmsprop).parameters)
    assert mine.pop("dialect").kind is inspect.Parameter.KEYWORD_ONLY
    theirs = inspect.signature(optax.rmsprop).parameters
    assert [(p.name, p.kind) for p in mine.values()] == [(p.name, p.kind) for p in theirs.values()]
    assert {p.default for p in mine.values()} == {None}  # the dialect's own
    assert repr(ours.rmsprop(0.1, dialect="sb3")).startswith("rmsprop.jax.rmsprop(dialect='sb3', Rule(rho=0.99")


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_100_steps_with_a_schedule_match_optax(options):
    with jax.enable_x64(True):
        grads = gradients(100)
        results = [run(make(schedule, **options), grads, start())[0] for make in (ours.rmsprop, optax.rmsprop)]
        assert_close(*results, 1e-12)
    # And one step in float32, upwards: optax accepts a negative learning rate.
    params, grad = start("float32"), gradients(1, "float32")[0]
    pair = [make(-0.5, **options) for make in (ours.rmsprop, optax.rmsprop)]
    (mine, _), (theirs, _) = (jax.jit(tx.update)(grad, tx.init(params)) for tx in pair)
    jax.tree.map(lambda x, y: np.testing.assert_array_max_ulp(np.asarray(x), np.asarray(y), 4), mine, theirs)


@pytest.mark.parametrize(
    "rule",
    [*MINGLED, rmsprop.dialect("keras3", weight_decay=0.01), Rule(eps=0.0, eps_mode="max", var_floor=0.1)],
    ids=repr,
)
@pytest.mark.usefixtures("x64")
def test_every_rule_follows_the_formula(rule):
    grads = gradients(20)
    mine, state = run(ours.rmsprop(schedule, dialect=rule), grads, start())
    for key, param in start().items():
        param = np.asarray(param)
        buffers = {b: np.full_like(param, rule.init_value if b in ("mean_sq", "grad_var") else 0) for b in rule.buffers}
        lr_max = 0.0
        for t, grad in enumerate(grads):
            lr = float(schedule(t))
            lr_max = max(lr_max, lr)
            param, buffers = formula.step(param, grad[key], buffers, rule, lr=lr, step=t + 1, lr_max=lr_max)
        np.testing.assert_allclose(mine[key], param, rtol=1e-12)
        for name, array in buffers.items():
            np.testing.assert_allclose(getattr(state, ours._state.FIELDS[name])[key], array, rtol=1e-11, atol=1e-300)


BAD_OPTIONS = [
    ({"bias_correction": True, "initial_scale": 1.0}, "choose one of the two"),
    ({"nesterov": True}, "nesterov='post' needs a momentum buffer"),
    ({"decay": 1.5}, "decay=1.5"),
    ({"decay": jnp.array(2.0)}, "decay=2.0"),
    ({"dialect": "torch", "nesterov": True}, "has no such option"),
    ({"eps_in_sqrt": "no"}, "eps_in_sqrt='no', expected True or False"),
    *(({"learning_rate": lr}, "learning_rate") for lr in (float("nan"), float("inf"), "0.1", True, None)),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS, ids=str)
def test_a_bad_option_raises(options, message):
    with pytest.raises((RuleError, InputError), match=message):
        ours.rmsprop(**{"learning_rate": 0.1, **options})


def step_once(params, grad, *, make_state=lambda tx, params: tx.init(params), **options):
    tx = ours.rmsprop(0.1, **options)
    return tx.update(grad, make_state(tx, params))


def make_16_bit_state(tx, params):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tx.init(params))


DECAY = rmsprop.dialect("keras3", weight_decay=0.1)
INTEGERS = jnp.zeros(3, jnp.int32)
BAD_STEPS = {
    "no params": ((jnp.zeros(3), jnp.zeros(3)), {"dialect": DECAY}, InputError, "params: None, expected"),
    "shape": (
        ({"w": jnp.zeros((7, 5))}, {"w": jnp.zeros(5)}), {}, InputError,
        r"updates\['w'\]: shape \(5,\), expected \(7, 5\)",
    ),
    "structure": (({"w": jnp.zeros(3), "b": jnp.zeros(5)}, {"w": jnp.zeros(3)}), {}, InputError, "another structure"),
    "integer parameters": ((INTEGERS, jnp.zeros(3)), {}, InputTypeError, "int32, expected a floating"),
    "integer gradients": ((jnp.zeros(3), INTEGERS), {}, InputTypeError, "updates: int32"),
    "16-bit state": (
        (jnp.zeros(3), jnp.zeros(3)), {"make_state": make_16_bit_state}, StateError, "statistics in bfloat16",
    ),
    "state of optax": (
        (jnp.zeros(3), jnp.zeros(3)), {"make_state": lambda tx, params: optax.rmsprop(0.1).init(params)}, StateError,
        r"rmsprop\.jax\.from_optax\(state, rule\) converts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_STEPS)
def test_a_bad_step_raises(case):
    (params, grad), options, error, message = BAD_STEPS[case]
    with pytest.raises(error, match=message):
        step_once(params, grad, **options)


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {}], ids=str)
def test_complex_parameters_use_the_squared_magnitude_as_in_optax(options):
    rng = np.random.default_rng(0)
    grads = [(rng.normal(size=9) + 1j * rng.normal(size=9)).astype("complex64") for _ in range(5)]
    params = jnp.ones(9, jnp.complex64)
    mine, _ = run(ours.rmsprop(0.1, **options), grads, params)
    theirs, _ = run(optax.rmsprop(0.1, **options), grads, params)
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)


@pytest.mark.parametrize("dialect", ["torch", "tensorflow1", Rule(centered=True), Rule(maximize=True)], ids=repr)
def test_complex_parameters_raise_where_the_dialect_does_not_define_them(dialect):
    tx = ours.rmsprop(0.1, dialect=dialect)
    params = jnp.ones(3, jnp.complex64)
    with pytest.raises(InputTypeError, match="complex"):
        tx.update(params, tx.init(params), params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_parameters_have_float32_state(dtype):
    params = {"w": jnp.ones(4, dtype)}
    tx = ours.rmsprop(0.1, momentum=0.9)
    updates, state = jax.jit(tx.update)({"w": jnp.full(4, 1e-3, dtype)}, tx.init(params))
    assert updates["w"].dtype == params["w"].dtype
    assert optax.tree.get(state, "nu") is state.nu
    assert state.nu["w"].dtype == state.momentum_buf["w"].dtype == jnp.float32
    expected = 0.1 * float(jnp.asarray(1e-3, dtype)) ** 2
    np.testing.assert_allclose(state.nu["w"], expected, rtol=1e-6)


def test_centered_stays_finite_where_optax_is_nan():
    grad = jnp.asarray(np.random.default_rng(0).normal(size=20_000), jnp.float32)

    def steps(tx):
        state = tx.init(grad)
        for _ in range(200):
            updates, state = tx.update(grad, state)  # not jitted: fused operations round differently and hide the NaN
        return updates

    assert np.isnan(steps(optax.rmsprop(1e-3, centered=True))).any()
    assert np.isfinite(steps(ours.rmsprop(1e-3, centered=True))).all()


def test_centered_with_bias_correction_divides_its_first_step_by_the_magnitude():
    params = jnp.zeros(1000)
    grad = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32)
    mine, _ = run(ours.rmsprop(0.1, eps=0.0, centered=True, bias_correction=True), [grad], params)
    np.testing.assert_allclose(mine, -0.1 * np.sign(grad), rtol=1e-5)


@pytest.mark.parametrize("centered", [False, True])
def test_only_gradients_that_are_not_finite_give_nan(centered):
    tiny, huge = np.finfo("float32").tiny, np.finfo("float32").max
    grad = jnp.asarray([0.0, tiny, -huge, huge, np.inf, -np.inf, np.nan], jnp.float32)
    tx = ours.rmsprop(0.1, centered=centered, eps=0.0)
    params, state = run(tx, [grad, jnp.ones(7)], jnp.zeros(7))
    assert np.isfinite(params).tolist() == [True] * 4 + [False] * 3
    assert np.isfinite(jax.tree.leaves(state)[1]).tolist() == [True] * 4 + [False] * 3


def test_a_gradient_of_none_leaves_its_parameter_and_state_unchanged():
    tx = ours.rmsprop(0.1)
    state = tx.init(start("float32"))
    updates, new = tx.update({"w": None, "b": jnp.ones(5)}, state)
    assert updates["w"] is None
    np.testing.assert_array_equal(new.nu["w"], state.nu["w"])
    assert (new.nu["b"] > 0).all()


def test_a_changing_learning_rate_compiles_once():
    tx = optax.inject_hyperparams(ours.rmsprop)(learning_rate=0.1, decay=0.9, momentum=0.9)
    traces = []

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grad):
        traces.append(1)
        updates, state = tx.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    params = start("float32")
    state = tx.init(params)
    for lr, grad in zip([0.1, 0.5, 0.0], gradients(3, "float32")):
        state.hyperparams["learning_rate"] = jnp.asarray(lr, jnp.float32)
        state.hyperparams["decay"] = jnp.asarray(0.9 + lr / 10, jnp.float32)
        before = jax.tree.map(np.array, params)
        params, state = step(params, state, grad)
    assert len(traces) == 1
    assert not np.array_equal(before["w"], params["w"])  # momentum still moves the parameters at lr 0


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_wrappers_of_optax_work(wrapper):
    grads = gradients(7, "float32")
    pair = (WRAPPERS[wrapper](make(schedule, momentum=0.9)) for make in (ours.rmsprop, optax.rmsprop))
    assert_close(*(run(tx, grads, start("float32"))[0] for tx in pair), 2e-5)


def test_injected_hyperparameters_match_optax_and_a_run_may_switch():
    numbers = {"learning_rate": schedule, "decay": lambda t: 0.9 + 0.01 * t, "eps": 1e-8, "initial_scale": 0.2}
    mine, theirs = (optax.inject_hyperparams(make)(**numbers) for make in (ours.rmsprop, optax.rmsprop))
    grads = gradients(6, "float32")
    expected, _ = run(theirs, grads, start("float32"))
    params, state = run(mine, grads, start("float32"))
    assert set(state.hyperparams) == set(numbers)
    assert_close(params, expected, 1e-5)
    params, state = run(theirs, grads[:3], start("float32"))
    state = ours.from_optax(state, rmsprop.dialect("optax", init=0.2))
    assert int(state.inner_state.count) == 3
    params, _ = run(mine, grads[3:], params, state)
    assert_close(params, expected, 1e-5)
    # Switches that are not injected are those of the dialect.
    pair = optax.inject_hyperparams(ours.rmsprop)(schedule, dialect="torch"), ours.rmsprop(schedule, dialect="torch")
    assert_close(*(run(tx, grads, start("float32"))[0] for tx in pair), 1e-6)


def test_vmap_steps_the_models_of_an_ensemble_independently():
    tx = ours.rmsprop(schedule, momentum=0.9, centered=True)
    grads = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 3)), jnp.float32)
    params = jnp.ones((6, 3))
    together, state = params, jax.vmap(tx.init)(params)
    for grad in grads:
        updates, state = jax.vmap(tx.update)(grad, state)
        together = together + updates
    for i in range(6):
        alone, _ = run(tx, list(grads[:, i]), params[i])
        np.testing.assert_allclose(together[i], alone, rtol=1e-6)


def test_the_state_works_with_the_tree_functions_of_optax():
    tx = ours.rmsprop(0.1, momentum=0.9)
    state = tx.init(start("float32"))
    doubled = optax.tree.map_params(tx, lambda leaf: leaf + 2, state)
    assert int(doubled.count) == 0
    assert float(doubled.nu["w"][0, 0]) == 2.0
    leaves, structure = jax.tree.flatten(state)
    assert jax.tree.unflatten(structure, leaves)._fields == state._fields


def make_rule(options):
    """The rule that optax's options stand for."""
    names = {"decay": "rho", "initial_scale": "init"}
    switches = {names.get(k, k): v for k, v in options.items() if k not in ("eps_in_sqrt", "nesterov")}
    switches |= {"eps_mode": "outside"} if options.get("eps_in_sqrt") is False else {}
    return rmsprop.dialect("optax", **switches, **({"nesterov": "post"} if options.get("nesterov") else {}))


SWITCHES = [
    *(pytest.param(options, lambda tx: tx, id=str(options)) for options in VARIANTS if options.get("momentum") != 0.0),
    *(pytest.param({"momentum": 0.9, "bias_correction": True}, wrap, id=name) for name, wrap in WRAPPERS.items()),
]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "wrap"), SWITCHES)
@pytest.mark.usefixtures("x64")
def test_a_run_may_switch_to_optax_and_back(options, wrap):
    rule, grads = make_rule(options), gradients(30)
    mine, theirs = (wrap(make(schedule, **options)) for make in (ours.rmsprop, optax.rmsprop))
    expected, _ = run(theirs, grads, start())
    params, state = run(mine, grads[:9], start())
    state = ours.to_optax(state, rule, schedule=True)
    assert jax.tree.structure(state) == jax.tree.structure(theirs.init(params))
    params, state = run(theirs, grads[9:18], params, state)
    state = ours.from_optax(state, rule)
    assert jax.tree.structure(state) == jax.tree.structure(mine.init(params))
    params, _ = run(mine, grads[18:], params, state)
    assert_close(params, expected, 1e-11)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_state_without_a_count_takes_it_from_its_wrapper_or_starts_at_0(wrapper):
    _, state = run(WRAPPERS[wrapper](optax.rmsprop(0.1)), gradients(3, "float32"), start("float32"))
    state = ours.from_optax(state, rmsprop.dialect("optax"))
    found = [node.count for node in jax.tree.leaves(state, is_leaf=is_state) if is_state(node)]
    assert [int(count) for count in found] == [1 if wrapper == "MultiSteps" else 0]


@pytest.mark.parametrize("form", ["list", "dict"])
def test_a_state_restored_as_lists_or_dicts_is_converted(form):
    rule = rmsprop.dialect("optax", momentum=0.9)
    _, state = run(optax.rmsprop(0.1, momentum=0.9), gradients(2, "float32"), start("float32"))
    restored = [{name: getattr(part, name) for name in part._fields} for part in state]
    if form == "dict":
        restored = {str(i): part for i, part in enumerate(restored)}
    assert_close(ours.from_optax({"opt": restored}, rule)["opt"], ours.from_optax(state, rule), 0)


def test_converting_a_state_of_another_kind_raises():
    rule = rmsprop.dialect("optax")
    params = jnp.zeros(3)
    for state in (optax.adam(0.1).init(params), optax.rmsprop(0.1, centered=True).init(params), 3):
        with pytest.raises(StateError, match=r"^state: (no state of optax.rmsprop in a|made with centered, but)"):
            ours.from_optax(state, rule)
    with pytest.raises(StateError, match="no RMSpropState in a"):
        ours.to_optax(optax.adam(0.1).init(params), rule)
    with pytest.raises(StateError, match="learning rate inside"):
        ours.to_optax(ours.rmsprop(0.1, dialect="torch").init(params), rmsprop.dialect("torch", momentum=0.5))


@pytest.mark.parametrize(
    "options", [{}, {"decay": 0.75, "eps": 0.1}, {"eps_in_sqrt": False}, {"bias_correction": True}]
)
@pytest.mark.parametrize("name", ["scale_by_rms", "scale_by_stddev"])
@pytest.mark.usefixtures("x64")
def test_scale_by_functions_match_optax(name, options):
    mine, theirs = (getattr(library, name)(**options) for library in (ours, optax))
    state, their_state = mine.init(start()), theirs.init(start())
    for t, grad in enumerate(gradients(20)):
        updates, state = mine.update(grad, state)
        expected, their_state = theirs.update(grad, their_state)
        if t or not (options.get("bias_correction") and name == "scale_by_stddev"):  # optax divides by 0 there
            assert_close(updates, expected, 1e-10)
    if not options.get("bias_correction"):
        assert_close(state.mean_square(), optax.tree.get(their_state, "nu"), 1e-12)
    with pytest.raises(InputError, match=f"has more than {name} does"):
        getattr(ours, name)(dialect=Rule(momentum=0.9, buffer="lr", centered=name == "scale_by_stddev"))


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"centered": True}, {"centered": True, "bias_correction": True, "momentum": 0.9}],
    ids=str,
)
def test_a_donated_step_allocates_no_temporary_array(options):
    tx = ours.rmsprop(0.1, **options)

    def step(params, state, grads):
        updates, state = tx.update(grads, state)
        return optax.apply_updates(params, updates), state

    params = jnp.ones(100_000)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, tx.init(params), 2 * params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 100
