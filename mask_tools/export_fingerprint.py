"""The settings that decide the bytes of a split, which two runs must agree on, by option."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxssl.data.records import SegmenterInfo
from jaxssl.errors import UserError
from mask_tools.segmenters import EXACT, SEGMENTERS
from mask_tools.segmenters.hugging_face import Transformers
from mask_tools.shards import Job

Settings = dict[str, Any]

_FILES = ("checkpoint", "path", "images")  # options of segmenters that name what they read
# May differ between two runs: of files the checksums count, the others only affect the speed.
_FREE = (*_FILES, "model", "revision", "device", "points_per_batch", "images_per_batch")


def describe_segmenter(job: Job) -> SegmenterInfo:
    """The entry of `info.json` on the segmenter, in the types that JSON gives back."""
    name, parameters = EXACT, {}
    if job.segmenter is not None:
        kind = type(job.segmenter)
        name = next((n for n in SEGMENTERS if SEGMENTERS[n] is kind), kind.__name__)
        parameters = dataclasses.asdict(job.segmenter)
    described = {"name": name, "parameters": parameters, "max_side": job.max_side}
    for option in _FILES:
        path = parameters.get(option)
        described[f"{option}_sha256"] = _checksum(pathlib.Path(path)) if path else None
    if isinstance(job.segmenter, Transformers):
        described |= {f"{name}_sha256": sha for name, sha in job.segmenter.checksums().items()}
    plain: SegmenterInfo = json.loads(json.dumps(described))
    return plain


def _checksum(path: pathlib.Path) -> str:
    """The sha256 of a file's content, or of the names and sizes of the files in a folder."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = [f"{file.relative_to(path)} {file.stat().st_size}\n" for file in _files(path)]
    return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    """The files in a folder."""
    return sorted(file for file in path.rglob("*") if file.is_file())


def flatten(segmenter: Mapping[str, Any]) -> Settings:
    """The settings that an entry of `info.json` on a segmenter stands for."""
    others = ("max_side", *(f"{name}_sha256" for name in (*_FILES, "model", "model_config")))
    parameters = {n: value for n, value in segmenter["parameters"].items() if n not in _FREE}
    settings = {"segmenter": segmenter["name"]} | {name: segmenter.get(name) for name in others}
    return settings | parameters


def describe(job: Job, source: str, part: str) -> Settings:
    """The settings of a run on a part of a source."""
    settings = {
        **flatten(describe_segmenter(job)),
        "classes": list(job.source.class_names),
        "source": source,
        "part": part,
        "shards": job.shards,
        "images": len(job.source),
        "content": job.source.fingerprint(),  # of the source's files
    }
    # Copies of annotations have other times: that is no other setting, but shards are made again.
    named = [pathlib.Path(path) for n in _FILES if (path := getattr(job.segmenter, n, ""))]
    times = [file.stat().st_mtime_ns for path in named for file in _files(path)]
    made_from = hashlib.sha256(json.dumps([settings, times]).encode()).hexdigest()
    return settings | {"made_from": made_from}


def refuse_difference(folder: pathlib.Path, before: Settings, now: Settings) -> None:
    """Raises `UserError`, naming the settings that differ from those of an earlier run, if any."""
    different = [
        key if key == "content" else f"{key} ({before[key]} before, {now[key]} now)"
        for key in now
        if key in before and before[key] != now[key] and key != "made_from"
    ]
    if different:
        raise UserError(
            f"{folder} was exported with another {', another '.join(different)}; "
            "give the same, or another --out"
        )
