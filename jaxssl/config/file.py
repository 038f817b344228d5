"""Config files, and what the command line changes in them."""

import ast
import difflib
import importlib.util
import inspect
import os
import pathlib
from collections.abc import Sequence
from typing import cast

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxssl.config import defaults
from jaxssl.config.checks import all_keys, check, check_sections, fitting, flatten, kind_of
from jaxssl.config.parts import KNOWN
from jaxssl.data import split_sources
from jaxssl.errors import UserError
from jaxssl.renamed import CONFIG_KEYS

_SUCCESSORS = CONFIG_KEYS | {"data.canvas": "data.pixels"}  # a budget of pixels, not a side
_NAMES = {"learning_rate": "lr"}  # of metrics, and of their keys


def load_config(where: str | os.PathLike[str], overrides: Sequence[str] = ()) -> ConfigDict:
    """The config of a file with `get_config()`, or of `path:variant`, changed and locked.

    Overrides are `--config.key=value` each. Another `method.name` (or that of another section)
    resets the section to the defaults of what was chosen; the other overrides come after.
    """
    overrides = [overrides] if isinstance(overrides, str) else overrides
    path, _, variant = os.fspath(where).partition(":")
    config = _get_config(path, variant)
    _check_file(config, path)
    overrides = _join_values(overrides)
    for section in KNOWN:
        for override in overrides:
            key, _, value = override.partition("=")
            if key == f"--config.{section}.name" and value != config[section].name:
                config[section] = defaults(section, value)
    for override in overrides:
        _check_key(config, override.partition("=")[0].removeprefix("--config."))
    config.lock()
    for override in overrides:
        config = _changed(config, override)
    return check(config)


def _changed(config: ConfigDict, override: str) -> ConfigDict:
    values, argv = flags.FlagValues(), ["", _quote_texts(config, override)]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        values(argv)
    except flags.Error as error:
        key, _, value = override.removeprefix("--config.").partition("=")
        fitting(key, value, flatten(all_keys(config)))  # a text: where that is none, it raises
        raise UserError(f"{' '.join(str(error).split())} (see --help)") from error
    return cast(ConfigDict, values.config)


def _get_config(path: str, variant: str) -> ConfigDict:
    if not pathlib.Path(path).is_file():
        names = ", ".join(sorted(p.name for p in pathlib.Path("configs").glob("*.py")))
        raise UserError(f"no config file {path!r}; the configs folder holds {names or 'none here'}")
    spec = importlib.util.spec_from_file_location("config", path)
    if spec is None or spec.loader is None:
        raise UserError(f"config file {path!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError) as error:
        raise UserError(f"config file {path} does not load: {error}") from error
    get_config = getattr(module, "get_config", None)
    if not inspect.isfunction(get_config):
        raise UserError(f"{path} defines no get_config(); see configs/quickstart.py")
    if variant and not inspect.signature(get_config).parameters:
        raise UserError(f"{path} has no variants; leave out ':{variant}'")
    config = get_config(*([variant] if variant else []))
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"get_config() of {path} returns {type(config).__name__}; it must return a config that "
            "starts from base()"
        )
    return config


def _check_file(config: ConfigDict, path: str) -> None:
    """Raises UserError unless the file has set exactly the keys there are."""
    for section in sorted(set(KNOWN) - set(config)):
        raise UserError(f"{path} leaves out {section}; start from base()")
    check_sections(config)
    known, given = sorted(flatten(all_keys(config))), set(flatten(config))
    for key in sorted(given - set(known)):
        raise UserError(f"{path}: {_unknown_key(key, all_keys(config))}")
    if missing := set(known) - given:
        raise UserError(f"{path} leaves out {', '.join(sorted(missing))}; start from base()")


def _join_values(overrides: Sequence[str]) -> list[str]:
    """`--config.key value` as `--config.key=value`."""
    joined: list[str] = []
    for word in overrides:
        if word.startswith("--config."):
            joined.append(word)
        elif joined and "=" not in joined[-1]:
            joined[-1] += f"={word}"
        else:
            raise UserError(f"unknown argument {word!r}; overrides look like --config.epochs=10")
    if missing := [j for j in joined if "=" not in j]:
        raise UserError(f"{missing[0]} has no value; write {missing[0]}=VALUE")
    return joined


def _quote_texts(config: ConfigDict, override: str) -> str:
    """`--config.key=a,b` as `--config.key=('a', 'b')`, if the key holds several texts."""
    key, _, value = override.partition("=")
    name = key.removeprefix("--config.")
    default = flatten(config)[name]
    if not isinstance(default, tuple) or kind_of(name, default) is not str or "," not in value:
        return override
    try:
        ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return f"{key}={split_sources(value)}"
    return override


def _check_key(config: ConfigDict, key: str) -> None:
    known = sorted(flatten(config))
    if key in known:
        return
    if any(k.startswith(f"{key}.") for k in known):
        raise UserError(f"config key {key!r} is a section; set one of its keys, as in {key}.KEY")
    raise UserError(_unknown_key(key, config))


def _unknown_key(key: str, config: ConfigDict) -> str:
    """Says that a config of these parts has no such key, and which may be meant."""
    section, _, name = key.rpartition(".")
    if others := [part for part in KNOWN.get(section, ()) if name in defaults(section, part)]:
        chosen = config[section].name
        return f"{section} {chosen!r} has no key {key!r}; those that have it: {', '.join(others)}"
    names = {known: known.rpartition(".")[2] for known in sorted(flatten(config))}
    within = [known for known in names if known.startswith(f"{section}.")] or list(names)
    name = _NAMES.get(name, name)
    similar = difflib.get_close_matches(name, [names[known] for known in within], 1)
    near = [_SUCCESSORS[key]] if key in _SUCCESSORS else [k for k in names if names[k] == name]
    near = near or [known for known in within if names[known] in similar]
    hint = (
        f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(within)}"
    )
    return f"unknown config key {key!r}. {hint}"


def format_config(config: ConfigDict) -> str:
    """One line `key = value` for each key, section by section: overrides that give this config."""
    flat = flatten(config)
    ordered = sorted(flat, key=lambda key: ("." in key, key))  # first the keys of no section
    return "\n".join(f"{key} = {flat[key]}" for key in ordered)
