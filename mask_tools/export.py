"""Segments a data set once: writes its images with their regions as records.

    python -m mask_tools.export --source folder:photos --segmenter fh --out data/photos_fh

Files are complete when they have their name, and `info.json` is the last of them. Until then the
hidden folder `.work` holds the settings of the run and a note on every complete shard.
"""

import contextlib
import dataclasses
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Generator, Sequence

import numpy as np

from jaxssl.data import open_source
from jaxssl.data.records import Info, read_info, write_info
from jaxssl.errors import UserError
from jaxssl.files import atomic_write, locked
from jaxssl.progress import progress
from jaxssl.terminal import one_line_errors
from mask_tools.backends.processes import make_all
from mask_tools.backends.ray_cluster import make_on_ray
from mask_tools.cli import build_segmenter, parse
from mask_tools.export_fingerprint import (
    Settings,
    describe,
    describe_segmenter,
    flatten,
    refuse_difference,
)
from mask_tools.segmenters import SEGMENTERS
from mask_tools.segmenters.sam import SamConfig
from mask_tools.shards import WORK, Finished, Job, recall
from mask_tools.statistics import MIN_AREA, format_table, table

IMAGES_PER_SHARD = 64
MAX_SHARDS = 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    with one_line_errors("stopped; the same command continues from the complete shards") as status:
        export(parse(argv))
    return status.code


def export(options: Namespace) -> None:
    """Writes the split that the options of the command describe, or what is missing of it."""
    job = _plan(options)
    settings = describe(options, job)
    if _holds_split(job, _previous(job, settings)):
        _clear_work(job)  # in case that the run that completed it was killed before it did
        print(f"{job.folder} holds all of split {job.split!r} already: nothing to do.")
    else:
        _begin(job, settings)
        _make_missing(job, options)
        if not _finish(job, settings, options.max_broken):
            return
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
        raise UserError(
            f"{options.source} carries no regions; choose --segmenter {' or '.join(SEGMENTERS)}"
        )
    shards = options.shards or min(MAX_SHARDS, -(-len(source) // IMAGES_PER_SHARD))
    if shards > len(source):
        raise UserError(f"--shards {shards} for {len(source)} images; give at most one for each")
    if not 0 <= options.shard_index < options.num_shards:
        raise UserError(
            f"--shard-index {options.shard_index} of --num-shards {options.num_shards}: "
            f"give one from 0 to {options.num_shards - 1}"
        )
    return Job(source, segmenter, options.max_side, options.out, options.split, shards)


def _previous(job: Job, settings: Settings) -> Info | None:
    """What `info.json` says, if it is there; `UserError` if the new split does not go with it."""
    if not (job.folder / "info.json").exists():
        return None
    info = read_info(job.folder)
    if info.segmenter is None:
        raise UserError(f"{job.folder} holds records without regions; give another --out")
    before = {**flatten(info.segmenter), "classes": list(info.class_names)}
    if set(info.splits) != {job.split}:  # each split has its own annotations, the last is noted
        del before["path_sha256"]
    shards = info.splits.get(job.split)
    if shards is not None:
        broken = info.segmenter.get("broken", {}).get(job.split, [])
        before["shards"] = len(shards)
        if settings["source"] not in info.source.split(", "):
            before["source"] = info.source
        before["images"] = sum(shard.count for shard in shards) + len(broken)
    refuse_difference(job.folder, before, settings)
    return info


def _holds_split(job: Job, info: Info | None) -> bool:
    return info is not None and job.split in info.splits


def _begin(job: Job, settings: Settings) -> None:
    """Leaves a note on the settings, so that no run with others takes this one for its own."""
    note = job.folder / WORK / f"{job.split}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    with locked(job.folder, "begins in"):
        # A run that has completed no shard binds nobody: its options may have been a mistake.
        if note.is_file() and any(note.parent.glob(f"{job.split}-*.tfrecord.json")):
            refuse_difference(job.folder, json.loads(note.read_bytes()), settings)
        else:
            with atomic_write(note) as file:
                file.write(json.dumps(settings).encode())


def _make_missing(job: Job, options: Namespace) -> None:
    """Makes the shards that are not there; of a job array, those that fall to this job."""
    mine = range(options.shard_index, job.shards, options.num_shards)
    found = {number: recall(job, number) for number in mine}
    results = [finished for finished in found.values() if finished is not None]
    missing = [number for number in mine if found[number] is None]
    total = sum(len(job.indices(number)) for number in mine)
    done = total - sum(len(job.indices(number)) for number in missing)
    with (
        progress(total, "exporting", done=done) as advance,
        contextlib.closing(_make(job, missing, options, advance)) as made,
    ):
        for finished in made:
            results.append(finished)
            _check_broken(job, results, options.max_broken)


def _make(
    job: Job, numbers: Sequence[int], options: Namespace, advance: Callable[[int], object]
) -> Generator[Finished, None, None]:
    if options.ray is not None:
        return make_on_ray(job, numbers, options.ray, advance)
    # A network takes all cores, or a GPU, by itself.
    workers = 1 if isinstance(job.segmenter, SamConfig) else os.cpu_count() or 1
    return make_all(job, numbers, workers if options.workers is None else options.workers, advance)


def _finish(job: Job, settings: Settings, max_broken: float) -> bool:
    """Writes `info.json` if all shards are there: whichever job of an array comes to it last."""
    with locked(job.folder, "finishes"):
        info = _previous(job, settings)
        if _holds_split(job, info):
            return True
        results = [recall(job, number) for number in range(job.shards)]
        complete = [finished for finished in results if finished is not None]
        if len(complete) < job.shards:
            print(f"{len(complete)} of {job.shards} files are complete; other jobs make the rest.")
            return False
        _check_broken(job, complete, max_broken)
        if not any(len(finished.rows) for finished in complete):
            raise UserError(f"no image of {job.source.spec} can be read: there is nothing to write")
        write_info(job.folder, _add_split(info, job, settings["source"], complete))
        _clear_work(job)
    print(_report(job, complete))
    return True


def _broken(results: Sequence[Finished]) -> list[str]:
    return [line for finished in results for line in finished.broken]


def _check_broken(job: Job, results: Sequence[Finished], max_broken: float) -> None:
    broken = _broken(results)
    if len(broken) > max_broken * len(job.source):
        raise UserError(
            f"{len(broken)} of {len(job.source)} images are broken so far, more than --max-broken "
            f"{max_broken:g} allows: repair or remove them, or raise it; the first: {broken[0]}"
        )


def _add_split(info: Info | None, job: Job, source: str, results: Sequence[Finished]) -> Info:
    segmenter = describe_segmenter(job)
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
    """Removes what only unfinished splits need, once `info.json` has this one."""
    work = job.folder / WORK
    notes = [work / f"{job.split}.json", *map(job.note, range(job.shards))]
    for path in [*notes, *job.folder.glob(f".{job.split}-*.tfrecord.tmp")]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # another split is being written, or it is gone
        work.rmdir()


if __name__ == "__main__":
    sys.exit(main())
