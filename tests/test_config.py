"""What the command line does to a config, and what it says when it cannot."""

import dataclasses
import pathlib

import pytest

from jaxssl.config import base, build, defaults
from jaxssl.config.checks import check, complete, flatten
from jaxssl.config.file import format_config, load_config
from jaxssl.config.parts import KNOWN
from jaxssl.errors import UserError
from jaxssl.methods import SimCLR
from jaxssl.samplers import RegionCrop
from jaxssl.training.pretrain import pretrain

QUICKSTART = str(pathlib.Path(__file__).parents[1] / "configs" / "quickstart.py")


def test_overrides_take_the_type_of_the_value():
    config = load_config(
        QUICKSTART,
        [
            "--config.epochs=3",
            "--config.method.temperature=1",
            "--config.views.scale=(0.5,1.0)",
            "--config.eval.datasets=objects:100",
            "--config.dtype",
            "bfloat16",
        ],
    )
    assert config.epochs == 3
    assert config.method.temperature == 1.0
    assert config.views.scale == (0.5, 1.0)
    assert config.eval.datasets == ("objects:100",)
    assert config.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("value", "datasets"),
    [
        ("objects:9,folder:a b", ("objects:9", "folder:a b")),
        ("('objects:9','folder:a')", ("objects:9", "folder:a")),
        ("'folder:a,b'", ("folder:a,b",)),
        ("folder:a, b", ("folder:a, b",)),
        ("folder:a,b, records:c,folder:d", ("folder:a,b", "records:c", "folder:d")),
        ("()", ()),
    ],
)
def test_several_data_sets_are_separated_by_commas(value, datasets):
    assert load_config(QUICKSTART, [f"--config.eval.datasets={value}"]).eval.datasets == datasets


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("eval.ignore_labels=11,x", "takes integers"),
        ("method.hidden=512,x", "takes integers"),
        ("method.hidden=8.5", "integer"),
        ("method.hidden=(-8,)", "must be 1 or more"),
        ("views.size=-5", "must be 1 or more"),
        ("seed=18446744073709551616", "takes integers"),
        ("views.scale=(None,1)", "takes 2 finite numbers"),
        ("views.scale=0.2", r"views.scale is \(0.2,\); it takes 2 finite numbers"),
        ("views.scale=(0.2,0.5,1)", "takes 2 finite numbers"),
        ("optim.clip_norm=inf", "takes finite numbers, as in its default 0.0"),
        ("optim.lr=1e39", "takes finite numbers"),
        ("method.temperature=0", "must be above 0"),
        ("method.freeze_prototypes=-0.1", "must be from 0 to 1"),
    ],
)
def test_values_that_cannot_be_right_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        load_config(f"{QUICKSTART}:swav", [f"--config.{change}"])


def test_pretrain_checks_what_python_has_set(tmp_path):
    config = load_config(QUICKSTART)
    config.checkpoint.every = 0
    with pytest.raises(UserError, match="checkpoint.every is 0; it must be 1 or more"):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_name_set_alone_in_python_says_how_to_set_it(tmp_path):
    config = load_config(QUICKSTART)
    config.optim.name = "adamw"
    with pytest.raises(UserError, match=r"defaults\('optim', 'adamw'\), from jaxssl.config"):
        pretrain(config, tmp_path / "run")


@dataclasses.dataclass(frozen=True)
class Several(RegionCrop):
    pairs: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    fractions: tuple[float, ...] = ()


def test_fields_of_a_new_part_become_keys(monkeypatch):
    """Also tuples that are empty at first, whose parts are what the field declares."""
    monkeypatch.setitem(KNOWN, "sampler", KNOWN["sampler"] | {"several": Several})
    changes = ["name=several", "pairs=3,4", "words=a,b", "fractions=1,0.5"]
    config = load_config(QUICKSTART, [f"--config.sampler.{change}" for change in changes])
    expected = Several(pairs=(3, 4), words=("a", "b"), fractions=(1.0, 0.5))
    assert build("sampler", check(config).sampler) == expected
    with pytest.raises(UserError, match="sampler.pairs is .* it takes integers"):
        load_config(QUICKSTART, ["--config.sampler.name=several", "--config.sampler.pairs=a"])


def test_another_name_brings_its_own_defaults():
    config = load_config(
        f"{QUICKSTART}:simclr",
        ["--config.sampler.min_area=77", "--config.sampler.name=region_crop"],
    )
    assert build("sampler", config.sampler) == RegionCrop(min_area=77)


def test_defaults_and_build_are_inverse(tiny_encoder):
    config = defaults("method", "simclr", temperature=0.3)
    method = build("method", config, encoder=tiny_encoder)
    assert method == SimCLR(encoder=tiny_encoder, temperature=0.3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.method.temprature=1", "'method.temprature'. Did you mean 'method.temperature'?"),
        ("--config.data.canvas=48", "'data.canvas'. Did you mean 'data.pixels'?"),
        ("--config.zzz=1", "unknown config key 'zzz'. Known: batch_size"),
        ("--config.lr=1", "'lr'. Did you mean 'optim.lr'?"),
        ("--config.optim.learning_rate=1", "Did you mean 'optim.lr'?"),
        ("--config.size=1", "Did you mean 'eval.size' or 'views.size'?"),
        ("--config.metod.temprature=1", "Did you mean 'method.temperature'?"),
        ("--config.sampler.xyz=1", "Known: sampler.expand, sampler.min_area, sampler.name"),
        (
            "--config.sampler.alpha=1",
            "sampler 'region_crop' has no key 'sampler.alpha'; those that have it: "
            "contrastive_crop, sim_ccrop, region_ccrop",
        ),
        ("--config.epochs=many", "epochs is 'many'; it takes integers, as in its default 100"),
        ("--config.batch_size=16.5", "batch_size is '16.5'; it takes integers"),
        ("--config.remat=5", "remat is '5'; it takes True or False"),
        ("--config.views.scale=(0.2,", "views.scale is '(0.2,'; it takes 2 finite numbers"),
        ("--config.epochs=0", "epochs is 0; it must be 1 or more"),
        ("--config.seed=4294967296", "seed is 4294967296; it must be from 0 to 2**32 - 1"),
        ("--config.eval.health=-1", "eval.health is -1; it must be 0 or more"),
        ("--config.epochs", "--config.epochs has no value"),
        ("--config.method=simclr", "'method' is a section; set one of its keys"),
        ("--config.method.name=simclear", "unknown method.name 'simclear'; choose one of simclr"),
        ("--config.dtype=float64", "choose one of float32, bfloat16"),
        ("--confg.epochs=1", "unknown argument '--confg.epochs=1'"),
    ],
)
def test_mistakes(override, message):
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        load_config(QUICKSTART, [override])
    assert message in str(error.value)


def test_printed_it_is_the_overrides_that_give_it_again():
    changes = ["method.hidden=(3,)", "eval.datasets=('objects:9','folder:a b')", "wandb=x"]
    config = load_config(f"{QUICKSTART}:swav", [f"--config.{change}" for change in changes])
    printed = format_config(config).splitlines()
    keys = [line.partition(" = ")[0] for line in printed]
    assert sorted(keys) == sorted(flatten(config))
    assert keys == sorted(keys, key=lambda key: (key.count("."), key))
    again = load_config(QUICKSTART, [f"--config.{line.replace(' = ', '=', 1)}" for line in printed])
    assert flatten(again) == flatten(config)


def test_missing_file_and_variant():
    with pytest.raises(ValueError, match="no config file 'nothing.py'"):
        load_config("nothing.py")
    with pytest.raises(ValueError, match="no variant 'x'"):
        load_config(f"{QUICKSTART}:x")
    with pytest.raises(ValueError, match="'samlcr'.*did you mean 'samclr'"):
        load_config(f"{QUICKSTART}:samlcr")


def test_naming_what_is_chosen_already_resets_nothing():
    config = load_config(QUICKSTART, ["--config.encoder.name=resnet18"])
    assert config.encoder.width == 0.25


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("config.epoch = 5", "unknown config key 'epoch'. Did you mean 'epochs'?"),
        ("config.method.temprature = 1.0", "Did you mean 'method.temperature'?"),
        ("del config.dtype", "leaves out dtype"),
        ("config.x = (", "does not load"),
        (
            "config.sampler.name = 'region_crop'",
            "'region_crop' without expand, min_area; where the name is set, write config.sampler = "
            "defaults('sampler', 'region_crop')",
        ),
        ("config.optim.name = 'adamw'", "write config.optim = defaults('optim', 'adamw')"),
        ("del config.method", "leaves out method; start from base()"),
        ("config = None", "returns NoneType; it must return a config"),
        ("return {'epochs': 3}", "returns dict; it must return a config"),
        ("config.optim = defaults('optimizer', 'adamw')", "no section 'optimizer' has a name"),
    ],
)
def test_mistakes_in_a_file(tmp_path, body, message):
    path = tmp_path / "mine.py"
    path.write_text(
        "from jaxssl.config import base, defaults\n\n\n"
        f"def get_config():\n    config = base()\n    {body}\n    return config\n"
    )
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        load_config(path)
    assert message in str(error.value)
    path.write_text("x = 1\n")
    with pytest.raises(ValueError, match="defines no get_config"):
        load_config(str(path))


def test_scripts_rely_on_these_keys():
    keys = set(flatten(base()))
    promised = """seed epochs batch_size dtype remat data.source data.pixels data.input data.workers
        data.cache_dir encoder.name encoder.width encoder.stem encoder.init method.name sampler.name
        views.size views.scale views.num_local views.local_size views.local_scale views.recipe
        optim.name optim.lr optim.weight_decay optim.warmup_epochs eval.datasets eval.every
        eval.knn_k eval.knn_temperature eval.linear checkpoint.every checkpoint.keep"""
    assert set(promised.split()) <= keys


def test_configs_of_earlier_versions_get_what_they_lack():
    whole = base()
    whole.method = defaults("method", "byol", momentum=0.9)
    early = whole.copy_and_resolve_references()
    del early.eval.ignore_labels
    early.eval.void = (11,)  # its name then
    del early.encoder.padding
    del early.views.blur
    early.views.size = 64
    full = complete(early)
    assert set(flatten(full)) == set(flatten(whole))
    assert (full.eval.ignore_labels, full.encoder.padding) == ((11,), "torch")
    assert (full.views.size, full.method.momentum) == (64, 0.9)
