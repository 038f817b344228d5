"""Folders of runs, weights, encoders and checkpoints, damaged at random; see `damage.py`."""

import shutil

import jax
import numpy as np
import torch
from damage import (
    Kind,
    damage_bytes,
    damage_json,
    damage_lines,
    damage_zip,
    make_test,
    write_run,
)

from jaxssl.config import base, build_method
from jaxssl.data import open_source
from jaxssl.export import file_metadata
from jaxssl.models import variable_shapes
from jaxssl.pretrained.encoder import load_encoder
from jaxssl.pretrained.param_names import to_flax
from jaxssl.pretrained.weight_files import read_weights, write_weights
from jaxssl.reporting.curves import main_charts
from jaxssl.reporting.page import draw_masks
from jaxssl.reporting.run_arrays import RunArrays
from jaxssl.reporting.runs import group_runs, read_run
from jaxssl.reporting.tables import machine_table, result_tables
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.training.results import accuracy_table, read_results
from jaxssl.training.workdir import check_images


def of_run(tmp, name):
    write_run(tmp)

    def read():
        groups = group_runs([read_run(tmp)])
        build_method(groups[0].first.config)
        main_charts(groups), result_tables(groups), machine_table(groups)
        accuracy_table([tmp]), read_results(tmp, 3)
        if name == "environment.json":
            check_images(tmp, base(), open_source("scenes:10"))

    return Kind(tmp / name, read, damage_lines if name.endswith("l") else damage_json)


def of_weights(tmp, ending):
    path = tmp / f"w.{ending}"
    arrays = {"a.b": np.ones((3, 2), np.float32), "c": np.arange(4)}
    if ending == "safetensors":
        write_weights(path, arrays, {"step": "3"})
    elif ending == "npz":
        np.savez(path, **arrays)
    else:
        tree = {"model": {k: torch.tensor(v) for k, v in arrays.items()}, "epoch": 3}
        torch.save(tree, path, _use_new_zipfile_serialization=ending == "pth")
    zipped = ending in ("pth", "npz")
    return Kind(path, lambda: read_weights(path), damage_zip if zipped else damage_bytes)


def of_header(tmp):
    """A safetensors file whose header says something else of what follows."""
    path = tmp / "w.safetensors"
    write_weights(path, {"a.b": np.ones((3, 2), np.float32), "c": np.arange(4)}, {"step": "3"})

    def damage(written, rng):
        end = 8 + int.from_bytes(written[:8], "little")
        header = damage_json(written[8:end], rng)
        size = rng.choice([len(header)] * 5 + [0, 2**32, 2**63])
        return size.to_bytes(8, "little") + header + written[end:]

    return Kind(path, lambda: read_weights(path), damage)


def of_predictions(tmp):
    """The maps that a page shows."""
    write_run(tmp)
    path = tmp / "predictions" / "d_segmentation.npz"
    path.parent.mkdir()
    maps = {name: np.zeros((2, 6, 7), np.uint8) for name in ("truth", "predicted")}
    np.savez_compressed(path, image=np.zeros((2, 6, 7, 3), np.uint8), **maps)
    return Kind(path, lambda: draw_masks(RunArrays(read_run(tmp)), ""), damage_zip)


def of_encoder(tmp):
    """What `jaxssl.export` writes, damaged in what it says of the encoder."""
    path, config = tmp / "w.safetensors", base()
    config.encoder.width, config.views.size = 1 / 64, 32
    shapes = variable_shapes(build_method(config)[1], 32)
    arrays = to_flax(jax.tree.map(lambda shape: np.ones(shape.shape, np.float32), shapes))
    metadata = file_metadata(config, "flax", 3).texts()
    write_weights(path, arrays, metadata)

    def damage(_, rng):
        key = rng.choice(["encoder", "preprocessing", "step"])
        changed = damage_json(metadata[key].encode(), rng).decode(errors="replace")
        write_weights(path, arrays, metadata | {key: changed})
        return path.read_bytes()

    return Kind(path, lambda: load_encoder(path).size, damage)


def of_checkpoint(tmp):
    """The newest of two with the same numbers, one of its files damaged."""
    state = {"a": np.arange(5000.0, dtype=np.float32), "b": np.arange(3)}
    with Checkpoints(tmp / "checkpoints", 2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state, state)
    files = [path for path in (tmp / "checkpoints" / "2").rglob("*") if path.is_file()]
    kept = {path: path.read_bytes() for path in sorted(files)}

    def damage(written, rng):
        for path, content in kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        path = rng.choice(list(kept))
        if rng.random() < 0.2:
            path.unlink()
        elif rng.random() < 0.2:
            shutil.rmtree(path.parent)
        else:
            path.write_bytes(damage_bytes(kept[path], rng))
        return written

    def read():
        with Checkpoints(tmp / "checkpoints", read_only=True) as checkpoints:
            return [x.tobytes() for x in checkpoints.restore("state", state).values()]

    (tmp / "other").write_text("a file that stays as it is")
    return Kind(tmp / "other", read, damage, exact=True)


KINDS = {
    **{name: lambda tmp, name=name: of_run(tmp, name)
       for name in ("config.json", "environment.json", "eval.json", "metrics.jsonl")},
    **{f"weights {end}": lambda tmp, end=end: of_weights(tmp, end)
       for end in ("safetensors", "npz", "pth", "old")},
    "header": of_header, "predictions": of_predictions, "encoder": of_encoder,
    "checkpoint": of_checkpoint,
}  # fmt: skip


test_damage_is_named_or_does_no_harm = make_test(KINDS)
