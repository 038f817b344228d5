"""Encoders with a head, to be fine-tuned: class scores, or a prediction for every pixel.

Classifier a linear layer on pooled features
LinearHead a 1x1 convolution, with or without batch norm and dropout before it
FcnHead    fully convolutional network (Long et al., arXiv 1411.4038), as in MoCo's transfer
           to PASCAL VOC and Cityscapes (arXiv 1911.05722, appendix), which DetCon follows
PetsHead   "Improving Pixel-Wise Segmentation with Contrastive Pre-Training" (Jappert), with
           the sizes of its code, maxjappert/pet_segmentation
DepthHead  up-projections (Laina et al., arXiv 1606.00373), which DetCon's depth follows
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxssl.models.heads import torch_uniform
from jaxssl.models.padded import cells_of, resize_within, within

_HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Dense(nn.Module):
    """Normalized images to f32[b, h, w, k]: the output of the head on the grid, resized bilinearly.

    Images that are padded to one shape come with `hw`, height and width of each, and `shape`, that
    of the padded result; this is resized to `out`, of each.
    """

    encoder: nn.Module
    head: nn.Module
    frozen: bool = False  # the encoder stays as it is, its batch norm with the statistics it has
    size: int = 0  # side of the result of images that are not padded; 0: that of the images

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w 3"],
        train: bool,
        hw: Int[Array, "b 2"] | None = None,
        out: Int[Array, "b 2"] | None = None,
        shape: tuple[int, int] = (0, 0),
    ) -> Float[Array, "b i j k"]:
        with within(hw, images.shape[1:3]):
            grid = self.encoder(images, train and not self.frozen).grid
        grid = jax.lax.stop_gradient(grid) if self.frozen else grid
        cells = None if hw is None else cells_of(hw, images.shape[1:3], grid.shape[1:3])
        with within(cells, grid.shape[1:3]):
            y = self.head(grid, train)
        if cells is None or out is None:
            side = (self.size, self.size) if self.size else images.shape[1:3]
            return jax.image.resize(y, (len(y), *side, y.shape[-1]), "bilinear")
        cells = cells_of(cells, grid.shape[1:3], y.shape[1:3])
        return resize_within(y.astype(jnp.float32), cells, out, shape)


class Classifier(nn.Module):
    """Normalized images to scores f32[b, k]: a linear layer on pooled features, at first zero."""

    encoder: nn.Module
    classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b s s 3"], train: bool) -> Float[Array, "b k"]:
        head = nn.Dense(self.classes, kernel_init=nn.initializers.zeros)
        scores: Array = head(self.encoder(images, train).pooled.astype(jnp.float32))
        return scores


class LinearHead(nn.Module):
    """Dropout of whole channels, batch norm and a 1x1 convolution, as DINOv3's linear probe."""

    classes: int
    batch_norm: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], train: bool) -> Float[Array, "b h w k"]:
        x = x.astype(jnp.float32)
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        if self.batch_norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Conv(self.classes, (1, 1), kernel_init=nn.initializers.normal(0.01))(x)


class FcnHead(nn.Module):
    """3x3 convolutions with batch norm, ReLU and dropout, then a 1x1 convolution to the classes.

    One convolution and dropout of 0.1 is the usual head of FCNs; two, dilated, are MoCo's.
    """

    classes: int
    convs: int = 2
    channels: int = 256
    dilation: int = 6
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], train: bool) -> Float[Array, "b h w k"]:
        for _ in range(self.convs):
            x = nn.Conv(
                self.channels,
                (3, 3),
                padding=self.dilation,
                kernel_dilation=self.dilation,
                use_bias=False,
                kernel_init=_HE,
            )(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Conv(self.classes, (1, 1), kernel_init=nn.initializers.normal(0.01))(x)


class PetsHead(nn.Module):
    """Five 3x3 convolutions; the grid is doubled after each of three, then brought to full size.

    Args:
      input: "map" gives it the grid. The paper's code pools the grid to one cell first ("gap"), so
        that all it knows of place is gone.
      size: side of the images, pixels.
    """

    classes: int
    size: int
    input: str = "map"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], train: bool) -> Float[Array, "b s s k"]:
        x = x if self.input == "map" else x.mean(axis=(1, 2), keepdims=True)
        for channels in (256, 128, 64, 32):
            x = nn.relu(self._conv(channels, x))
            x = upsample(x, 2 * x.shape[1] if channels > 32 else self.size)
        return self._conv(self.classes, x)

    def _conv(self, channels: int, x: Array) -> Array:
        init = torch_uniform(fan_in=9 * x.shape[-1])
        return nn.Conv(channels, (3, 3), padding=1, kernel_init=init, bias_init=init)(x)


def upsample(x: Float[Array, "b h w d"], side: int) -> Float[Array, "b {side} {side} d"]:
    """Bilinear, the centers of corner cells on those of corner pixels (torch: align_corners)."""
    for axis in (1, 2):
        cells = x.shape[axis]
        position = np.linspace(0, cells - 1, side, dtype=np.float32)[:, None]
        weights = np.maximum(1 - np.abs(position - np.arange(cells)[None, :]), 0)
        x = jnp.moveaxis(jnp.tensordot(weights, x, (1, axis)), 0, axis)
    return x


class DepthHead(nn.Module):
    """Four up-projections, each of twice the side and half the channels; then meters."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], train: bool) -> Float[Array, "b i j 1"]:
        channels = x.shape[-1] // 2
        x = nn.Conv(channels, (1, 1), use_bias=False, kernel_init=_HE)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        for _ in range(4):
            channels = max(channels // 2, 1)
            x = UpProjection(channels)(x, train)
        return nn.Conv(1, (3, 3))(x)


class UpProjection(nn.Module):
    """A residual block that doubles the grid: Laina et al., figure 2 (c).

    Its unpooling puts zeros between the cells; a 5x5 convolution after that is a transposed one.
    """

    channels: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], train: bool) -> Float[Array, "b i j k"]:
        def batch_norm(y: Array) -> Array:
            return nn.BatchNorm(use_running_average=not train, momentum=0.9)(y)

        def unpool(y: Array) -> Array:
            return nn.ConvTranspose(self.channels, (5, 5), strides=(2, 2), use_bias=False)(y)

        y = nn.relu(batch_norm(unpool(x)))
        y = batch_norm(nn.Conv(self.channels, (3, 3), use_bias=False)(y))
        return nn.relu(y + batch_norm(unpool(x)))
