"""Parts of a user's own: `package.module:NAME`, where one of jaxssl's has a plain name."""

import dataclasses
import importlib
from collections.abc import Callable, Collection
from typing import Any

from jaxssl.errors import PartError


def import_part(given: str, name: str, kind: str, fits: Callable[[Any], bool]) -> Any:
    """The object `package.module:NAME`.

    Args:
      given: where the name stands, as the user knows it.
      name: a module that Python finds, a colon, and a name in it.
      kind: what the object is to be, in words.
      fits: whether an object is of this kind.

    Raises:
      PartError: the module cannot be imported, or has nothing of this kind under the name.
    """
    module, _, attribute = name.partition(":")
    given = f"{given} is {name!r}"
    try:
        part = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError) as error:
        raise PartError(
            f"{given}, which cannot be imported: {error}; Python looks for modules in the folder "
            "it is started in and in those of PYTHONPATH"
        ) from error
    if not fits(part):
        raise PartError(f"{given}; {module} has no {kind} of this name")
    return part


def import_dataclass(given: str, name: str, members: Collection[str], described: str) -> Any:
    """The dataclass `package.module:NAME`, which must have some members.

    Raises:
      PartError: it cannot be imported, or lacks a member; `described` is the file that has them.
    """
    part = import_part(given, name, "dataclass", _is_dataclass)
    has = {*dir(part), *(field.name for field in dataclasses.fields(part))}
    if missing := sorted(set(members) - has):
        raise PartError(f"{given} is {name!r}, which lacks {', '.join(missing)}: see {described}")
    return part


def _is_dataclass(part: Any) -> bool:
    return isinstance(part, type) and dataclasses.is_dataclass(part)
