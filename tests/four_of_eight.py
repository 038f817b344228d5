"""One of the two processes of `test_collectives.py`, with four devices of eight.

    python four_of_eight.py PROCESS_ID PORT FILE

Computes what `values` does, with both, and leaves it in the file.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxssl import distributed, sharding
from jaxssl.losses import contrastive

ROWS = 64


def step(weights, queue, images, number):
    """A batch norm, a loss in blocks of rows and its gradient, keys that join a queue."""
    spread = images.std(axis=0, keepdims=True) + 1e-3
    normed = (images - images.mean(axis=0, keepdims=True)) / spread

    def loss(weights):
        z = normed @ weights
        image = jnp.arange(ROWS) // 2
        return contrastive(z, z, image, jnp.arange(ROWS) % 2, 0.3, max_entries=ROWS * 4)

    value, gradient = jax.value_and_grad(loss)(weights)
    queue = jax.lax.dynamic_update_slice(queue, normed, (ROWS * number, 0))
    return {"loss": value, "gradient": gradient, "queue": queue}


def values(mesh: Mesh):
    """What the step gives on a mesh; each process gives its rows of the images."""
    rng = np.random.default_rng(0)
    weights, queue = rng.normal(size=(6, 5)), np.zeros((2 * ROWS, 6))
    images = np.float32(rng.normal(size=(ROWS, 6)))
    index, count = sharding.share()
    own = np.split(images, count)[index]
    same, rows = sharding.replicated(mesh), NamedSharding(mesh, PartitionSpec("data"))

    def on_mesh(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return step(*args)

    jitted = jax.jit(on_mesh, in_shardings=(same, same, rows, same), out_shardings=same)
    small = sharding.replicate((np.float32(weights), np.float32(queue), np.int32(1)), mesh)
    args = (*small[:2], sharding.make_global_batch(own, mesh), small[2])
    return jitted.lower(*args).compile().as_text(), jax.device_get(jitted(*args))


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 4)
    process, port, file = sys.argv[1:]
    distributed.initialize(f"localhost:{port}", 2, int(process))
    np.savez(file, **values(sharding.make_mesh())[1])
