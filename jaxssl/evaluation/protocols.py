"""Changing the protocols of tasks: by a paper's preset, by words such as `knn.k=20`."""

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxssl.config.checks import LIMITS
from jaxssl.errors import UserError
from jaxssl.evaluation.task import Task
from jaxssl.renamed import SETTINGS


def with_presets(tasks: Mapping[str, Task], presets: Sequence[str]) -> dict[str, Task]:
    """The tasks, by the protocols of the presets TASK=NAME; or NAME alone, where one task has it.

    Raises:
      UserError: no such task among those chosen, or it has no such preset.
    """
    changed = dict(tasks)
    for text in presets:
        name, equals, preset = text.rpartition("=")
        having = [n for n, task in tasks.items() if preset in task.presets]
        if not equals and len(having) == 1:
            name = having[0]
        if name not in having:
            known = [f"{n}={p}" for n, task in tasks.items() for p in task.presets]
            raise UserError(
                f"--preset {text}: give one of {', '.join(known) or 'the presets of other tasks'}"
            )
        protocol = tasks[name].presets[preset]
        changed[name] = dataclasses.replace(tasks[name], protocol=protocol)
    return changed


def preset_of(task: Task, protocol: Mapping[str, Any]) -> str:
    """The preset of a task that a protocol, as in `eval.json`, is of; "": of none."""
    for name, preset in task.presets.items():
        fields = json.loads(json.dumps(dataclasses.asdict(preset)))  # tuples become lists, as there
        if all(key in protocol and protocol[key] == value for key, value in fields.items()):
            return name
    return ""


def change(tasks: Mapping[str, Task], settings: Sequence[str]) -> dict[str, Task]:
    """The tasks, each `TASK.KEY=VALUE` applied to the protocol of its task.

    Raises:
      UserError: no such task among those chosen, no such key, or a value of another type.
    """
    changed = dict(tasks)
    known = [f"{n}.{f.name}" for n, t in tasks.items() for f in dataclasses.fields(t.protocol)]
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = SETTINGS.get(key, key)
        if not equals:
            raise UserError(f"--set {setting} has no value; write --set {setting}=VALUE")
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
            raise UserError(f"unknown setting {key!r} of the tasks chosen; {hint}")
        name, _, field = key.rpartition(".")  # a task of one's own may have dots in its name
        value = _parse(key, text, getattr(changed[name].protocol, field))
        try:
            changed[name] = changed[name].changed(**{field: value})
        except UserError as error:
            raise UserError(f"--set {setting:.60}: {error}") from error
    return changed


def _parse(key: str, text: str, old: Any) -> Any:
    """The value of a text, of the type of the old one. `a,b` is a tuple where one is wanted."""
    if isinstance(old, str):
        return text
    if isinstance(old, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UserError(f"--set {key}={text}: give true or false")
    many = isinstance(old, tuple)
    kind = type(old) if not many else type(old[0]) if old else float
    texts = [part for part in text.strip("()[]").split(",") if part] if many else [text]
    try:
        values = tuple(map(kind, texts))
        if not all(abs(value) < LIMITS[kind] for value in values):
            raise ValueError
    except ValueError:
        what = "a whole number below 2^63" if kind is int else "a finite number"
        several = ", or several, separated by commas" if many else ""
        raise UserError(
            f"--set {key}={text:.60}: give {what}{several}, as in {key}={old}"
        ) from None
    return values if many else values[0]
