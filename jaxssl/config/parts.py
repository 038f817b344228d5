"""The parts of an experiment: what a config says of them, and the objects that this describes.

A hyperparameter is declared once, as a field of the dataclass that uses it: `defaults("method",
"simclr")` makes a ConfigDict of the fields, `build("method", config.method, ...)` the object. A
name with a colon, `package.module:NAME`, is that of a part which is not jaxssl's own.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxssl.errors import UserError
from jaxssl.methods import METHODS, Method
from jaxssl.models import ENCODERS
from jaxssl.optim import OPTIMIZERS
from jaxssl.own_parts import import_dataclass
from jaxssl.samplers import SAMPLERS, Sampler

# The sections that are one class out of several: `<section>.name` says which.
KNOWN: dict[str, dict[str, Any]] = {
    "encoder": ENCODERS,
    "method": METHODS,
    "sampler": SAMPLERS,
    "optim": OPTIMIZERS,
}


def _public(protocol: Any) -> set[str]:
    names = {*vars(protocol), *protocol.__annotations__}
    return {name for name in names if not name.startswith("_")}


# What a part of a user's own must have.
_MEMBERS = {
    "encoder": {"dtype", "remat"},
    "method": _public(Method),
    "sampler": _public(Sampler),
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
        KNOWN[section][name] = import_dataclass(
            f"{section}.name", name, _MEMBERS[section], _DESCRIBED[section]
        )
    if name not in KNOWN[section]:
        raise UserError(
            f"unknown {section}.name {name!r}; choose one of {', '.join(KNOWN[section])}, or "
            "MODULE:CLASS of your own"
        )
    return KNOWN[section][name]


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
