"""Configurations: what they hold, and what is built from them.

A hyperparameter is declared once, as a field of the dataclass that uses it: `defaults("method",
"simclr")` makes a ConfigDict of the fields, `build("method", config.method, ...)` the object.
"""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_args

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxssl.checked_files import MAX_INTEGER
from jaxssl.data.canvas import CanvasSpec, choose_pixels
from jaxssl.data.loading import sample_sizes
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.methods import METHODS, Method
from jaxssl.models import ENCODERS
from jaxssl.optim import OPTIMIZERS
from jaxssl.renamed import CONFIG_KEYS, REMOVED_KEYS
from jaxssl.samplers import SAMPLERS, Sampler
from jaxssl.types import SavedConfig
from jaxssl.views import ViewConfig

# Protocols of the evaluation during training, and the defaults of these tasks.
KNN_K, KNN_TEMPERATURE, LINEAR_EPOCHS = 200, 0.1, 90

# The sections that are one class out of several: `<section>.name` says which.
KNOWN: dict[str, Mapping[str, Any]] = {
    "encoder": ENCODERS,
    "method": METHODS,
    "sampler": SAMPLERS,
    "optim": OPTIMIZERS,
}


def defaults(section: str, name: str, **changes: Any) -> ConfigDict:
    """The section encoder, method, sampler or optim that builds `name`; some fields changed.

    Raises UserError if there is no such section, name or field.
    """
    cls = _lookup(section, name)
    fields = {"name": name} | _fields(cls) | BESIDE.get(section, {})
    if unknown := set(changes) - set(fields):
        raise UserError(f"{section} {name!r} has no option {', '.join(sorted(unknown))}")
    return ConfigDict(fields | changes)


def build(section: str, config: ConfigDict, **extra: Any) -> Any:
    """The object that a section describes. `extra` fills what no config can hold."""
    options = {k: v for k, v in config.to_dict().items() if k not in BESIDE.get(section, {})}
    cls = _lookup(section, options.pop("name"))
    return cls(**options, **extra)


def _lookup(section: str, name: str) -> Any:
    if section not in KNOWN:
        raise UserError(f"no section {section!r} has a name; choose one of {', '.join(KNOWN)}")
    if name not in KNOWN[section]:
        raise UserError(
            f"unknown {section}.name {name!r}; choose one of {', '.join(KNOWN[section])}"
        )
    return KNOWN[section][name]


def _fields(cls: Any) -> dict[str, Any]:
    """Names and defaults of the fields a config can hold: plain values only."""
    fixed = cls.keywords if isinstance(cls, functools.partial) else {}
    plain = (bool, int, float, str, tuple)
    return {
        f.name: f.default
        for f in _declared(cls)
        if isinstance(f.default, plain) and f.name not in {*fixed, "name", *FROM_TOP}
    }


def _declared(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(getattr(cls, "func", cls))


# Keys of a section that are no field of what it builds.
# File of weights to start from, "": random ones; prefix of the names in it, "": found.
BESIDE = {"encoder": {"init": "", "init_prefix": ""}}

# Fields that every encoder has and the top of the config decides.
FROM_TOP = ("dtype", "remat")


def base() -> ConfigDict:
    """SimCLR on the embedded scenes; every config starts here and changes what it must."""
    config = ConfigDict()
    config.seed = 0
    config.epochs = 100
    config.batch_size = 256  # images a step, over all devices
    config.dtype = "bfloat16"  # of the network's computation: float32 | bfloat16
    config.remat = False  # recompute activations in the backward pass: less memory, more time
    config.log_every = 50  # steps between lines in metrics.jsonl
    config.wandb = ""  # name of a Weights & Biases project; "": off

    config.data = ConfigDict()
    config.data.source = "scenes:4000"  # folder:PATH | records:PATH | scenes:N | objects:N
    # Budget, height x width, up to which an image is kept pixel by pixel; 0: chosen from the data.
    config.data.pixels = 0
    config.data.max_objects = 64  # of an image with more, the largest are kept
    config.data.region_planes = 1  # of 32 regions each, the largest; read by methods on regions
    config.data.input = "auto"  # auto | device | host | stream
    config.data.workers = 0  # processes that decode in stream mode; 0: threads
    config.data.cache_dir = ""  # "": $JAXSSL_CACHE or ~/.cache/jaxssl

    config.encoder = defaults("encoder", "resnet18")
    config.method = defaults("method", "simclr")
    config.sampler = defaults("sampler", "random_crop")
    config.views = ConfigDict(_fields(ViewConfig))
    config.optim = defaults("optim", "sgd")

    config.eval = ConfigDict()
    config.eval.datasets = ()  # sources with labels; (): no evaluation
    config.eval.every = 0  # epochs between evaluations; 0: before the first and after the last
    config.eval.size = 0  # side of the images, pixels; 0: views.size, with label maps their own
    config.eval.health = 512  # training images on which signs of a collapse are measured; 0: off
    config.eval.in_context = 0  # cells in the memory of segmentation by retrieval; 0: off
    config.eval.linear = True  # whether to train a linear classifier too, after the last epoch
    config.eval.batch_size = 256  # images at once
    config.eval.knn_k = KNN_K
    config.eval.knn_temperature = KNN_TEMPERATURE
    config.eval.linear_epochs = LINEAR_EPOCHS
    # Label values of pixels that are no class, besides 255; CamVid: (11,).
    config.eval.ignore_labels = ()

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 500  # steps
    config.checkpoint.keep = 2
    return config


def choose(variant: str, variants: Sequence[str]) -> str:
    """The variant of a config file, or an error that lists what there is."""
    if variant not in variants:
        near = difflib.get_close_matches(variant, variants, 1)
        hint = f"did you mean {near[0]!r}? There are" if near else "choose one of"
        raise UserError(f"no variant {variant!r} of this config; {hint} {', '.join(variants)}")
    return variant


def all_keys(config: ConfigDict | SavedConfig) -> ConfigDict:
    """Every key that a config of the same parts has, with its default."""
    full = base()
    for section in KNOWN:
        full[section] = defaults(section, config[section]["name"])  # type: ignore[literal-required]
    return full


def complete(config: ConfigDict | SavedConfig) -> ConfigDict:
    """The config of a run under the names of today, with defaults of what it did not have yet.

    Raises UserError where a key is unknown, or has a value of another type than it should.
    """
    full = all_keys(config)
    known = flatten(full)
    for saved, value in flatten(config).items():
        key = CONFIG_KEYS.get(saved, saved)
        *sections, name = key.split(".")
        if key not in REMOVED_KEYS:
            value = fitting(key, value, known)
        functools.reduce(lambda c, section: c[section], sections, full)[name] = value
    return full


def kind_of(key: str, default: Any) -> type:
    """The type of the values of a key, or of their parts if they are tuples."""
    if not isinstance(default, tuple):
        return type(default)
    if default:
        return type(default[0])
    section, _, name = key.rpartition(".")
    fields = [f for cls in KNOWN.get(section, {}).values() for f in _declared(cls)]
    declared = {f"{section}.{f.name}": f.type for f in fields if f.name == name}
    declared |= {"eval.datasets": tuple[str, ...], "eval.ignore_labels": tuple[int, ...]}
    return cast(type, get_args(declared[key])[0])


_KINDS = {int: "integers", float: "finite numbers", str: "texts", bool: "True or False"}
LIMITS = {int: MAX_INTEGER, float: 2.0**128}  # int64 and float32


def fitting(key: str, value: Any, known: Mapping[str, Any]) -> Any:
    """A value as JSON has it, as one of the type of the default; tuples are lists in JSON."""
    if key not in known:
        raise UserError(f"no key is called {key!r:.60}")
    default = known[key]
    many = isinstance(default, tuple)
    parts = list(value) if many and isinstance(value, list | tuple) else [value]
    kind = kind_of(key, default)
    if kind is float:
        parts = [float(part) if type(part) is int else part for part in parts]
    fixed = many and kind is float and default  # the ends of an interval, or a box
    fits = all(type(part) is kind for part in parts) and not (fixed and len(parts) != len(default))
    if not fits or (kind in LIMITS and not all(abs(part) < LIMITS[kind] for part in parts)):
        values = f"{len(default)} {_KINDS[kind]}" if fixed else _KINDS[kind]
        raise UserError(f"{key} is {value!r:.60}; it takes {values}, as in its default {default!r}")
    return tuple(parts) if many else parts[0]


def flatten(config: ConfigDict | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value of a config under its full key, such as `method.temperature`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict | dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


# What numbers must be, whatever the data; a method has some of its keys.
RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("1 or more", lambda x: x >= 1, """
        epochs batch_size log_every data.max_objects data.region_planes eval.batch_size eval.knn_k
        eval.linear_epochs checkpoint.every checkpoint.keep views.size views.local_size method.dim
        method.hidden method.predictor_hidden method.bottleneck method.num_outputs
        method.num_prototypes method.iterations"""),
    ("0 or more", lambda x: x >= 0, """data.pixels data.workers sampler.min_area
        eval.every eval.size eval.health eval.in_context"""),
    ("from 0 to 2**32 - 1", lambda x: 0 <= x < 2**32, "seed"),  # JAX would cut a larger one
    ("more than 0", lambda x: x > 0, """
        eval.knn_temperature method.temperature method.student_temperature method.loss_scale
        method.teacher_temperature method.teacher_temperature_start method.epsilon"""),
    ("from 0 to 1", lambda x: 0 <= x <= 1, """
        method.momentum method.momentum_end method.center_momentum method.freeze_last_layer
        method.freeze_prototypes method.teacher_warmup method.queue_start"""),
)  # fmt: skip
ALLOWED = {"dtype": ("float32", "bfloat16"), "data.input": ("auto", "device", "host", "stream")}


def check_sections(config: ConfigDict) -> None:
    """Raises UserError where a section lacks keys of what its name says."""
    for section in KNOWN:
        name = config[section].name
        if missing := set(defaults(section, name)) - set(config[section]):
            raise UserError(
                f"the config has {section}.name {name!r} without {', '.join(sorted(missing))}; "
                f"where the name is set, write config.{section} = defaults({section!r}, {name!r}), "
                "from jaxssl.config"
            )


def check(config: ConfigDict) -> ConfigDict:
    """The config, or an error if a value cannot be right whatever the data."""
    check_sections(config)
    known = flatten(all_keys(config))
    flat = {key: fitting(key, value, known) for key, value in flatten(config).items()}
    for what, fits, keys in RANGES:
        for key in flat.keys() & set(keys.split()):
            parts = flat[key] if isinstance(flat[key], tuple) else (flat[key],)
            if not all(map(fits, parts)):
                raise UserError(f"config key {key!r} is {flat[key]}; it must be {what}")
    for key, values in ALLOWED.items():
        if flat[key] not in values:
            raise UserError(
                f"config key {key!r} is {flat[key]!r}; choose one of {', '.join(values)}"
            )
    return config


def canvas_for(config: ConfigDict, source: Source, sampler: Sampler, method: Method) -> CanvasSpec:
    """The canvas that sampler, method and views need.

    Args:
      config: of the run; of its sections `data` and `views`.
      source: the images to learn from.
      sampler: as the config describes it.
      method: as the config describes it.

    Raises:
      UserError: they need regions and the source has none.
    """
    parts: dict[str, Sampler | Method] = {"sampler": sampler, "method": method}
    needing = [f"{name} {type(p).__name__}" for name, p in parts.items() if p.needs_regions]
    if needing and not source.has_regions:
        raise UserError(
            f"{' and '.join(needing)} cannot do without regions and {source.spec} has none; make "
            f"them: python -m mask_tools.export --source {source.spec} --segmenter fh --out "
            "data/regions, then train with --config.data.source=records:data/regions"
        )
    objects = config.data.max_objects if sampler.needs_regions else 0
    planes = config.data.region_planes if method.needs_regions else 0
    sides = [config.views.size] + [config.views.local_size] * bool(config.views.num_local)
    pixels = config.data.pixels or choose_pixels(sample_sizes(source), len(source))
    return CanvasSpec(pixels, (min(sides), max(sides)), objects, planes)


def build_method(config: ConfigDict) -> tuple[Method, nn.Module]:
    """The method with its encoder inside, and the encoder on its own."""
    encoder = build("encoder", config.encoder, dtype=jnp.dtype(config.dtype), remat=config.remat)
    return build("method", config.method, encoder=encoder), encoder
