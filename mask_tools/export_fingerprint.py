"""The settings that decide the bytes of a split, which two runs must agree on, by option."""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxssl.data.folder import find_files
from jaxssl.data.identity import identify_files
from jaxssl.data.records import Info, SegmenterInfo, read_info
from jaxssl.errors import UserError
from mask_tools.images_to_segment import identify_images, label_files
from mask_tools.segmenters import EXACT, SEGMENTERS
from mask_tools.segmenters.hugging_face import Transformers
from mask_tools.shards import Job

Settings = dict[str, Any]

log = logging.getLogger("jaxssl.data")

_ANNOTATIONS = ("path", "images")
_FILES = ("checkpoint", *_ANNOTATIONS)  # options of segmenters that name what they read
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
        described[f"{option}_sha256"] = _checksum(pathlib.Path(path), job.folder) if path else None
    if isinstance(job.segmenter, Transformers):
        described |= {f"{name}_sha256": sha for name, sha in job.segmenter.checksums().items()}
    plain: SegmenterInfo = json.loads(json.dumps(described))
    return plain


def _checksum(path: pathlib.Path, out: pathlib.Path) -> str:
    """The sha256 of a file's content, or of the names and sizes of `_files` in a folder."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = [f"{file.relative_to(path)} {file.stat().st_size}\n" for file in _files(path, out)]
    return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def _files(path: pathlib.Path, out: pathlib.Path) -> list[pathlib.Path]:
    """The files in a folder, as annotations are looked for there, without those that are written.

    Records may be made beside the annotations.
    """
    if not path.is_dir():
        return []
    written = os.path.join(os.path.abspath(out), "")
    found = sorted(path / file for file in find_files(path, ("",)))
    kept = [file for file in found if not os.path.abspath(file).startswith(written)]
    return [file for file in kept if file.is_file()]


def flatten(segmenter: Mapping[str, Any]) -> Settings:
    """The settings that an entry of `info.json` on a segmenter stands for.

    One of an earlier version has the defaults of the parameters that there are since.
    """
    others = ("max_side", *(f"{name}_sha256" for name in (*_FILES, "model", "model_config")))
    kind = SEGMENTERS.get(segmenter["name"])
    fields = dataclasses.fields(kind) if kind else ()
    plain = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    defaults = json.loads(json.dumps(plain))
    given = (defaults | segmenter["parameters"]).items()
    parameters = {name: value for name, value in given if name not in _FREE}
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
    }
    content = {"content": job.source.fingerprint()}  # with times, as earlier versions had it there
    # Copies have other times: that is no other setting, but shards are made again.
    named = [pathlib.Path(path) for n in _FILES if (path := getattr(job.segmenter, n, ""))]
    beside = [file for file in job.files if not any(map(file.is_relative_to, named))]
    inside = [file for path in named for file in _files(path, job.folder)]
    files = [*inside, *filter(os.path.isfile, beside)]
    times = [file.stat().st_mtime_ns for file in files]
    made_from = hashlib.sha256(json.dumps([settings | content, times]).encode()).hexdigest()
    return settings | {"content of images": identify_images(job.source), "made_from": made_from}


def previous(job: Job, settings: Settings) -> Info | None:
    """The folder's `info.json`, if it is there; `UserError` if the new split does not fit it."""
    if not (job.folder / "info.json").exists():
        return None
    info = read_info(job.folder)
    if info.segmenter is None:
        raise UserError(f"{job.folder} holds records without regions; give another --out")
    before = {**flatten(info.segmenter), "classes": list(info.class_names)}
    if set(info.splits) != {job.split}:
        # Each split has its own annotations: only the last's are noted.
        del before["path_sha256"], before["images_sha256"]
    shards = info.splits.get(job.split)
    if shards is not None:
        broken = info.segmenter.get("broken", {}).get(job.split, [])
        before["shards"] = len(shards)
        if settings["source"] not in noted_sources(info, settings["source"]):
            before["source"] = info.source
        before["images"] = sum(shard.count for shard in shards) + len(broken)
        if (images := info.segmenter.get("content", {}).get(job.split)) is not None:
            before["content of images"] = images
    refuse_difference(job.folder, before, settings)
    return info


def noted_sources(info: Info, source: str) -> list[str]:
    """The sources that a folder was made from, of which one may be `source`, whatever its text."""
    before, found, after = f", {info.source}, ".partition(f", {source}, ")
    texts = [*before.split(", "), source, *after.split(", ")] if found else info.source.split(", ")
    return [text for text in texts if text]


def _named(job: Job) -> list[pathlib.Path]:
    """The annotations in one file that options name."""
    named = (getattr(job.segmenter, option, "") for option in _ANNOTATIONS)
    return [pathlib.Path(path) for path in named if path and os.path.isfile(path)]


def _annotation_files(job: Job) -> list[pathlib.Path]:
    """Those that options name, those of single images, and labels of the source."""
    return [*_named(job), *job.files, *label_files(job.source)]


def identify_annotations(job: Job) -> dict[str, str]:
    """The identity of what annotates the images, by the split; {} if no files do."""
    files = _annotation_files(job)
    return {job.split: identify_files(files)} if files else {}


def refuse_other_annotations(job: Job, info: Info) -> None:
    """Raises `UserError` if a complete split was made from annotations of another content."""
    noted = info.segmenter.get("annotations", {}) if info.segmenter else {}
    if job.split in noted:
        key = "content of annotations"
        now = identify_annotations(job).get(job.split)
        refuse_difference(job.folder, {key: noted[job.split]}, {key: now})
    elif (files := _annotation_files(job)) and (files != _named(job) or len(info.splits) > 1):
        # Else `path_sha256` is of the content.
        log.warning(
            "%s is taken as it is, since its export noted no contents of annotations; if they have "
            "changed since, give another --out",
            job.folder,
        )


def refuse_difference(folder: pathlib.Path, before: Settings, now: Settings) -> None:
    """Raises `UserError`, naming the settings that differ from those of an earlier run, if any."""
    different = [
        key if key.startswith("content") else f"{key} ({before[key]} before, {now[key]} now)"
        for key in now
        if key in before and before[key] != now[key] and key != "made_from"
    ]
    if different:
        done = (folder / "info.json").exists()
        way_on = "give the same" if done else "give the same, delete what was begun"
        raise UserError(
            f"{folder} was {'exported' if done else 'begun'} with another "
            f"{', another '.join(different)}; {way_on}, or give another --out"
        )
