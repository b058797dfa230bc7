"""rmsprop.jax.rmsprop replaces optax.rmsprop, in any dialect, wherever optax takes a transformation."""

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


def assert_close(a, b, rtol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol), a, b)


def test_the_signature_is_that_of_optax_and_a_dialect():
    mine = dict(inspect.signature(ours.rmsprop).parameters)
    assert mine.pop("dialect").kind is inspect.Parameter.KEYWORD_ONLY
    theirs = inspect.signature(optax.rmsprop).parameters
    assert [(p.name, p.kind) for p in mine.values()] == [(p.name, p.kind) for p in theirs.values()]
    assert {p.default for p in mine.values()} == {None}  # the dialect's own
    assert repr(ours.rmsprop(0.1, dialect="sb3")).startswith("rmsprop.jax.rmsprop(dialect='sb3', Rule(rho=0.99")


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.usefixtures("x64")
def test_float64_is_optax_within_1e_12_over_100_steps_of_a_changing_lr(options):
    grads = gradients(100)
    mine, _ = run(ours.rmsprop(schedule, **options), grads, start())
    theirs, _ = run(optax.rmsprop(schedule, **options), grads, start())
    assert_close(mine, theirs, 1e-12)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_float32_updates_are_those_of_optax_within_4_ulp(options):
    params = start("float32")
    grad = gradients(1, "float32")[0]
    mine, theirs = (make(0.5, **options) for make in (ours.rmsprop, optax.rmsprop))
    (mine, _), (theirs, _) = (jax.jit(tx.update)(grad, tx.init(params)) for tx in (mine, theirs))
    jax.tree.map(lambda x, y: np.testing.assert_array_max_ulp(np.asarray(x), np.asarray(y), 4), mine, theirs)


@pytest.mark.parametrize(
    "rule",
    [*MINGLED, rmsprop.dialect("keras3", weight_decay=0.01), Rule(eps=0.0, eps_mode="max", var_floor=0.1)],
    ids=repr,
)
@pytest.mark.usefixtures("x64")
def test_each_rule_gives_the_numbers_of_the_formula(rule):
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias_correction": True, "initial_scale": 1.0}, "choose one of the two"),
        ({"nesterov": True}, "nesterov='post' needs a momentum buffer"),
        ({"decay": 1.5}, "decay=1.5"),
        ({"dialect": "torch", "nesterov": True}, "has no such option"),
        ({"dialect": "torhc"}, "did you mean"),
        ({"dialect": 3}, "dialect: a int"),
        ({"dialect": Rule(), "momentum": 0.9}, "momentum=0.9 contradicts the given Rule"),
        ({"dialect": "dqn", "centered": False}, r"pass rmsprop\.dialect\('dqn'\)\.replace\(centered=False\)"),
        ({"eps_in_sqrt": "no"}, "eps_in_sqrt='no', expected True or False"),
        ({"decay": jnp.array(2.0)}, "decay=2.0"),
        ({"epsilon": 1e-8}, "unknown option 'epsilon'; use 'eps'"),
        ({"alpha": 0.9}, "unknown option 'alpha'; use 'decay'"),
    ],
    ids=str,
)
def test_a_rule_that_cannot_be_raises(options, message):
    with pytest.raises((RuleError, InputError), match=message):
        ours.rmsprop(0.1, **options)


@pytest.mark.parametrize("lr", [float("nan"), float("inf"), "0.1", True, None])
def test_a_learning_rate_that_is_no_finite_number_raises(lr):
    with pytest.raises(InputError, match="learning_rate"):
        ours.rmsprop(lr)


def test_a_negative_learning_rate_ascends_as_in_optax():
    grads = gradients(3, "float32")
    mine, theirs = (run(make(-0.1), grads, start("float32"))[0] for make in (ours.rmsprop, optax.rmsprop))
    assert_close(mine, theirs, 1e-6)


def test_weight_decay_without_params_raises():
    tx = ours.rmsprop(0.1, dialect=rmsprop.dialect("keras3", weight_decay=0.1))
    with pytest.raises(InputError, match="params: None, expected the parameters"):
        tx.update(start("float32"), tx.init(start("float32")))


def test_a_gradient_of_another_shape_raises_by_name():
    tx = ours.rmsprop(0.1)
    state = tx.init(start("float32"))
    with pytest.raises(InputError, match=r"updates\['w'\]: shape \(5,\), expected \(7, 5\)"):
        tx.update({"w": jnp.zeros(5), "b": jnp.zeros(5)}, state)


def test_gradients_of_another_structure_raise():
    tx = ours.rmsprop(0.1)
    with pytest.raises(InputError, match=r"state.nu: another structure"):
        tx.update({"w": jnp.zeros((7, 5))}, tx.init(start("float32")))


def test_integer_parameters_and_gradients_raise():
    with pytest.raises(InputTypeError, match="int32, expected a floating"):
        ours.rmsprop(0.1).init(jnp.zeros(3, jnp.int32))
    tx = ours.rmsprop(0.1)
    with pytest.raises(InputTypeError, match="updates: int32"):
        tx.update(jnp.zeros(3, jnp.int32), tx.init(jnp.zeros(3)))


def test_statistics_in_16_bits_raise():
    tx = ours.rmsprop(0.1)
    state = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tx.init(jnp.zeros(3)))
    with pytest.raises(StateError, match="statistics in bfloat16"):
        tx.update(jnp.zeros(3), state)


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {}], ids=str)
def test_complex_parameters_go_by_the_squared_magnitude_as_in_optax(options):
    rng = np.random.default_rng(0)
    grads = [(rng.normal(size=9) + 1j * rng.normal(size=9)).astype("complex64") for _ in range(5)]
    params = jnp.ones(9, jnp.complex64)
    mine, _ = run(ours.rmsprop(0.1, **options), grads, params)
    theirs, _ = run(optax.rmsprop(0.1, **options), grads, params)
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)


@pytest.mark.parametrize("dialect", ["torch", "tensorflow1", Rule(centered=True), Rule(maximize=True)], ids=repr)
def test_complex_parameters_raise_where_the_rule_is_not_defined_for_them(dialect):
    tx = ours.rmsprop(0.1, dialect=dialect)
    params = jnp.ones(3, jnp.complex64)
    with pytest.raises(InputTypeError, match="complex"):
        tx.update(params, tx.init(params), params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_parameters_keep_float32_statistics_and_their_own_dtype(dtype):
    params = {"w": jnp.ones(4, dtype)}
    tx = ours.rmsprop(0.1, momentum=0.9)
    updates, state = jax.jit(tx.update)({"w": jnp.full(4, 1e-3, dtype)}, tx.init(params))
    assert updates["w"].dtype == params["w"].dtype
    assert state.nu["w"].dtype == state.momentum_buf["w"].dtype == jnp.float32
    expected = 0.1 * float(jnp.asarray(1e-3, dtype)) ** 2
    np.testing.assert_allclose(state.nu["w"], expected, rtol=1e-6)


def test_centered_stays_finite_where_optax_is_nan():
    grad = jnp.asarray(np.random.default_rng(0).normal(size=20_000), jnp.float32)

    def steps(tx):
        state = tx.init(grad)
        for _ in range(200):
            updates, state = tx.update(grad, state)  # not jitted: fused, the rounding happens to be kinder
        return updates

    assert np.isnan(steps(optax.rmsprop(1e-3, centered=True))).any()
    assert np.isfinite(steps(ours.rmsprop(1e-3, centered=True))).all()


def test_centered_with_bias_correction_divides_its_first_step_by_the_magnitude():
    params = jnp.zeros(1000)
    grad = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32)
    mine, _ = run(ours.rmsprop(0.1, eps=0.0, centered=True, bias_correction=True), [grad], params)
    np.testing.assert_allclose(mine, -0.1 * np.sign(grad), rtol=1e-5)


@pytest.mark.parametrize("centered", [False, True])
def test_finite_gradients_give_finite_parameters_and_others_arrive_as_nan(centered):
    tiny, huge = np.finfo("float32").tiny, np.finfo("float32").max
    grad = jnp.asarray([0.0, tiny, -huge, huge, np.inf, -np.inf, np.nan], jnp.float32)
    tx = ours.rmsprop(0.1, centered=centered, eps=0.0)
    params, state = run(tx, [grad, jnp.ones(7)], jnp.zeros(7))
    assert np.isfinite(params).tolist() == [True] * 4 + [False] * 3
    assert np.isfinite(jax.tree.leaves(state)[1]).tolist() == [True] * 4 + [False] * 3


def test_a_gradient_of_none_leaves_its_parameter_and_statistics_alone():
    tx = ours.rmsprop(0.1)
    state = tx.init(start("float32"))
    updates, new = tx.update({"w": None, "b": jnp.ones(5)}, state)
    assert updates["w"] is None
    np.testing.assert_array_equal(new.nu["w"], state.nu["w"])
    assert (new.nu["b"] > 0).all()


def compilations(tx):
    traces = []

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grad):
        traces.append(1)
        updates, state = tx.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    return step, traces


def test_a_changing_learning_rate_compiles_once():
    tx = optax.inject_hyperparams(ours.rmsprop)(learning_rate=0.1, decay=0.9, momentum=0.9)
    step, traces = compilations(tx)
    params = start("float32")
    state = tx.init(params)
    for lr, grad in zip([0.1, 0.5, 0.0], gradients(3, "float32")):
        state.hyperparams["learning_rate"] = jnp.asarray(lr, jnp.float32)
        state.hyperparams["decay"] = jnp.asarray(0.9 + lr / 10, jnp.float32)
        before = jax.tree.map(np.array, params)
        params, state = step(params, state, grad)
    assert len(traces) == 1
    assert not np.array_equal(before["w"], params["w"])  # the momentum goes on at lr 0


def test_injected_numbers_are_those_of_optax():
    options = {"learning_rate": schedule, "decay": lambda t: 0.9 + 0.01 * t, "momentum": 0.5, "initial_scale": 0.2}
    grads = gradients(5, "float32")
    mine, state = run(optax.inject_hyperparams(ours.rmsprop)(**options), grads, start("float32"))
    theirs, theirs_state = run(optax.inject_hyperparams(optax.rmsprop)(**options), grads, start("float32"))
    assert set(state.hyperparams) == set(options) < set(theirs_state.hyperparams)
    assert_close(mine, theirs, 1e-5)


def test_a_dialect_decides_what_is_not_injected():
    tx = optax.inject_hyperparams(ours.rmsprop)(learning_rate=schedule, dialect="torch")
    mine, _ = run(tx, gradients(3, "float32"), start("float32"))
    plain, _ = run(ours.rmsprop(schedule, dialect="torch"), gradients(3, "float32"), start("float32"))
    assert_close(mine, plain, 1e-6)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_what_wraps_optax_wraps_this(wrapper):
    grads = gradients(7, "float32")
    mine, _ = run(WRAPPERS[wrapper](ours.rmsprop(schedule, momentum=0.9)), grads, start("float32"))
    theirs, _ = run(WRAPPERS[wrapper](optax.rmsprop(schedule, momentum=0.9)), grads, start("float32"))
    assert_close(mine, theirs, 2e-5)


def test_vmap_steps_every_member_of_an_ensemble_alone():
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


def test_the_state_maps_over_parameters_and_survives_flattening():
    tx = ours.rmsprop(0.1, momentum=0.9)
    state = tx.init(start("float32"))
    doubled = optax.tree.map_params(tx, lambda leaf: leaf + 2, state)
    assert int(doubled.count) == 0
    assert float(doubled.nu["w"][0, 0]) == 2.0
    leaves, structure = jax.tree.flatten(state)
    assert jax.tree.unflatten(structure, leaves)._fields == state._fields


@pytest.mark.parametrize("options", [o for o in VARIANTS if o.get("momentum") != 0.0], ids=str)
@pytest.mark.usefixtures("x64")
def test_a_run_changes_over_to_optax_and_back_in_its_middle(options):
    rule = rmsprop.dialect(
        "optax",
        **{
            {"decay": "rho", "initial_scale": "init"}.get(k, k): v
            for k, v in options.items()
            if k in ("decay", "eps", "initial_scale", "centered", "momentum", "bias_correction")
        },
        **({"eps_mode": "outside"} if options.get("eps_in_sqrt") is False else {}),
        **({"nesterov": "post"} if options.get("nesterov") else {}),
    )
    grads = gradients(30)
    mine, theirs = ours.rmsprop(schedule, **options), optax.rmsprop(schedule, **options)
    expected, _ = run(theirs, grads, start())
    params, state = run(mine, grads[:10], start())
    state = ours.to_optax(state, rule, schedule=True)
    assert jax.tree.structure(state) == jax.tree.structure(theirs.init(params))
    for i, grad in enumerate(grads[10:]):
        if i == 10:
            state = ours.from_optax(state, rule)
        tx = theirs if i < 10 else mine
        updates, state = tx.update(grad, state, params)
        params = optax.apply_updates(params, updates)
    assert_close(params, expected, 1e-11)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.usefixtures("x64")
def test_a_run_changes_over_inside_a_wrapper_and_back(wrapper):
    options = {"momentum": 0.9, "bias_correction": True}
    rule = rmsprop.dialect("optax", momentum=0.9, bias_correction=True)
    mine, theirs = (WRAPPERS[wrapper](make(schedule, **options)) for make in (ours.rmsprop, optax.rmsprop))
    grads = gradients(9)
    expected, _ = run(theirs, grads, start())
    params, state = run(theirs, grads[:3], start())
    state = ours.from_optax(state, rule)
    assert jax.tree.structure(state) == jax.tree.structure(mine.init(params))
    params, state = run(mine, grads[3:6], params, state)
    state = ours.to_optax(state, rule, schedule=True)
    assert jax.tree.structure(state) == jax.tree.structure(theirs.init(params))
    params, _ = run(theirs, grads[6:], params, state)
    assert_close(params, expected, 1e-11)


def test_a_run_changes_over_inside_injected_hyperparameters():
    numbers = {"learning_rate": schedule, "decay": 0.9, "eps": 1e-8, "initial_scale": 0.0}  # what optax injects
    mine, theirs = (optax.inject_hyperparams(make)(**numbers) for make in (ours.rmsprop, optax.rmsprop))
    grads = gradients(6, "float32")
    expected, _ = run(theirs, grads, start("float32"))
    params, state = run(theirs, grads[:3], start("float32"))
    state = ours.from_optax(state, rmsprop.dialect("optax"))
    assert int(state.inner_state.count) == 3
    params, _ = run(mine, grads[3:], params, state)
    assert_close(params, expected, 1e-5)


@pytest.mark.parametrize("form", ["list", "dict"])
def test_a_state_restored_without_its_classes_is_converted(form):
    rule = rmsprop.dialect("optax", momentum=0.9)
    _, state = run(optax.rmsprop(0.1, momentum=0.9), gradients(2, "float32"), start("float32"))
    restored = [{name: getattr(part, name) for name in part._fields} for part in state]
    if form == "dict":
        restored = {str(i): part for i, part in enumerate(restored)}
    assert_close(ours.from_optax({"opt": restored}, rule)["opt"], ours.from_optax(state, rule), 0)


def test_a_state_of_something_else_raises():
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
def test_scaling_alone_is_that_of_optax(name, options):
    mine, theirs = (getattr(library, name)(**options) for library in (ours, optax))
    state, their_state = mine.init(start()), theirs.init(start())
    for t, grad in enumerate(gradients(20)):
        updates, state = mine.update(grad, state)
        expected, their_state = theirs.update(grad, their_state)
        if t or not (options.get("bias_correction") and name == "scale_by_stddev"):  # optax divides by 0 there
            assert_close(updates, expected, 1e-10)
    if not options.get("bias_correction"):
        assert_close(state.mean_square(), optax.tree.get(their_state, "nu"), 1e-12)


@pytest.mark.parametrize("dialect", [Rule(momentum=0.9, buffer="lr"), Rule(weight_decay=0.1, weight_decay_mode="l2")])
def test_scaling_alone_refuses_a_rule_with_more(dialect):
    with pytest.raises(InputError, match="has more than scale_by_rms does"):
        ours.scale_by_rms(dialect=dialect)


def test_the_mean_square_is_found_under_optaxs_name():
    state = ours.rmsprop(0.1).update({"w": jnp.full(2, 2.0)}, ours.rmsprop(0.1).init({"w": jnp.zeros(2)}))[1]
    np.testing.assert_allclose(optax.tree.get(state, "nu")["w"], 0.4, rtol=1e-6)
    wrapped = optax.chain(optax.clip(1.0), ours.rmsprop(0.1)).init({"w": jnp.zeros(2)})
    assert optax.tree.get(wrapped, "nu")["w"].shape == (2,)


def test_a_state_of_optax_names_its_converter():
    theirs = optax.rmsprop(0.1).init(start("float32"))
    with pytest.raises(StateError, match=r"rmsprop\.jax\.from_optax\(state, rule\) converts"):
        ours.rmsprop(0.1).update(gradients(1, "float32")[0], theirs)


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"centered": True}, {"centered": True, "bias_correction": True, "momentum": 0.9}],
    ids=str,
)
def test_a_donated_step_needs_no_array_beside_the_state(options):
    tx = ours.rmsprop(0.1, **options)

    def step(params, state, grads):
        updates, state = tx.update(grads, state)
        return optax.apply_updates(params, updates), state

    params = jnp.ones(100_000)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, tx.init(params), 2 * params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 100
