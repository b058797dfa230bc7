"""`rmsprop recipes`: the table, a recipe, and code that sets its rule in each framework."""

import numpy as np
import pytest

import rmsprop
from rmsprop import recipes
from rmsprop.commands import words
from rmsprop.commands.recipes import make_code

ROWS = pytest.mark.parametrize("row", recipes.all(), ids=lambda row: row.name)


def test_the_table_has_a_row_for_every_recipe(run_ok):
    lines = run_ok("recipes", columns="260").splitlines()
    for row in recipes.all():
        (line,) = [line for line in lines if line.split()[:1] == [row.name]]
        for cell in (row.title, row.dialect, f"{row.lr:g}", words.describe(row.rule)):
            assert f" {cell} " in line


@ROWS
def test_a_name_shows_everything_known_and_the_code(row, run_ok):
    output = run_ok("recipes", row.name, columns="260")
    text = " ".join(output.split())
    clip = [] if row.max_norm is None else [f"to norm {row.max_norm:g}"]
    facts = (row.title, words.describe(row.rule), row.dialect, row.schedule, row.source, *row.facts, *row.notes)
    for fact in (*facts, *row.aliases, *clip, f"{row.lr:g}", words.EVIDENCE[row.evidence]):
        assert " ".join(fact.split()) in text
    for line in (f"row = rmsprop.recipe({row.name!r})", *make_code(row).values()):
        assert line in output.splitlines()


def test_an_alias_is_a_name_too(run_ok):
    assert run_ok("recipes", "DQN") == run_ok("recipes", "dqn-nature")


PARAM, GRAD = np.full(3, 0.5, np.float32), np.array([100.0, -3.0, 0.1], np.float32)


def step_numpy(run):
    param = PARAM.copy()
    run(params=param)["optimizer"].step(GRAD)
    return param


def step_torch(run):
    torch = pytest.importorskip("torch")
    param = torch.nn.Parameter(torch.tensor(PARAM))
    param.grad = torch.tensor(GRAD)
    run(params=[param])["optimizer"].step()
    return param.detach().numpy()


def step_keras(run):
    keras = pytest.importorskip("keras")
    variable = keras.Variable(PARAM)
    run()["optimizer"].apply([keras.ops.convert_to_tensor(GRAD)], [variable])
    return keras.ops.convert_to_numpy(variable)


def step_jax(run):
    optax = pytest.importorskip("optax")
    tx = run(optax=optax)["tx"]
    updates, _ = tx.update(GRAD, tx.init(PARAM), PARAM)
    return PARAM + np.asarray(updates)


@ROWS
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras's __array__ has no copy argument
@pytest.mark.parametrize(
    ("framework", "step"),
    [
        ("NumPy", step_numpy),
        pytest.param("PyTorch", step_torch, marks=pytest.mark.slow),
        pytest.param("Keras", step_keras, marks=pytest.mark.slow),
        pytest.param("JAX", step_jax, marks=pytest.mark.slow),
    ],
)
def test_the_code_sets_the_recipe(row, framework, step):
    def run(**names):
        scope = {"rmsprop": rmsprop, **names}
        exec(f"row = rmsprop.recipe({row.name!r})\n{make_code(row)[framework]}", scope)
        return scope

    param = PARAM.copy()
    rmsprop.RMSprop(param, lr=row.lr, dialect=row.rule, max_norm=row.max_norm).step(GRAD)
    assert abs(param - PARAM).max() > 0
    np.testing.assert_allclose(step(run) - PARAM, param - PARAM, rtol=1e-4, atol=1e-7)
