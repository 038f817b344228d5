"""Checks that values are such as the keys of a config take."""

import functools
from collections.abc import Mapping
from typing import Any, cast, get_args, get_type_hints

from ml_collections import ConfigDict

from jaxssl.checked_files import MAX_INTEGER
from jaxssl.config import base, defaults
from jaxssl.config.parts import KNOWN, declared_fields
from jaxssl.errors import UserError, check_choice, check_range
from jaxssl.renamed import CONFIG_KEYS, REMOVED_KEYS
from jaxssl.types import SavedConfig


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
    declared: dict[str, Any] = {"eval.datasets": tuple[str, ...]}
    declared["eval.ignore_labels"] = tuple[int, ...]
    for cls in KNOWN.get(section, {}).values():
        if name in {field.name for field in declared_fields(cls)}:
            declared[key] = get_type_hints(getattr(cls, "func", cls))[name]
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
KEYS = {
    "1 or more": """
        epochs batch_size log_every data.max_objects data.region_planes eval.batch_size eval.knn_k
        eval.linear_epochs checkpoint.every checkpoint.keep views.size views.local_size method.dim
        method.hidden method.predictor_hidden method.bottleneck method.num_outputs
        method.num_prototypes method.iterations""",
    "0 or more": """data.pixels data.workers sampler.min_area
        eval.every eval.size eval.health eval.in_context""",
    "from 0 to 2**32 - 1": "seed",  # JAX would cut a larger one
    "above 0": """
        eval.knn_temperature method.temperature method.student_temperature method.loss_scale
        method.teacher_temperature method.teacher_temperature_start method.epsilon""",
    "from 0 to 1": """
        method.momentum method.momentum_end method.center_momentum method.freeze_last_layer
        method.freeze_prototypes method.teacher_warmup method.queue_start""",
}
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
    for allowed, keys in KEYS.items():
        for key in flat.keys() & set(keys.split()):
            check_range(key, flat[key], allowed)
    for key, values in ALLOWED.items():
        check_choice(key, flat[key], values)
    return config
