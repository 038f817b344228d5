"""Random weights, by kNN and a linear probe: what the networks of `regions.py` start from.

    python benchmarks/untrained.py --methods moco simsiam detcon_s --seeds 401 402 403

Batch norm starts with a mean of 0 and a variance of 1, and a trained network has those of its
training images, which are scenes, where the probes see images of one object. Both are measured: as
it starts, and after an epoch at a learning rate of 1e-12, which moves nothing but these statistics.
"""

import argparse
import dataclasses
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp

import jaxssl
from jaxssl import sharding
from jaxssl.evaluation.run import plan, run_tasks
from jaxssl.pretrained.encoder import Encoder
from jaxssl.training.results import restore_encoder
from jaxssl.training.workdir import environment

STILL = ("epochs=1", "optim.warmup_epochs=0.5", "optim.lr=1e-12", "eval.every=0", "eval.health=0")


def with_first_statistics(encoder: Encoder) -> Encoder:
    """The encoder with the statistics with which batch norm starts."""

    def first(path: tuple[object, ...], leaf: jax.Array) -> jax.Array:
        is_mean = jax.tree_util.keystr(path).endswith("['mean']")
        return (jnp.zeros_like if is_mean else jnp.ones_like)(leaf)

    stats = jax.tree_util.tree_map_with_path(first, encoder.variables["batch_stats"])
    return dataclasses.replace(encoder, variables=encoder.variables | {"batch_stats": stats})


def measure(method: str, seed: int, folder: pathlib.Path) -> list[dict[str, object]]:
    """The accuracies of the method's encoder before training, with both kinds of statistics."""
    words = [f"--config.{word}" for word in (*STILL, f"seed={seed}")]
    config = jaxssl.load_config(f"configs/quickstart.py:{method}", words)
    jaxssl.pretrain(config, folder)
    after, _ = restore_encoder(config, folder, sharding.make_mesh())
    pairs = plan(config, ["knn", "linear"], (), (), from_scratch=False)
    rows = []
    for statistics, encoder in (("first", with_first_statistics(after)), ("of an epoch", after)):
        results = {r.task: r.result.results["top1"] for r in run_tasks(encoder, pairs, range(1))}
        rows.append({"method": method, "seed": seed, "statistics": statistics, **results})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", nargs="+", default=["moco", "simsiam"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[401, 402, 403])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("untrained.json"))
    args = parser.parse_args()
    rows: list[dict[str, object]] = []
    for method in args.methods:
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                rows += measure(method, seed, pathlib.Path(folder))
            found = {"machine": environment(), "runs": rows}
            args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
