"""Segments a data set once: writes its images with their regions as records.

    python -m mask_tools.export --source folder:photos --segmenter fh --out data/photos_fh

Files are complete when they have their name, and `info.json` is the last of them. Until then the
hidden folder `.work` holds the settings of the run and a note on every complete shard.
"""

import contextlib
import dataclasses
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxssl.data import open_source
from jaxssl.data.files import written_aside
from jaxssl.data.progress import progress
from jaxssl.data.records import Info, read_info, write_info
from mask_tools.command import run
from mask_tools.options import EXACT, build_segmenter, parse
from mask_tools.segmenters import SEGMENTERS
from mask_tools.shards import WORK, Finished, Job, recall
from mask_tools.statistics import MIN_AREA, format_table, table
from mask_tools.workers import make_all

IMAGES_PER_SHARD = 64
MAX_SHARDS = 1024

Settings = dict[str, Any]  # all that decides the bytes of a split, by the names of options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return run(
        "mask_tools.export",
        lambda: export(parse(argv)),
        interrupted="stopped; the same command continues from the complete shards",
    )


def export(options: Namespace) -> None:
    """Writes the split that the options of the command describe, or what is missing of it."""
    job = _plan(options)
    settings = _settings(options, job)
    info = _previous(job, settings)
    if info is not None and job.split in info.splits:
        print(f"{job.folder} holds all of split {job.split!r} already: nothing to do.")
    else:
        _begin(job, settings)
        results = _make_missing(job, options.workers, options.max_broken)
        write_info(job.folder, _add_split(info, job, settings["source"], results))
        print(_report(job, results))
    _clear_work(job)
    print(
        "\nNext, look at the regions, then learn from them:\n"
        f"  python -m mask_tools.inspect {job.folder} --preview preview.png\n"
        "  python -m jaxssl.train --config configs/samclr_ade20k.py"
        f" --config.data.source=records:{job.folder}"
    )


def _plan(options: Namespace) -> Job:
    segmenter = build_segmenter(options)
    source = open_source(options.source, None if options.part == "all" else options.part)
    if segmenter is None and not source.has_regions:
        raise ValueError(
            f"{options.source} carries no regions; choose --segmenter {' or '.join(SEGMENTERS)}"
        )
    shards = options.shards or min(MAX_SHARDS, -(-len(source) // IMAGES_PER_SHARD))
    if shards > len(source):
        raise ValueError(f"--shards {shards} for {len(source)} images; give at most one for each")
    return Job(source, segmenter, options.max_side, options.out, options.split, shards)


def _describe_segmenter(job: Job) -> Settings:
    """What `info.json` says of it, in the types that JSON gives back."""
    kind = type(job.segmenter)
    described = {
        "name": next((name for name in SEGMENTERS if SEGMENTERS[name] is kind), EXACT),
        "parameters": {} if job.segmenter is None else dataclasses.asdict(job.segmenter),
        "checkpoint_sha256": None,
        "max_side": job.max_side,
    }
    plain: Settings = json.loads(json.dumps(described))
    return plain


def _flatten(segmenter: Settings) -> Settings:
    return {
        "segmenter": segmenter["name"],
        "max_side": segmenter.get("max_side"),
        **segmenter["parameters"],
    }


def _settings(options: Namespace, job: Job) -> Settings:
    return {
        **_flatten(_describe_segmenter(job)),
        "classes": list(job.source.class_names),
        "source": options.source,
        "part": options.part,
        "shards": job.shards,
        "images": len(job.source),
        "content": job.source.fingerprint(),  # of the source's files
    }


def _previous(job: Job, settings: Settings) -> Info | None:
    """What `info.json` says, if it is there; `ValueError` if the new split does not go with it."""
    if not (job.folder / "info.json").exists():
        return None
    info = read_info(job.folder)
    if info.segmenter is None:
        raise ValueError(f"{job.folder} holds records without regions; give another --out")
    before = {**_flatten(info.segmenter), "classes": list(info.class_names)}
    shards = info.splits.get(job.split)
    if shards is not None:
        broken = info.segmenter.get("broken", {}).get(job.split, [])
        before["shards"] = len(shards)
        if settings["source"] not in info.source.split(", "):
            before["source"] = info.source
        before["images"] = sum(shard.count for shard in shards) + len(broken)
    _refuse_difference(job, before, settings)
    return info


def _begin(job: Job, settings: Settings) -> None:
    """Leaves a note on the settings, so that no run with others takes this one for its own."""
    note = job.folder / WORK / f"{job.split}.json"
    if note.is_file():
        _refuse_difference(job, json.loads(note.read_bytes()), settings)
    else:
        note.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(note) as file:
            file.write(json.dumps(settings).encode())


def _refuse_difference(job: Job, before: Settings, now: Settings) -> None:
    different = [
        key if key == "content" else f"{key} ({before[key]} before, {now[key]} now)"
        for key in now
        if key in before and before[key] != now[key]
    ]
    if different:
        raise ValueError(
            f"{job.folder} was exported with another {', another '.join(different)}; "
            "give the same, or another --out"
        )


def _make_missing(job: Job, workers: int, max_broken: float) -> list[Finished]:
    """The shards of a split, in order: those that are there, and those made now."""
    found = [recall(job, number) for number in range(job.shards)]
    missing = [number for number, finished in enumerate(found) if finished is None]
    results = [finished for finished in found if finished is not None]
    done = sum(len(finished.rows) + len(finished.broken) for finished in results)
    with (
        progress(len(job.source), "exporting", done=done) as advance,
        contextlib.closing(make_all(job, missing, workers, advance)) as made,
    ):
        for finished in made:
            results.append(finished)
            _check_broken(job, results, max_broken)
    _check_broken(job, results, max_broken)
    if not any(len(finished.rows) for finished in results):
        raise ValueError(f"no image of {job.source.spec} can be read, so there is nothing to write")
    return sorted(results, key=lambda finished: finished.info.file)


def _broken(results: Sequence[Finished]) -> list[str]:
    return [line for finished in results for line in finished.broken]


def _check_broken(job: Job, results: Sequence[Finished], max_broken: float) -> None:
    broken = _broken(results)
    if len(broken) > max_broken * len(job.source):
        raise ValueError(
            f"{len(broken)} of {len(job.source)} images are broken so far, more than --max-broken "
            f"{max_broken:g} allows: repair or remove them, or raise it; the first: {broken[0]}"
        )


def _add_split(info: Info | None, job: Job, source: str, results: Sequence[Finished]) -> Info:
    segmenter = _describe_segmenter(job)
    new = Info(
        source=source,
        segmenter=segmenter | {"broken": {job.split: _broken(results)}},
        splits={job.split: tuple(finished.info for finished in results)},
        class_names=job.source.class_names,
        has_semantic=any(finished.has_semantic for finished in results),
    )
    if info is None:
        return new
    broken = (info.segmenter or {}).get("broken", {}) | {job.split: _broken(results)}
    return dataclasses.replace(
        new,
        source=", ".join(dict.fromkeys([*info.source.split(", "), source])),
        segmenter=segmenter | {"broken": broken},
        splits=info.splits | new.splits,
        has_semantic=info.has_semantic or new.has_semantic,
    )


def _report(job: Job, results: Sequence[Finished]) -> str:
    rows = np.concatenate([finished.rows for finished in results])
    broken = _broken(results)
    lines = table(rows, min_area=MIN_AREA)
    if broken:
        lines["broken images left out"] = f"{len(broken)}, named in info.json; first: {broken[0]}"
    size = sum(finished.info.bytes for finished in results)
    lines["size"] = f"{size / 1e6:.1f} MB in {job.shards} files"
    return format_table(lines)


def _clear_work(job: Job) -> None:
    """Removes the notes on a split; they are not needed once `info.json` has it."""
    work = job.folder / WORK
    for note in (work / f"{job.split}.json", *map(job.note, range(job.shards))):
        note.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # another split is being written, or it is gone
        work.rmdir()


if __name__ == "__main__":
    sys.exit(main())
