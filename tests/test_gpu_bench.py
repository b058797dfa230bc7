"""Promise: the program of `make gpu` runs; what needs a GPU says so."""

import json
import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from bench import gpu  # noqa: E402


def test_a_dry_run_on_the_cpu_writes_the_page_and_claims_nothing_about_a_gpu(tmp_path, capsys):
    assert gpu.run_from_command_line(["--device", "cpu", "--quick", "--out", str(tmp_path)]) == 0
    assert "bits: on the CPU, a dry run" in capsys.readouterr().out
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert len(results["bits"]) == len(gpu.FORMATS) * len(gpu.OPTIONS)
    assert sum(row.get("same bits", False) for row in results["bits"]) > len(results["bits"]) // 2
    assert results["sanitizer"] == {"error": "needs a GPU"}
    page = (tmp_path / "gpu.md").read_text()
    assert "on the CPU, a dry run" in page
    assert "| torch foreach |" in page


def test_a_difference_from_the_cpu_fails(tmp_path, monkeypatch):
    run = gpu.run_steps
    calls = []

    def run_wrongly(*args):
        calls.append(args)
        return [t + (len(calls) == 2) for t in run(*args)]

    monkeypatch.setattr(gpu, "run_steps", run_wrongly)
    monkeypatch.setattr(gpu, "measure_sizes", lambda *_: {})
    assert gpu.run_from_command_line(["--device", "cpu", "--quick", "--out", str(tmp_path)]) == 1
    assert "| float32 | plain | 1.0" in (tmp_path / "gpu.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_sentence_says_what_is_missing(capsys):
    assert gpu.run_from_command_line([]) == 2
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    ("shapes", "tensors", "parameters"),
    [(gpu.list_resnet_shapes(), 161, 25_557_032), (gpu.list_gpt2_shapes(), 148, 124_439_808)],
)
def test_the_shapes_are_those_of_the_models(shapes, tensors, parameters):
    assert (len(shapes), sum(map(math.prod, shapes))) == (tensors, parameters)
