"""Vision Transformer (Dosovitskiy et al., arXiv 2010.11929), as DINO (arXiv 2104.14294) trains it.

Layers and names are those of timm and of facebookresearch/dino, so that their weights fit:
`blocks.0.attn.qkv.weight` there is `blocks_0/attn/qkv/kernel` here, `patch_embed.proj` is
`patch_embed`, and `cls_token`, `pos_embed` and `norm` have kept their names. Initial values are
DINO's, but for a bias of 0 in `patch_embed`. It draws from torch's `trunc_normal_`, which cuts at
+-2: a hundred deviations away.

Images of another size than `image_size` get positional embeddings resized as `pos_resize` says:

- `plain`: torch's `interpolate(mode="bicubic", align_corners=False, size=...)`, as transformers
  does for DINOv2 without registers;
- `offset`: DINO and DINOv2 add 0.1 to the size that they scale to, against rounding in torch, which
  shifts the last row of a local view by a fifth of a patch;
- `antialias`: `interpolate(..., antialias=True)`, as DINOv2 with registers, and timm.

DINOv2 (arXiv 2304.07193) scales each branch by a vector (`layer_scale`), and with `registers`
(arXiv 2309.16588) has tokens between the class token and the patches that are no part of the grid.

Stochastic depth (Huang et al., arXiv 1603.09382) is DINO's: each of a block's two branches is left
out for an image at random, with a probability that rises evenly from 0 in the first block to
`drop_path` in the last. It is drawn where the caller of `apply` gives `rngs={"drop_path": key}`: a
student's pass in pre-training. `train` changes nothing else here.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxssl.errors import UserError, check_choice, check_range
from jaxssl.types import Features

_NORMAL = nn.initializers.normal(0.02)
_REGISTERS = nn.initializers.normal(1e-6)
_TORCH_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # +-1/sqrt(fan_in)


class Attention(nn.Module):
    """Self-attention of several heads; the softmax is float32 whatever the dtype."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        b, n, d = x.shape
        qkv = nn.Dense(3 * d, kernel_init=_NORMAL, dtype=self.dtype, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(b, n, 3, self.heads, d // self.heads), 2, 0)
        y = jax.nn.dot_product_attention(q, k, v).reshape(b, n, d)
        return nn.Dense(d, kernel_init=_NORMAL, dtype=self.dtype, name="proj")(y)


class Mlp(nn.Module):
    """Two layers with the exact GELU between them, on each token."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        d = x.shape[-1]
        x = nn.Dense(4 * d, kernel_init=_NORMAL, dtype=self.dtype, name="fc1")(x)
        x = nn.gelu(x, approximate=False)
        return nn.Dense(d, kernel_init=_NORMAL, dtype=self.dtype, name="fc2")(x)


class LayerScale(nn.Module):
    """A factor for each dimension (arXiv 2103.17239)."""

    factor: float  # at first

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        gamma = self.param("gamma", nn.initializers.constant(self.factor), (x.shape[2],))
        return x * gamma.astype(x.dtype)[None, None]


class Block(nn.Module):
    """Attention, then the MLP: each on the normed tokens, and added to them."""

    heads: int
    dtype: Any
    drop: float  # probability of leaving a branch out
    layer_scale: float = 0.0  # by which a branch is multiplied at first; 0: it is not

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm1")(x)
        x = x + self._keep(self._scaled("ls1", Attention(self.heads, self.dtype, name="attn")(y)))
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm2")(x)
        return x + self._keep(self._scaled("ls2", Mlp(self.dtype, name="mlp")(y)))

    def _scaled(self, name: str, branch: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return LayerScale(self.layer_scale, name=name)(branch) if self.layer_scale else branch

    def _keep(self, branch: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """The branch of each image, or 0; the same on average as with none left out."""
        if self.drop == 0 or not self.has_rng("drop_path"):
            return branch
        kept = jax.random.bernoulli(self.make_rng("drop_path"), 1 - self.drop, (len(branch), 1, 1))
        return jnp.where(kept, branch / (1 - self.drop), 0)


class ViT(nn.Module):
    """Normalized images to `Features` of d = `dim`: the patches' tokens are the grid."""

    dim: int
    depth: int
    heads: int
    patch: int = 16  # side, pixels
    image_size: int = 224  # side of images whose patches each have their own positional embedding
    drop_path: float = 0.0  # probability of leaving a branch of the last block out; DINO: 0.1
    layer_scale: float = 0.0  # first factors of a block's branches; 0: none; DINOv2: 1e-5
    registers: int = 0  # tokens besides the class token and the patches; DINOv2: 0 or 4
    pos_resize: str = "plain"  # how positional embeddings are resized: plain | offset | antialias
    pool: str = "cls"  # what `pooled` is: the class token's output | "mean": that of the grid
    dtype: Any = jnp.float32  # of the computation; parameters, norms and softmax are float32
    remat: bool = False  # recompute the inside of blocks in the backward pass

    def __post_init__(self) -> None:
        check_choice("encoder.pool", self.pool, ("cls", "mean"))
        check_choice("encoder.pos_resize", self.pos_resize, ("plain", "offset", "antialias"))
        check_range("encoder.registers", self.registers, "0 or more")
        check_range("encoder.layer_scale", self.layer_scale, "0 or more")
        check_range("encoder.drop_path", self.drop_path, "in [0, 1)")
        if not 1 <= self.patch <= self.image_size or self.image_size % self.patch:
            raise UserError(
                f"encoder.image_size {self.image_size} does not divide into patches of "
                f"{self.patch}; take a multiple of encoder.patch"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"], train: bool) -> Features:
        _, height, width, _ = images.shape
        if min(height, width) < 1 or height % self.patch or width % self.patch:
            raise UserError(
                f"images of {height} x {width} pixels do not divide into patches of {self.patch}; "
                f"take a multiple of {self.patch}, in an evaluation as --size"
            )
        x = nn.Conv(
            self.dim,
            (self.patch, self.patch),
            strides=self.patch,
            kernel_init=_TORCH_UNIFORM,
            dtype=self.dtype,
            name="patch_embed",
        )(images)
        b, h, w, d = x.shape
        side = self.image_size // self.patch
        cls_token = self.param("cls_token", _NORMAL, (1, 1, d))
        pos_embed = self.param("pos_embed", _NORMAL, (1, 1 + side**2, d))
        first = jnp.broadcast_to(cls_token.astype(self.dtype), (b, 1, d))
        x = jnp.concatenate([first, x.reshape(b, h * w, d)], axis=1)
        x = x + _resize(pos_embed, h, w, self.pos_resize).astype(self.dtype)
        if self.registers:
            tokens = self.param("reg_token", _REGISTERS, (1, self.registers, d)).astype(self.dtype)
            tokens = jnp.broadcast_to(tokens, (b, self.registers, d))
            x = jnp.concatenate([x[:, :1], tokens, x[:, 1:]], axis=1)
        block = nn.remat(Block) if self.remat else Block
        for i in range(self.depth):
            drop = self.drop_path * i / max(self.depth - 1, 1)
            x = block(self.heads, self.dtype, drop, self.layer_scale, name=f"blocks_{i}")(x)
        x = nn.LayerNorm(epsilon=1e-6, name="norm")(x)
        grid = x[:, 1 + self.registers :].reshape(b, h, w, d)
        return Features(grid, pooled=x[:, 0] if self.pool == "cls" else grid.mean(axis=(1, 2)))


def _resize(pos_embed: Float[Array, "1 n d"], h: int, w: int, how: str) -> Float[Array, "1 m d"]:
    """Positional embeddings for a grid of `h` x `w` patches, from those for a square one.

    The first is the class token's and stays as it is.

    Args:
      pos_embed: of the class token and the square grid.
      h: rows of patches.
      w: patches of a row.
      how: `ViT.pos_resize`.
    """
    side = round((pos_embed.shape[1] - 1) ** 0.5)
    if (h, w) == (side, side):
        return pos_embed
    square = pos_embed[0, 1:].reshape(side, side, -1)
    # Full float32, as in `boxes.crop`: it costs nothing beside a network.
    rows, columns = (_weights(side, size, how) for size in (h, w))
    resized = jnp.einsum("ih,jw,hwd->ijd", rows, columns, square, precision="highest")
    return jnp.concatenate([pos_embed[:, :1], resized.reshape(1, h * w, -1)], axis=1)


def _weights(length: int, size: int, how: str) -> Float[np.ndarray, "{size} {length}"]:
    """Row i: the weights of `length` points in point i of `size`.

    Keys's cubic about the four nearest points, with a = -3/4; those outside count for the border.
    Antialiased, with a = -1/2, it is as much wider as points are further apart, and those outside
    do not count.
    """
    zoom = length / (size + (0.1 if how == "offset" else 0.0))
    center = (np.arange(size)[:, None] + 0.5) * zoom - 0.5
    if how == "antialias":
        weights = _cubic((center - np.arange(length)[None]) / max(zoom, 1.0), -0.5)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    points = np.floor(center) + np.arange(-1, 3)[None]  # [size, 4]
    weights = np.zeros((size, length), np.float32)
    nearest = points.clip(0, length - 1).astype(int)
    np.add.at(weights, (np.arange(size)[:, None], nearest), _cubic(center - points, -0.75))
    return weights


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys's kernel: 1 at 0, and 0 at all other whole numbers and from 2 on."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
