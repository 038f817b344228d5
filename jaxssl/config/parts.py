"""The parts of an experiment: what a config says of them, and the objects that this describes.

A hyperparameter is declared once, as a field of the dataclass that uses it: `defaults("method",
"simclr")` makes a ConfigDict of the fields, `build("method", config.method, ...)` the object. A
name with a colon, `package.module:NAME`, is that of a part which is not jaxssl's own.
"""

import dataclasses
import functools
import importlib
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxssl.errors import PartError, UserError
from jaxssl.methods import METHODS, Method
from jaxssl.models import ENCODERS
from jaxssl.optim import OPTIMIZERS
from jaxssl.samplers import SAMPLERS, Sampler

# The sections that are one class out of several: `<section>.name` says which.
KNOWN: dict[str, dict[str, Any]] = {
    "encoder": ENCODERS,
    "method": METHODS,
    "sampler": SAMPLERS,
    "optim": OPTIMIZERS,
}
# What a part from elsewhere must have.
_MEMBERS = {
    "encoder": {"dtype", "remat"},
    "method": {*vars(Method), *Method.__annotations__},
    "sampler": {*vars(Sampler), *Sampler.__annotations__},
    "optim": {"lr", "schedule", "transform"},
}
_DESCRIBED = {
    "encoder": "jaxssl/models/resnet.py",
    "method": "jaxssl/methods/__init__.py",
    "sampler": "jaxssl/samplers/__init__.py",
    "optim": "jaxssl/optim.py",
}

# Keys of a section that are no field of what it builds.
# File of weights to start from, "": random ones; prefix of the names in it, "": found.
BESIDE = {"encoder": {"init": "", "init_prefix": ""}}

# Fields that every encoder has and the top of the config decides.
FROM_TOP = ("dtype", "remat")


def defaults(section: str, name: str, **changes: Any) -> ConfigDict:
    """The section encoder, method, sampler or optim that builds `name`; some fields changed.

    Raises UserError if there is no such section, name or field.
    """
    cls = _lookup(section, name)
    fields = {"name": name} | plain_fields(cls) | BESIDE.get(section, {})
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
    if ":" in name and name not in KNOWN[section]:
        KNOWN[section][name] = _import_part(section, name)
    if name not in KNOWN[section]:
        raise UserError(
            f"unknown {section}.name {name!r}; choose one of {', '.join(KNOWN[section])}, or "
            "MODULE:CLASS of your own"
        )
    return KNOWN[section][name]


def _import_part(section: str, name: str) -> Any:
    """The dataclass `package.module:NAME`, or an error that says what it lacks."""
    module, _, attribute = name.partition(":")
    given = f"{section}.name is {name!r}"
    try:
        part = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError) as error:
        raise PartError(
            f"{given}, which cannot be imported: {error}; Python looks for modules in the folder "
            "it is started in and in those of PYTHONPATH"
        ) from error
    if not isinstance(part, type) or not dataclasses.is_dataclass(part):
        raise PartError(f"{given}; {module} has no dataclass of this name")
    has = {*dir(part), *(field.name for field in dataclasses.fields(part))}
    if missing := sorted(n for n in _MEMBERS[section] - has if not n.startswith("_")):
        raise PartError(f"{given}, which lacks {', '.join(missing)}: see {_DESCRIBED[section]}")
    return part


def plain_fields(cls: Any) -> dict[str, Any]:
    """Names and defaults of the fields a config can hold: plain values only."""
    fixed = cls.keywords if isinstance(cls, functools.partial) else {}
    plain = (bool, int, float, str, tuple)
    return {
        f.name: f.default
        for f in declared_fields(cls)
        if isinstance(f.default, plain) and f.name not in {*fixed, "name", *FROM_TOP}
    }


def declared_fields(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(getattr(cls, "func", cls))


def build_method(config: ConfigDict) -> tuple[Method, nn.Module]:
    """The method with its encoder inside, and the encoder on its own."""
    encoder = build("encoder", config.encoder, dtype=jnp.dtype(config.dtype), remat=config.remat)
    return build("method", config.method, encoder=encoder), encoder
