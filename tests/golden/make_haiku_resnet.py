"""Writes haiku_resnet.npz: names of Haiku's ResNet and its features on random images and weights.

pip install dm-haiku "jax[cpu]" numpy && python tests/golden/make_haiku_resnet.py

It is the network of google-deepmind/detcon and of BYOL, with one block in each of its four groups.
Weights and images are not stored: the test draws them again, from here.
"""

import pathlib

import numpy as np


def draw_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random parameters and averages, in order of their names: f32 each."""
    rng = np.random.default_rng(0)
    weights = {}
    for name in sorted(shapes):
        shape, leaf = shapes[name], name.rpartition("/")[2]
        if leaf == "w":
            scale = np.float32(np.sqrt(2 / np.prod(shape[:3])))
            weights[name] = scale * rng.standard_normal(shape, np.float32)
        elif leaf == "scale" or "var_ema" in name:
            weights[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        else:  # offset, mean
            weights[name] = rng.normal(0, 0.1, shape).astype(np.float32)
    return weights


def draw_images() -> np.ndarray:
    """Two normalized images: f32[2, 64, 48, 3]."""
    return np.random.default_rng(1).standard_normal((2, 64, 48, 3), np.float32)


def main() -> None:
    import haiku as hk
    import jax

    def network(images: jax.Array, is_training: bool) -> jax.Array:
        net = hk.nets.ResNet((1, 1, 1, 1), 10, bn_config={"decay_rate": 0.9}, name="res_net50")
        net.logits = lambda pooled: pooled
        return net(images, is_training)

    net, images = hk.transform_with_state(network), draw_images()
    init = net.init(jax.random.key(0), images, True)
    nested = {"params": init[0], "state": init[1]}
    shapes = {
        f"{kind}/{module}/{leaf}": array.shape
        for kind, modules in nested.items()
        for module, leaves in modules.items()
        for leaf, array in leaves.items()
    }
    weights = draw_weights(shapes)
    params, state = (
        {m: {leaf: weights[f"{kind}/{m}/{leaf}"] for leaf in leaves} for m, leaves in mods.items()}
        for kind, mods in nested.items()
    )
    with jax.default_matmul_precision("float32"):
        pooled, _ = net.apply(params, state, None, images, False)
    names, sizes = list(shapes), [",".join(map(str, s)) for s in shapes.values()]
    print(f"{len(names)} names, features {pooled.shape} up to {abs(pooled).max():.3f}")
    np.savez_compressed(
        pathlib.Path(__file__).parent / "haiku_resnet.npz",
        names=np.array(names),
        shapes=np.array(sizes),
        pooled=np.asarray(pooled),
    )


if __name__ == "__main__":
    main()
