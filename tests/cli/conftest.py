"""Run the command line in this process."""

import pytest
from typer.testing import CliRunner

from rmsprop.cli import app


@pytest.fixture(scope="session")
def call():
    """Run `rmsprop WORDS` and return the result; `columns` None is a pipe."""

    def run(*words, columns="200", **env):
        return CliRunner(env={"COLUMNS": columns, "NO_COLOR": "1", **env}).invoke(app, list(words))

    return run


@pytest.fixture(scope="session")
def run_ok(call):
    """Run `rmsprop WORDS`, which must succeed, and return what it printed."""

    def run(*words, **options):
        result = call(*words, **options)
        assert result.exit_code == 0, result.output
        return result.output

    return run
