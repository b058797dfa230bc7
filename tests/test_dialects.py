"""A dialect's name gives that framework's rule, a change brings along what it brings along there, and what the
framework cannot do is refused."""

from __future__ import annotations

import dataclasses
import math

import pytest

from rmsprop import Rule, dialects
from rmsprop.dialects import dialect
from rmsprop.errors import RuleError

# One line per framework, from the published sources and not from the package: rho, eps, eps_mode, start of mean_sq,
# default lr (None: required), default momentum, buffer that momentum brings (-: no momentum), centered (yes, no,
# always), modes of weight decay (corrected: decoupled_corrected), sparse gradients, complex numbers, evidence.
TABLE = """
torch            .99  1e-8   outside  0     1e-2    0   unit  yes     l2                    error  components  V
libtorch         .99  1e-8   outside  0     1e-2    0   unit  yes     l2                    error  none        S
torch-lua        .99  1e-8   outside  0     1e-2    0   -     no      l2                    none   none        S
tensorflow1      .9   1e-10  inside   1     None    0   lr    yes     -                     lazy   square      V
tf-keras-legacy  .9   1e-7   outside  0     1e-3    0   lr    yes     -                     dense  none        V
tf-keras         .9   1e-7   inside   0     1e-3    0   lr    yes     decoupled             dense  none        V
keras3           .9   1e-7   inside   0     1e-3    0   lr    yes     decoupled             dense  none        V
keras2           .9   1e-7   outside  0     1e-3    0   -     no      -                     none   none        S
keras1           .9   1e-6   inside   0     1e-3    0   -     no      -                     none   none        S
optax            .9   1e-8   inside   0     None    0   lr    yes     -                     none   abs2        V
timm             .9   1e-10  inside   1     1e-2    0   lr    yes     l2,decoupled,corrected  error  none        V
sb3              .99  1e-8   inside   1     1e-2    0   unit  yes     l2                    error  none        V
jax              .9   1e-8   inside   0     None    0   -     no      -                     none   none        V
jax-momentum     .9   1e-8   inside   0     None    .9  lr    no      -                     none   none        V
bitsandbytes     .99  1e-8   outside  0     1e-2    0   -     no      l2                    none   none        V
mlx              .99  1e-8   outside  0     None    0   -     no      -                     none   none        V
optimisers-jl    .9   1e-8   outside  0     1e-3    0   -     yes     -                     none   abs2        S
flux             .9   1e-8   outside  0     1e-3    0   -     no      -                     none   abs2        S
mxnet2           .9   1e-8   outside  0     1e-3    0   lr    yes     l2                    none   none        S
mxnet1           .9   1e-8   inside   0     1e-3    0   lr    yes     l2                    none   none        S
mxnet0           .95  1e-4   inside   0     2e-3    .9  lr    always  in_buffer             none   none        S
paddle           .95  1e-6   inside   0     None    0   lr    yes     l2                    dense  none        V
chainer          .99  1e-8   outside  0     1e-2    0   -     no      l2                    none   none        S
chainer-graves   .95  1e-4   inside   0     1e-4    .9  lr    always  l2                    none   none        S
lasagne          .9   1e-6   inside   0     1.0     0   -     no      -                     none   none        S
caffe            .99  1e-8   outside  0     None    0   -     no      l2                    none   none        S
dqn              .95  .01    inside   0     2.5e-4  0   -     always  l2                    none   none        S
a3c              .99  .1     inside   0     7e-4    0   -     no      l2                    none   none        C
graves2013       .95  1e-4   inside   0     1e-4    .9  lr    always  -                     none   none        C
hinton           .9   0      inside   0     None    0   -     no      -                     none   none        C
burn             .99  1e-5   outside  0     None    .9  unit  yes     l2                    none   none        S
dfdx             .9   1e-8   inside   1     1e-2    0   unit  yes     l2,decoupled          none   none        S
candle           .99  1e-8   outside  0     1e-2    0   unit  yes     l2                    none   none        S
heavyball        .99  1e-6   max      0     2.5e-3  0   -     no      decoupled             none   none        V
sonnet           .9   1e-10  inside   0     None    0   lr    yes     -                     lazy   none        S
tfjs             .9   1e-7   inside   0     None    0   lr    yes     -                     none   none        S
caffe2           .9   1e-5   inside   0     None    0   lr    no      -                     none   none        S
oneflow          .99  1e-8   inside   0     1e-3    0   -     yes     l2                    none   none        S
mindspore        .9   1e-10  inside   1     .1      0   lr    yes     l2                    none   none        S
trax             .9   1e-8   outside  1     1e-3    0   -     no      -                     none   none        S
autograd         .9   1e-8   outside  1     .1      0   -     no      -                     none   none        S
flax             .9   1e-8   outside  0     None    0   -     yes     -                     none   none        S
dl4j             .95  1e-8   outside  1e-8  .1      0   -     no      -                     none   none        S
climin           .9   1e-8   inside   1     None    0   lr    no      -                     none   none        S
"""
LINES = {line.split()[0]: line.split()[1:] for line in TABLE.strip().splitlines()}


@pytest.fixture(params=dialects.names())
def row(request):
    return dialects.get(request.param)


def test_the_table_and_the_package_have_the_same_names():
    assert set(dialects.names()) == set(LINES)
    assert len(dialects.all()) == len(LINES)


def test_a_row_has_its_frameworks_numbers_and_kinds(row):
    rho, eps, eps_mode, start, lr, momentum, _, centered, _, sparse, complex_kind, evidence = LINES[row.name]
    rule = dialect(row.name)
    assert (
        rule
        == row.rule
        == Rule(
            rho=float(rho),
            eps=float(eps),
            eps_mode=eps_mode,
            init={"0": "zeros", "1": "ones"}.get(start, "eps"),
            centered=centered == "always",
            momentum=float(momentum),
            buffer=rule.buffer,
            bias_correction=row.name == "heavyball",
        )
    )
    assert rule.init_value == float(start)
    assert row.lr == (None if lr == "None" else float(lr))
    assert (row.sparse, row.complex, row.evidence) == (sparse, complex_kind, evidence)


def test_momentum_brings_the_frameworks_buffer(row):
    buffer = LINES[row.name][6]
    needed = {"centered": True} if row.name in ("mxnet1", "mxnet2") else {}
    if buffer == "-":
        with pytest.raises(RuleError, match=r"momentum=0\.8"):
            dialect(row.name, momentum=0.8)
    else:
        assert dialect(row.name, momentum=0.8, **needed).buffer == buffer
        assert dialect(row.name, momentum=0, **needed).buffer == "none"


def test_centered_is_offered_where_the_framework_has_it(row):
    match LINES[row.name][7]:
        case "yes":
            assert dialect(row.name, centered=True).buffers[:2] == ("mean_grad", "grad_var")
        case "no":
            with pytest.raises(RuleError, match="centered=True"):
                dialect(row.name, centered=True)
        case "always":
            assert dialect(row.name, centered=True) == row.rule
            with pytest.raises(RuleError, match="centered=False"):
                dialect(row.name, centered=False)


def test_weight_decay_has_the_frameworks_modes(row):
    places = LINES[row.name][8]
    if places == "-":
        with pytest.raises(RuleError, match=r"weight_decay=0\.01"):
            dialect(row.name, weight_decay=0.01)
        return
    first, *others = places.replace("corrected", "decoupled_corrected").split(",")
    assert dialect(row.name, weight_decay=0.01).weight_decay_mode == first
    for other in others:
        assert dialect(row.name, weight_decay=0.01, weight_decay_mode=other).weight_decay_mode == other
    for absent in {"l2", "decoupled", "decoupled_corrected", "in_buffer"} - {first, *others}:
        with pytest.raises(RuleError, match=f"weight_decay_mode='{absent}', expected one of 'none', '{first}'"):
            dialect(row.name, weight_decay=0.01, weight_decay_mode=absent)


# What a reproduction depends on: name, changes, and the switches that must result.
RESOLVED = [
    ("torch", {"momentum": 0.9}, {"buffer": "unit", "eps_mode": "outside"}),
    ("sb3", {"momentum": 0.9}, {"buffer": "unit", "init": "ones"}),
    ("tensorflow1", {"momentum": 0.9}, {"buffer": "lr", "eps_mode": "inside", "init": "ones"}),
    ("tensorflow1", {"buffer": "lr"}, {"buffer": "lr", "momentum": 0.0}),
    ("tf-keras-legacy", {"momentum": 0.0}, {"buffer": "none", "eps_mode": "outside"}),
    ("tf-keras-legacy", {"momentum": 0.9}, {"buffer": "lr", "eps_mode": "inside"}),
    ("tf-keras-legacy", {"momentum": 0.9, "eps_mode": "inside"}, {"eps_mode": "inside"}),
    ("mxnet2", {"centered": True}, {"eps_mode": "inside", "momentum": 0.9, "buffer": "lr"}),
    ("mxnet2", {"centered": True, "momentum": 0.5}, {"eps_mode": "inside", "momentum": 0.5, "buffer": "lr"}),
    ("mxnet2", {"centered": False}, {"eps_mode": "outside", "momentum": 0.0, "buffer": "none"}),
    ("mxnet1", {"centered": True}, {"eps_mode": "inside", "momentum": 0.9, "buffer": "lr"}),
    ("mxnet0", {"weight_decay": 0.1, "momentum": 0.0}, {"weight_decay_mode": "in_buffer", "buffer": "lr"}),
    ("keras3", {"weight_decay": 1e-4}, {"weight_decay_mode": "decoupled"}),
    ("timm", {"weight_decay_mode": "decoupled"}, {"weight_decay_mode": "decoupled", "weight_decay": 0.0}),
    ("timm", {"momentum": 0.9, "buffer": "unit"}, {"buffer": "unit", "momentum": 0.9}),
    ("optax", {"eps_mode": "outside", "init": 0.5}, {"eps_mode": "outside", "init": 0.5}),
    ("optax", {"momentum": 0.9, "nesterov": "post"}, {"buffer": "lr", "nesterov": "post"}),
    ("optax", {"bias_correction": True, "centered": True}, {"bias_correction": True, "centered": True}),
    ("chainer", {"eps_mode": "inside"}, {"eps_mode": "inside"}),
    ("burn", {"momentum": 0.0}, {"buffer": "none", "eps": 1e-5}),
    ("caffe2", {"init": 2.0}, {"init": 2.0}),
    ("torch-lua", {"init": 0.25}, {"init": 0.25}),
    ("dqn", {"maximize": True}, {"maximize": True, "eps": 0.01}),
]


@pytest.mark.parametrize(("name", "changes", "expected"), RESOLVED)
def test_a_change_brings_along_what_it_does_in_the_framework(name, changes, expected):
    rule = dialect(name, **changes)
    assert {switch: getattr(rule, switch) for switch in expected} == expected


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bitsandbytes", {"momentum": 0.9}, "silently ignores it"),
        ("bitsandbytes", {"centered": True}, "NotImplementedError"),
        ("bitsandbytes", {"rho": 0.0}, "rho=0.0, expected more than 0"),
        ("jax", {"momentum": 0.9}, "'jax-momentum'"),
        ("mlx", {"centered": True}, "has no such option; it offers rho, eps"),
        ("mlx", {"eps": 0.0}, "eps=0.0, expected more than 0"),
        ("tf-keras-legacy", {"eps": 0}, "turns an epsilon of 0 into 1e-7"),
        ("tf-keras-legacy", {"eps_mode": "inside"}, "no such option"),
        ("mxnet2", {"momentum": 0.9}, "reads it only with centered=True"),
        ("caffe", {"momentum": 0.9}, "checks that momentum is 0"),
        ("oneflow", {"momentum": 0.9}, "asserts that momentum is 0"),
        ("dqn", {"eps": 1e-5}, "written into the code"),
        ("dqn", {"momentum": 0.95}, "decay of the mean gradient"),
        ("torch", {"buffer": "lr"}, "expected one of 'none', 'unit'"),
        ("torch", {"bias_correction": True}, r"pass rmsprop\.dialect\('torch'\)\.replace\(bias_correction=True\)"),
        ("torch", {"nesterov": "post"}, "no such option"),
        ("optax", {"eps_mode": "max"}, "expected one of 'inside', 'outside'"),
        ("optax", {"nesterov": "post"}, "needs a momentum buffer"),
        ("optax", {"bias_correction": True, "init": 1.0}, "choose one of the two"),
        ("torch", {"alpha": 0.9}, "unknown option 'alpha'; use 'rho'"),
        ("keras3", {"lr": 0.1}, "defaults to 0.001"),
        ("optax", {"learning_rate": 0.1}, "requires one"),
        ("torch", {"momentun": 0.9}, "did you mean 'momentum'"),
        ("torch", {"momentum": "much"}, "momentum='much', expected a finite number"),
        ("torch", {"rho": math.nan}, "rho=nan"),
        ("torch", {"momentum": 1.0}, r"momentum=1\.0"),
    ],
)
def test_what_a_framework_cannot_do_is_refused_with_the_reason(name, changes, message):
    with pytest.raises(RuleError, match=message):
        dialect(name, **changes)


# A value for each switch that no framework has by default.
OTHER = {
    "rho": 0.5,
    "eps": 0.375,
    "eps_mode": None,
    "init": 0.625,
    "centered": True,
    "var_floor": 0.1,
    "bias_correction": True,
    "momentum": 0.75,
    "nesterov": "post",
    "weight_decay": 0.125,
    "maximize": True,
}


def make_change(row, switch):
    """Return a change of the switch, with the other switches that it needs."""
    value = OTHER[switch]
    if switch == "eps_mode":
        value = "inside" if row.rule.eps_mode == "outside" else "outside"
    elif switch in ("centered", "bias_correction"):
        value = not getattr(row.rule, switch)
    extra = {row.needs[switch]: True} if switch in row.needs else {}
    if switch == "nesterov":
        extra = {"momentum": 0.9}
    return {switch: value, **extra}


@pytest.mark.parametrize("switch", OTHER)
def test_exactly_the_offered_switches_can_be_changed(row, switch):
    changes = make_change(row, switch)
    if switch in row.offers:
        assert getattr(dialect(row.name, **changes), switch) == changes[switch]
    else:
        with pytest.raises(RuleError, match=f"dialect '{row.name}'"):
            dialect(row.name, **changes)


def test_a_frameworks_own_settings_are_always_accepted(row):
    assert row.resolve(**dataclasses.asdict(row.rule)) == row.rule


def test_every_name_and_alias_is_unique_and_found_in_any_case():
    keys = [key for row in dialects.all() for key in (row.name, *row.aliases)]
    assert len(keys) == len(set(keys))
    for row in dialects.all():
        for key in (row.name, *row.aliases):
            assert dialects.get(key) is row
            assert dialects.get(f" {key.upper().replace('-', '_')} ") is row


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("pytorch", "torch"),
        ("keras", "keras3"),
        ("tf1", "tensorflow1"),
        ("sb3-tflike", "sb3"),
        ("mxnet", "mxnet2"),
        ("graves", "graves2013"),
    ],
)
def test_the_common_other_names_are_known(alias, name):
    assert dialects.get(alias).name == name


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("pytroch", "pytorch"), ("tensorflow", "tensorflow1"), ("kears3", "keras3"), ("bitsandbyte", "bitsandbytes")],
)
def test_an_unknown_name_suggests_the_nearest(wrong, near):
    with pytest.raises(RuleError, match=f"unknown dialect '{wrong}', did you mean .*'{near}'"):
        dialect(wrong)


def test_a_name_near_to_nothing_lists_the_names():
    with pytest.raises(RuleError, match=r"expected one of torch, .*, climin$"):
        dialects.get("0000")


def test_a_name_that_is_no_string_is_refused():
    with pytest.raises(RuleError, match="expected a name"):
        dialects.get(7)


def test_a_row_has_its_source_and_known_switches(row):
    assert row.title
    assert "," in row.source or row.evidence == "C"
    known = {field.name for field in dataclasses.fields(Rule)} | {"lr", "mean_sq", "mean_grad", "momentum_buf"}
    assert set(row.words) <= known
    assert set(row.offers) <= known


def test_a_row_cannot_be_changed():
    row = dialects.get("torch")
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.lr = 1.0
    with pytest.raises(TypeError):
        row.words["rho"] = "beta"
    with pytest.raises(TypeError):
        dialects.get("mxnet2").when[0].then["momentum"] = 0.5
