"""`rmsprop recipes`: the table, one recipe, and code that sets its rule in each framework."""

import numpy as np
import pytest
from typer.testing import CliRunner

import rmsprop
from rmsprop import recipes
from rmsprop.cli import app
from rmsprop.commands import words
from rmsprop.commands.recipes import make_code as code


def call(*line):
    return CliRunner(env={"COLUMNS": "260", "NO_COLOR": "1"}).invoke(app, ["recipes", *line])


def done(*line):
    result = call(*line)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_table_has_a_row_for_every_recipe():
    lines = done().splitlines()
    for row in recipes.all():
        (line,) = [line for line in lines if line.split()[:1] == [row.name]]
        for cell in (row.title, row.dialect, f"{row.lr:g}", words.describe(row.rule)):
            assert f" {cell} " in line


@pytest.mark.parametrize("row", recipes.all(), ids=lambda row: row.name)
def test_one_name_tells_all_that_is_known_and_the_code(row):
    output = done(row.name)
    told = " ".join(output.split())
    clip = [] if row.max_norm is None else [f"to norm {row.max_norm:g}"]
    facts = (row.title, words.describe(row.rule), row.dialect, row.schedule, row.source, *row.facts, *row.notes)
    for text in (*facts, *row.aliases, *clip, f"{row.lr:g}", words.EVIDENCE[row.evidence]):
        assert " ".join(text.split()) in told
    for line in (f"row = rmsprop.recipe({row.name!r})", *code(row).values()):
        assert line in output.splitlines()


def test_an_alias_is_taken_and_a_wrong_name_suggests_the_nearest():
    assert done("DQN") == done("dqn-nature")
    result = call("dqn-natrue")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: unknown recipe 'dqn-natrue', did you mean 'dqn-nature' or ")


PARAM, GRAD = np.full(3, 0.5, np.float32), np.array([100.0, -3.0, 0.1], np.float32)


def run(row, framework, **names):
    scope = {"rmsprop": rmsprop, **names}
    exec(f"row = rmsprop.recipe({row.name!r})\n{code(row)[framework]}", scope)
    return scope


def assert_steps_by_the_recipe(row, stepped):
    param = PARAM.copy()
    rmsprop.RMSprop(param, lr=row.lr, dialect=row.rule, max_norm=row.max_norm).step(GRAD)
    assert abs(param - PARAM).max() > 0
    np.testing.assert_allclose(stepped - PARAM, param - PARAM, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("row", recipes.all(), ids=lambda row: row.name)
class TestTheCodeSetsTheRecipe:
    def test_numpy(self, row):
        param = PARAM.copy()
        run(row, "NumPy", params=param)["optimizer"].step(GRAD)
        assert_steps_by_the_recipe(row, param)

    def test_torch(self, row):
        torch = pytest.importorskip("torch")
        param = torch.nn.Parameter(torch.tensor(PARAM))
        param.grad = torch.tensor(GRAD)
        run(row, "PyTorch", params=[param])["optimizer"].step()
        assert_steps_by_the_recipe(row, param.detach().numpy())

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras's __array__ has no copy argument
    def test_keras(self, row):
        keras = pytest.importorskip("keras")
        variable = keras.Variable(PARAM)
        run(row, "Keras")["optimizer"].apply([keras.ops.convert_to_tensor(GRAD)], [variable])
        assert_steps_by_the_recipe(row, keras.ops.convert_to_numpy(variable))

    def test_jax(self, row):
        optax = pytest.importorskip("optax")
        tx = run(row, "JAX", optax=optax)["tx"]
        updates, _ = tx.update(GRAD, tx.init(PARAM), PARAM)
        assert_steps_by_the_recipe(row, PARAM + np.asarray(updates))
