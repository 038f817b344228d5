"""All that decides the bytes of a split, by the names of options: what two runs must agree on."""

import dataclasses
import hashlib
import json
import pathlib
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from jaxssl.errors import UserError
from mask_tools.cli import EXACT
from mask_tools.segmenters import SEGMENTERS
from mask_tools.shards import Job

Settings = dict[str, Any]

_FILES = ("checkpoint", "path")  # options of segmenters that name what they read
# Which may change between two runs: of files the checksums count, the rest decides the speed.
_FREE = (*_FILES, "device", "points_per_batch")


def describe_segmenter(job: Job) -> Settings:
    """What `info.json` says of it, in the types that JSON gives back."""
    kind = type(job.segmenter)
    parameters = {} if job.segmenter is None else dataclasses.asdict(job.segmenter)
    described = {
        "name": next((name for name in SEGMENTERS if SEGMENTERS[name] is kind), EXACT),
        "parameters": parameters,
        "max_side": job.max_side,
    }
    for name in _FILES:
        path = parameters.get(name)
        described[f"{name}_sha256"] = _checksum(pathlib.Path(path)) if path else None
    plain: Settings = json.loads(json.dumps(described))
    return plain


def _checksum(path: pathlib.Path) -> str:
    """Of what a file holds; of a folder, of the names and sizes of the files in it."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{file.relative_to(path)} {file.stat().st_size}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def flatten(segmenter: Mapping[str, Any]) -> Settings:
    """The settings that a segmenter of `info.json` stands for."""
    others = {"max_side": None} | {f"{name}_sha256": None for name in _FILES}
    parameters = {n: value for n, value in segmenter["parameters"].items() if n not in _FREE}
    return {
        "segmenter": segmenter["name"],
        **{name: segmenter.get(name) for name in others},
        **parameters,
    }


def describe(options: Namespace, job: Job) -> Settings:
    """The settings of a run."""
    return {
        **flatten(describe_segmenter(job)),
        "classes": list(job.source.class_names),
        "source": options.source,
        "part": options.part,
        "shards": job.shards,
        "images": len(job.source),
        "content": job.source.fingerprint(),  # of the source's files
    }


def refuse_difference(folder: pathlib.Path, before: Settings, now: Settings) -> None:
    """Raises `UserError` that names the settings that differ from those of an earlier run."""
    different = [
        key if key == "content" else f"{key} ({before[key]} before, {now[key]} now)"
        for key in now
        if key in before and before[key] != now[key]
    ]
    if different:
        raise UserError(
            f"{folder} was exported with another {', another '.join(different)}; "
            "give the same, or another --out"
        )
