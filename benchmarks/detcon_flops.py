"""What regions cost: FLOPs of a training step of DetCon against the method that it extends.

    python benchmarks/detcon_flops.py

DetCon_S against SimCLR and DetCon_B against BYOL, with the same heads, on two views of 224 pixels
through a ResNet-50. The paper (arXiv 2103.10957, section 3.1) reports 5.3 % and 11.6 % more.

Nothing runs or compiles: XLA counts the FLOPs of the lowered step, views and optimizer included, at
three small batches b. The count is c + n b + s b^2: the network's part grows with the batch, that
of the similarities of all regions with its square. So the three give it for any batch; but where
`losses.contrastive` works in blocks of rows, it computes these similarities once more for the
gradient (four products of matrices, not three), which is not counted here.
"""

import argparse
import dataclasses
import functools

import jax
import numpy as np

from jaxssl.config import base, build_method, defaults
from jaxssl.data.canvas import CanvasSpec
from jaxssl.methods import METHODS
from jaxssl.terminal import format_table
from jaxssl.training.step import make_train_step

COUNTED = (4, 8, 16)  # batches: small enough that the loss is computed in one block
PAIRS = (("simclr", "detcon_s", 2048, 128), ("byol", "detcon_b", 4096, 256))


def flops(name: str, batch_size: int, args: argparse.Namespace, head: dict) -> float:
    """Of one training step."""
    config = base()
    config.encoder = defaults("encoder", args.encoder)
    fields = {field.name for field in dataclasses.fields(METHODS[name])}
    config.method = defaults("method", name, **{k: v for k, v in head.items() if k in fields})
    config.optim = defaults("optim", "lars", warmup_epochs=0.0)
    config.batch_size, config.epochs, config.views.size = batch_size, 10, args.size
    method, _ = build_method(config)
    step = make_train_step(config, method, steps_per_epoch=100)
    spec = CanvasSpec(256 * 256, (args.size, args.size), planes=1 if method.needs_regions else 0)
    arrays = spec.arrays() | {"index": ((), np.dtype(np.int32))}
    batch = {k: jax.ShapeDtypeStruct((batch_size, *s), t) for k, (s, t) in arrays.items()}
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(functools.partial(step.init, num_examples=1000), key, batch)
    return jax.jit(step).lower(state, batch, key).cost_analysis()["flops"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 256, 1024, 2048, 4096])
    args = parser.parse_args()
    table = [["batch", "method", "GFLOP an image", "on regions", "GFLOP an image", "more"]]
    powers = np.vander(COUNTED, 3)
    for plain, regional, hidden, dim in PAIRS:
        if plain not in METHODS:
            print(f"there is no method {plain}: {regional} is left out")
            continue
        head = {"hidden": (hidden,), "dim": dim, "final_batch_norm": "none"}
        fits = {
            name: np.linalg.solve(powers, [flops(name, b, args, head) for b in COUNTED])
            for name in (plain, regional)
        }
        for b in args.batches:
            per_image = {name: np.polyval(fit, b) / b / 1e9 for name, fit in fits.items()}
            more = per_image[regional] / per_image[plain] - 1
            cells = [f"{per_image[name]:.2f}" for name in (plain, regional)]
            table.append([str(b), plain, cells[0], regional, cells[1], f"{more:+.1%}"])
    print(format_table(table))


if __name__ == "__main__":
    main()
