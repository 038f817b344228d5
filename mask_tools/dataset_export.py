"""Segments a data set once, from Python: what `python -m mask_tools.export` calls.

Files are complete when they have their name, and `info.json` is the last of them. Until then the
hidden folder `.work` holds the settings of the run and a note on every complete shard.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxssl.checked_files import is_plain_name, read_json
from jaxssl.data.loading import MAX_BROKEN, too_many
from jaxssl.data.records import Info, write_info
from jaxssl.errors import UserError
from jaxssl.files import locked, write_text
from jaxssl.progress import Progress
from jaxssl.terminal import format_table
from mask_tools.backends.processes import make_all
from mask_tools.backends.ray_cluster import make_on_ray
from mask_tools.export_fingerprint import (
    Settings,
    describe,
    describe_segmenter,
    identify_annotations,
    noted_sources,
    previous,
    refuse_difference,
    refuse_other_annotations,
)
from mask_tools.images_to_segment import annotation_files, identify_images, open_matched
from mask_tools.matching import MIN_MATCHED, Faults, MatchReport, check_fraction
from mask_tools.region_statistics import MIN_AREA, RegionStatistics, summarize
from mask_tools.segmenters import Segmenter
from mask_tools.shards import WORK, Finished, Job, recall

IMAGES_PER_SHARD = 64
MAX_SHARDS = 1024


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """The state of a split after a call of `segment_dataset`; as text, a table."""

    folder: pathlib.Path
    split: str
    shards: int
    complete_shards: int  # fewer where other jobs of an array still make the rest
    # Of what this call completed:
    statistics: RegionStatistics | None = None
    broken: tuple[str, ...] = ()  # a line for each image that was skipped
    bytes: int = 0
    faults: Faults = dataclasses.field(default_factory=Faults)  # what was left out
    matched: MatchReport | None = None  # annotations and images

    @property
    def is_complete(self) -> bool:
        """Whether all files of the split are complete, so that it can be read."""
        return self.complete_shards == self.shards

    def __str__(self) -> str:
        if not self.is_complete:
            complete = f"{self.complete_shards} of {self.shards} files are complete"
            return f"{complete}; other jobs make the rest."
        if self.statistics is None:
            return f"{self.folder} holds all of split {self.split!r} already: nothing to do."
        texts = self.statistics.texts()
        if self.matched:
            texts |= self.matched.texts()
        texts |= self.faults.texts("annotations" if self.matched else "regions")
        if self.broken:
            first = f"{len(self.broken)}, named in info.json; first: {self.broken[0]}"
            texts["broken images skipped"] = first
        texts["files"] = f"{self.shards} ({self.bytes / 1e6:.1f} MB) in {self.folder}"
        return format_table([*texts.items()], heading=False)


def segment_dataset(
    source: str,
    segmenter: Segmenter | None,
    out: str | os.PathLike[str],
    *,
    split: str = "train",
    part: str = "all",
    shards: int | None = None,
    max_side: int | None = None,
    max_broken: float = MAX_BROKEN,
    unannotated: str = "skip",
    min_matched: float = MIN_MATCHED,
    workers: int | None = None,
    num_shards: int = 1,
    shard_index: int = 0,
    ray: str | None = None,
) -> ExportResult:
    """Segments the images of a source and writes them, with their regions, as records.

    What an earlier call has completed is kept: after a stop, the same call continues.

    Args:
      source: folder:PATH, records:PATH, scenes:N, objects:N or tfds:NAME/SPLIT.
      segmenter: finds the regions, as `Felzenszwalb(scale=(500,))`; None keeps those that the
        source carries. For several processes it must be picklable.
      out: folder of the records.
      split: name of the split to write.
      part: of the source: "train", "test", or "all" for its train split if it has one, else
        everything.
      shards: files to write; None: one for 64 images.
      max_side: shrink images with a side of more pixels; None: none.
      max_broken: fraction of the images that may be unreadable; one may anyway, unless it is 0.
      unannotated: "skip" images that have no annotation, or "error".
      min_matched: fraction of images and annotations that must belong together; see `match`.
      workers: processes; below 2, all is done in this one; None: one per core, for networks one.
        With several, a script must call this under `if __name__ == "__main__":`.
      num_shards: jobs of an array that share the files.
      shard_index: of this job, from 0; it makes every `num_shards`-th file.
      ray: address of a Ray cluster to make the files on: auto, HOST:PORT, or local.

    Returns:
      The split's statistics, if this call completed it.

    Raises:
      UserError: the source cannot be opened or has no regions to keep, the arguments do not fit
        it or an earlier call on the same folder, too many images are broken, or annotations do not
        match.
    """
    _check(split, max_side, max_broken)
    opened, matched = open_matched(
        source, segmenter, part, unannotated=unannotated, min_matched=min_matched
    )
    if shards is None:
        shards = min(MAX_SHARDS, -(-len(opened) // IMAGES_PER_SHARD))
    if not 1 <= shards <= len(opened):
        raise UserError(f"--shards {shards} for {len(opened)} images; give 1 to {len(opened)}")
    if not 0 <= shard_index < num_shards:
        given = f"--shard-index {shard_index} of --num-shards {num_shards}"
        raise UserError(f"{given}: give one from 0 to {num_shards - 1}")
    numbers = matched.matches.number_of if matched else None
    files = annotation_files(matched)
    job = Job(opened, segmenter, max_side, pathlib.Path(out), split, shards, numbers, files)
    settings = describe(job, source, part)
    job = dataclasses.replace(job, made_from=settings["made_from"])
    info = previous(job, settings)
    if info is not None and split in info.splits:
        refuse_other_annotations(job, info)
    else:
        _begin(job, settings)
        own = range(shard_index, shards, num_shards)
        _make_missing(job, own, (max_broken, min_matched), workers=workers, ray=ray)
    return dataclasses.replace(_finish(job, settings, (max_broken, min_matched)), matched=matched)


def _check(split: str, max_side: int | None, max_broken: float) -> None:
    if not is_plain_name(split) or not split.isprintable() or set("*?[].") & set(split):
        raise UserError(f"--split {split!r}: give a plain name, such as train")
    check_fraction("--max-broken", max_broken)
    if max_side is not None and not (isinstance(max_side, int) and max_side > 0):
        raise UserError(f"--max-side {max_side!r}: give a whole number of pixels above 0, or None")


def _begin(job: Job, settings: Settings) -> None:
    """Leaves a note on the settings, so that no run with others takes this one for its own."""
    note = job.settings
    note.parent.mkdir(parents=True, exist_ok=True)
    with locked(job.folder, "begins in"):
        # A run that has completed no shard binds nobody: its options may have been a mistake.
        if note.is_file() and any(note.parent.glob(f"{job.files_of_split}.json")):
            advice = f"delete {note.parent} to make its files again"
            before = read_json(note, dict[str, Any], advice=advice)
            refuse_difference(job.folder, before, settings)
        write_text(note, json.dumps(settings))


def _make_missing(
    job: Job,
    own: Sequence[int],
    limits: tuple[float, float],
    *,
    workers: int | None,
    ray: str | None,
) -> None:
    """Makes those of this job's shards that are not there."""
    found = {number: recall(job, number) for number in own}
    results = [finished for finished in found.values() if finished is not None]
    missing = [number for number in own if found[number] is None]
    total = sum(len(job.indices(number)) for number in own)
    done = total - sum(len(job.indices(number)) for number in missing)
    with Progress(total, "exporting", done=done) as advance:
        if ray is None:
            shards = make_all(job, missing, workers, advance)
        else:
            shards = make_on_ray(job, missing, ray, advance)
        with contextlib.closing(shards):
            for finished in shards:
                results.append(finished)
                _check_results(job, results, limits)


def _finish(job: Job, settings: Settings, limits: tuple[float, float]) -> ExportResult:
    """Writes `info.json` if all shards are there: whichever job of an array comes to it last."""
    with locked(job.folder, "finishes"):
        info = previous(job, settings)
        if info is not None and job.split in info.splits:
            _clear_work(job)  # in case that the run that completed it was killed before it did
            return ExportResult(job.folder, job.split, job.shards, job.shards)
        results = [recall(job, number) for number in range(job.shards)]
        complete = [finished for finished in results if finished is not None]
        if len(complete) < job.shards:
            return ExportResult(job.folder, job.split, job.shards, len(complete))
        _check_results(job, complete, limits)
        rows = np.concatenate([finished.rows for finished in complete])
        if not len(rows):
            why = f"there is nothing to write; the first: {_broken(complete)[0]}"
            raise UserError(f"no image of {job.source.spec} can be read: {why}")
        if job.numbers is not None and not rows[:, 0].any():
            raise UserError(
                f"none of {len(rows)} images has a region: their annotations are empty, or options "
                "leave all of them out"
            )
        if describe(job, settings["source"], settings["part"])["made_from"] != job.made_from:
            raise UserError(
                f"images or annotations have changed while {job.folder} was made of them; give "
                "another --out"
            )
        write_info(job.folder, _add_split(info, job, settings["source"], complete))
        _clear_work(job)
    return ExportResult(
        job.folder,
        job.split,
        job.shards,
        job.shards,
        statistics=summarize(rows, min_area=MIN_AREA),
        broken=tuple(_broken(complete)),
        faults=_faults(complete),
        bytes=sum(finished.info.bytes for finished in complete),
    )


def _broken(results: Sequence[Finished]) -> list[str]:
    return [line for finished in results for line in finished.broken]


def _faults(results: Sequence[Finished]) -> Faults:
    faults = Faults()
    for finished in results:
        faults.add(finished.faults)
    return faults


def _check_results(job: Job, results: Sequence[Finished], limits: tuple[float, float]) -> None:
    """Raises `UserError` if too many images are broken or have no annotation without a fault."""
    max_broken, min_matched = limits
    broken, faults = _broken(results), _faults(results)
    if too_many(len(broken), len(job.source), max_broken):
        raise UserError(
            f"{len(broken)} of {len(job.source)} images are broken so far, more than --max-broken "
            f"{max_broken:g} allows: repair or remove them, or raise it; the first: {broken[0]}"
        )
    if faults.empty_images > (1 - min_matched) * len(job.source):
        raise UserError(
            f"{faults.empty_images} of {len(job.source)} images have annotations and no region so "
            f"far, less than --min-matched {min_matched:g} have: {faults}{faults.advice()}"
        )


def _add_split(info: Info | None, job: Job, source: str, results: Sequence[Finished]) -> Info:
    """The content of `info.json` with this split added to the others."""
    sources = noted_sources(info, source) if info else []
    before = info.segmenter if info and info.segmenter else {"name": "", "parameters": {}}
    shards = tuple(finished.info for finished in results)
    described = describe_segmenter(job)
    described["broken"] = before.get("broken", {}) | {job.split: _broken(results)}
    described["content"] = before.get("content", {}) | {job.split: identify_images(job.source)}
    described["annotations"] = before.get("annotations", {}) | identify_annotations(job)
    described["left_out"] = before.get("left_out", {}) | {job.split: _faults(results).count}
    return Info(
        source=", ".join(dict.fromkeys([*sources, source])),
        segmenter=described,
        splits=(info.splits if info else {}) | {job.split: shards},
        class_names=job.source.class_names,
        has_semantic=any(part.has_semantic for part in (*results, info) if part is not None),
    )


def _clear_work(job: Job) -> None:
    """Removes what only unfinished splits need, once `info.json` has this one."""
    work = job.folder / WORK
    notes = [job.settings, *map(job.note, range(job.shards))]
    for path in [*notes, *job.folder.glob(f".{job.files_of_split}.tmp")]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # another split is being written, or it is gone
        work.rmdir()
