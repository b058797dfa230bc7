"""The GPU kernel, proved without a GPU: compiled and inspected, and run in a simulated grid against the CPU's loops."""

from __future__ import annotations

import errno
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rmsprop import Rule, _step
from rmsprop.errors import InputError, MissingDependency

torch = pytest.importorskip("torch")
torch_engine = pytest.importorskip("rmsprop.torch.engine")
if not torch_engine.KERNEL:
    pytest.skip("needs the compiled module", allow_module_level=True)

import cuda_grid  # noqa: E402
from rmsprop.torch import cuda  # noqa: E402
from rmsprop.torch.cuda import Variant, compile_variant, load_cubin  # noqa: E402

VARIANTS = cuda_grid.list_variants()
FAST = VARIANTS[::5]  # all switches, and all formats but one
ROUNDINGS = {"NearestBFloat16": "nearest", "StochasticBFloat16": "stochastic", "CompensatedBFloat16": "compensated"}
RULES = {
    (False, False): [
        Rule(),
        Rule(eps_mode="inside", bias_correction=True, weight_decay=0.1, weight_decay_mode="l2", maximize=True),
        Rule(eps_mode="max", eps=0.0, var_floor=1e-3, weight_decay=0.1, weight_decay_mode="decoupled_corrected"),
    ],
    (False, True): [
        Rule(momentum=0.9, buffer="unit", nesterov="post", weight_decay=0.1, weight_decay_mode="in_buffer"),
        Rule(momentum=0.9, buffer="lr", weight_decay=0.1, weight_decay_mode="decoupled"),
    ],
    (True, False): [Rule(centered=True), Rule(centered=True, bias_correction=True, eps_mode="inside")],
    (True, True): [Rule(centered=True, momentum=0.9, buffer="lr", bias_correction=True, nesterov="post")],
}
CHUNK = 32 * 256
SIZES = (1, 7, 8, 31, 255, 256, 257, 0, 2048, 2049, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 300)


class Arrays:
    """The arrays of one optimizer, made twice alike."""

    def __init__(self, variant: Variant, rule: Rule, sizes: Any, seed: int, *, offset: int = 0) -> None:
        kind, param, state, _, _ = variant
        generator = torch.Generator().manual_seed(seed)
        dtype = torch.float64 if kind == "double" else torch.float32 if "Direct" in param else torch.bfloat16
        kept = torch.bfloat16 if state == "BFloat16State" else torch.float64 if kind == "double" else torch.float32

        def make(dtype: Any, low: float) -> list[Any]:
            values = [torch.rand(n + offset, generator=generator, dtype=torch.float64) for n in sizes]
            return [(v * (1 - low) + low).to(dtype)[offset:] for v in values]

        rounding = ROUNDINGS.get(param, "nearest")
        self.params, self.grads = make(dtype, -1), [make(dtype, -1) for _ in range(3)]
        buffers = [make(kept, -1 if name in ("mean_grad", "momentum_buf") else 0) for name in rule.buffers]
        if rounding == "compensated":
            buffers.append([torch.zeros(n + offset, dtype=torch.int16)[offset:] for n in sizes])
        self.steps = [torch.tensor(float(i % 3)) for i in range(len(sizes))]
        self.memory = [*self.params, *itertools.chain(*buffers), *self.steps]
        handle = _step.handle(rule, rounding=rounding)
        self.plan = _step.core.Plan(handle, self.params, tuple(buffers), self.steps, None, 3)


def bits_of(arrays: Arrays) -> list[Any]:
    return [x.reshape(-1).clone().view(torch.uint8) for x in arrays.memory]


def assert_equal_bits(mine: Arrays, other: Arrays) -> None:
    for i, (a, b) in enumerate(zip(bits_of(mine), bits_of(other))):
        assert torch.equal(a, b), f"array {i} of size {a.numel()} bytes"


def make_pair(variant: Variant, rule: Rule, sizes: Any = SIZES, *, offset: int = 0) -> tuple[Arrays, Arrays]:
    return tuple(Arrays(variant, rule, sizes, 7, offset=offset) for _ in range(2))


def name(variant: Variant) -> str:
    return "-".join(map(str, variant))


# ---- compiled ------------------------------------------------------------------------------------------------------


def check_ptx(variant: Variant, ptx: str) -> None:
    assert not re.findall(r"\bfma\.\S+", ptx), "contraction would change bits"
    assert ".local" not in ptx
    floats = "f64" if variant[0] == "double" else "f32"
    assert f"div.rn.{floats}" in ptx
    assert f"sqrt.rn.{floats}" in ptx
    assert not re.findall(r"\b(?:div|sqrt)\.(?:approx|full)\S*", ptx)
    assert not re.findall(r"\.ftz\b", ptx), "subnormals are kept"
    for direction in "ld", "st":
        assert re.search(rf"\b{direction}\.[a-z.]*v(?:4\.[ufb]32|2\.[ufb]64)", ptx), f"16 bytes at once: {direction}"


@pytest.mark.parametrize("variant", FAST, ids=name)
def test_compiles_with_exact_operations_and_wide_loads(variant: Variant) -> None:
    ptx, cubin = compile_variant(variant, "sm_80")
    check_ptx(variant, ptx)
    assert cubin.startswith(b"\x7fELF")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", cuda_grid.ARCHITECTURES)
def test_every_variant_compiles_for_every_architecture(architecture: str) -> None:
    for variant in VARIANTS:
        ptx, cubin = compile_variant(variant, architecture)
        check_ptx(variant, ptx)
        assert cubin.startswith(b"\x7fELF")


def test_the_sources_are_installed() -> None:
    for folder in "cuda", "kernel":
        for source in (cuda_grid.CPP / folder).rglob("*"):
            if source.is_file() and source.suffix != ".cpp":
                installed = cuda._find_sources() / source.relative_to(cuda_grid.CPP)
                assert installed.read_bytes() == source.read_bytes()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Variant]:
    """Record what is compiled."""
    done: list[Variant] = []

    def record(variant: Variant, architecture: str) -> tuple[str, bytes]:
        done.append(variant)
        return compile_variant(variant, architecture)

    monkeypatch.setattr("rmsprop.torch.cuda.compile_variant", record)
    return done


def test_a_variant_is_compiled_once(compiled: list[Variant], tmp_path: Path) -> None:
    first = load_cubin(VARIANTS[0], "sm_80", tmp_path / "new")
    assert load_cubin(VARIANTS[0], "sm_80", tmp_path / "new") == first
    assert compiled == [VARIANTS[0]]
    load_cubin(VARIANTS[0], "sm_90", tmp_path / "new")
    assert len(compiled) == 2


@pytest.mark.parametrize("change", [lambda b: b[:100], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_corrupt_cubin_is_compiled_again(change: Any, compiled: list[Variant], tmp_path: Path) -> None:
    first = load_cubin(VARIANTS[0], "sm_80", tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(change(path.read_bytes()))
    for _ in range(2):
        assert load_cubin(VARIANTS[0], "sm_80", tmp_path) == first
    assert len(compiled) == 2


def test_a_folder_that_cannot_be_written_is_no_error(
    compiled: list[Variant], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way of the folder")
    assert load_cubin(VARIANTS[0], "sm_80", tmp_path / "file")

    def fill(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    assert load_cubin(VARIANTS[0], "sm_80", tmp_path / "full")
    assert list((tmp_path / "full").iterdir()) == []


def test_two_processes_may_compile_at_once(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from rmsprop.torch import cuda  # noqa: E402
from rmsprop.torch.cuda import Variant, load_cubin
print(hash(load_cubin({VARIANTS[0]!r}, "sm_80", Path({str(tmp_path)!r}))))
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": "0"}
        )
        for _ in range(2)
    ]
    first, second = (process.communicate(timeout=200)[0] for process in started)
    assert [process.returncode for process in started] == [0, 0]
    assert first == second
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("architecture", ["sm_35", "sm_999"])
def test_an_architecture_that_nvrtc_does_not_know_is_named(architecture: str) -> None:
    with pytest.raises(InputError, match=f"{architecture}.*sm_90"):
        compile_variant(VARIANTS[0], architecture)


def test_without_nvrtc_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cuda._nvrtc.cache_clear()
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingDependency, match="pip install"):
        load_cubin(VARIANTS[0], "sm_80", tmp_path)


# ---- simulated -----------------------------------------------------------------------------------------------------


def check_rules(variant: Variant) -> None:
    for rule, offset in itertools.product(RULES[variant[3:]], (0, 1)):
        host, grid = make_pair(variant, rule, offset=offset)
        for number in range(3):
            args = _step.StepArgs(0.1 / (number + 1), 0.1, scale=0.5, seed=11)
            grads = [g if (i + number) % 5 else None for i, g in enumerate(host.grads[number])]
            _step.core.step(host.plan, grads, args)
            cuda_grid.step(variant, grid.plan, grads, args)
            assert_equal_bits(grid, host)


@pytest.mark.parametrize("variant", FAST, ids=name)
def test_grid_gives_the_bits_of_the_cpu(variant: Variant) -> None:
    check_rules(variant)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_every_variant_gives_the_bits_of_the_cpu(variant: Variant) -> None:
    check_rules(variant)


def test_thousands_of_tensors() -> None:
    sizes = [i % 300 for i in range(3000)]
    host, grid = make_pair(VARIANTS[0], Rule(), sizes)
    args = _step.StepArgs(0.1, 0.1)
    _step.core.step(host.plan, host.grads[0], args)
    cuda_grid.step(VARIANTS[0], grid.plan, host.grads[0], args)
    assert_equal_bits(grid, host)


@pytest.mark.parametrize("special", [float("nan"), float("inf"), -float("inf"), 3e38, 1e-45])
def test_special_gradients_give_the_bits_of_the_cpu(special: float) -> None:
    host, grid = make_pair(VARIANTS[0], Rule(), (300,))
    host.grads[0][0][5] = special
    args = _step.StepArgs(0.1, 0.1)
    _step.core.step(host.plan, host.grads[0], args)
    cuda_grid.step(VARIANTS[0], grid.plan, host.grads[0], args)
    assert torch.equal(grid.params[0].isnan(), host.params[0].isnan())
    kept = ~host.params[0].isnan()
    assert torch.equal(grid.params[0][kept], host.params[0][kept])


@pytest.mark.parametrize("sizes", [SIZES, [i % 300 for i in range(500)]], ids=["edges", "three launches"])
def test_clipping_takes_the_norm_on_the_device(sizes: Any) -> None:
    """Small whole numbers have an exact sum of squares in any order, so the clip factor has the CPU's bits."""
    host, grid = make_pair(VARIANTS[0], Rule(), sizes)
    grads = [(g * 8).round() for g in host.grads[0]]
    chunks = sum(-(-n // CHUNK) for n in sizes)
    workspace = torch.zeros(2 + chunks, dtype=torch.float64)
    args = _step.StepArgs(0.1, 0.1, scale=0.25, max_norm=0.5, norm_eps=1e-6)
    norm = _step.core.step(host.plan, grads, args)
    for _ in range(2):  # the counter is 0 again after a step
        again = Arrays(VARIANTS[0], Rule(), sizes, 7)
        cuda_grid.step(VARIANTS[0], again.plan, grads, args, norm=workspace.data_ptr())
        assert workspace[0].item() == norm
        assert_equal_bits(again, host)
    other = [torch.randn(g.shape) for g in grads]
    expected = _step.core.global_norm(other) * 0.25
    cuda_grid.step(VARIANTS[0], grid.plan, other, args, norm=workspace.data_ptr())
    assert workspace[0].item() == pytest.approx(expected, rel=1e-14)


def test_numbers_are_read_from_device_memory() -> None:
    rule = Rule(weight_decay=0.1, weight_decay_mode="decoupled_corrected")
    host, grid = make_pair(VARIANTS[0], rule)
    lr, lr_max = torch.tensor([0.05, 0.2], dtype=torch.float64)
    grad_scale, found_inf = torch.tensor(4.0), torch.tensor(0.0)
    _step.core.step(host.plan, host.grads[0], _step.StepArgs(0.05, 0.2, scale=0.25))
    cuda_grid.step(
        VARIANTS[0], grid.plan, host.grads[0], _step.StepArgs(9.0, 9.0),
        lr=lr.data_ptr(), lr_max=lr_max.data_ptr(), grad_scale=grad_scale.data_ptr(), found_inf=found_inf.data_ptr(),
    )  # fmt: skip
    assert_equal_bits(grid, host)


def test_found_inf_changes_no_parameter_and_no_statistic() -> None:
    grid, before = make_pair(VARIANTS[0], Rule())
    found_inf = torch.tensor(1.0)
    cuda_grid.step(VARIANTS[0], grid.plan, grid.grads[0], _step.StepArgs(0.1, 0.1), found_inf=found_inf.data_ptr())
    count = len(SIZES)
    assert all(map(torch.equal, grid.memory[:-count], before.memory[:-count]))


def test_bad_gradient_raises_before_a_launch() -> None:
    grid, before = make_pair(VARIANTS[0], Rule(), (4, 5))
    grads = [grid.grads[0][0], torch.zeros(6)]
    with pytest.raises(InputError, match=r"grads\[1\]"):
        _step.core.step_on_device(grid.plan, grads, _step.StepArgs(0.1, 0.1), lambda *_: pytest.fail("launched"))
    assert_equal_bits(grid, before)
