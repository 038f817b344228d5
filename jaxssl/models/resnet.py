"""ResNet (He et al., arXiv 1512.03385), with the stride in the 3x3 convolution ("v1.5").

Layers, paddings and names are torchvision's, so that its weights fit: `layer1.0.conv1.weight` there
is `layer1_0/conv1/kernel` here, and `layer1.0.downsample.0` and `.1` are
`layer1_0/downsample_conv` and `layer1_0/downsample_bn`. One thing differs in training: the running
variance is that of the batch in Flax and unbiased in torch, n / (n - 1) times as large.

With `padding="same"` it is Haiku's, of which BYOL and DetCon released weights: where a layer halves
an even side it pads at the end only, so that its features lie up to a pixel of its input off.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from jaxssl.errors import UserError, check_choice, check_range
from jaxssl.models.cpu_gradients import convolve, max_pool
from jaxssl.types import Features

MAX_CHANNELS = 64 * 64  # of the stem; the last layer of a bottleneck has 32 times as many
# Residual blocks per stage. From 50 layers on they are bottlenecks.
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
NARROW = "narrow"  # name of the results of all convolutions of a block but the last


def _conv(
    channels: int,
    kernel: int,
    stride: int,
    dilation: int = 1,
    *,
    padding: str,
    dtype: Any,
    name: str,
) -> nn.Conv:
    """A convolution without bias, padded by the same on all sides or as XLA's "SAME"."""
    return nn.Conv(
        channels,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2 * dilation if padding == "torch" else "SAME",
        kernel_dilation=dilation,
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        name=name,
        conv_general_dilated=convolve,
    )


def _batch_norm(train: bool, *, dtype: Any, name: str, zero: bool = False) -> nn.BatchNorm:
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        scale_init=nn.initializers.zeros if zero else nn.initializers.ones,
        dtype=dtype,
        name=name,
    )


def _narrow_or_summed(primitive: Any, *_: Any, **params: Any) -> Any:
    """Whether `remat_expansions` keeps a value: narrow convolutions, and sums of batch norm.

    Were the sums made again, devices would have to send each other theirs once more.
    """
    by_name = jax.checkpoint_policies.save_only_these_names(NARROW)
    return primitive.name == "reduce_sum" or by_name(primitive, *_, **params)


class Block(nn.Module):
    """A residual block: two 3x3 convolutions, or 1x1, 3x3 and 1x1 with four times the channels."""

    channels: int
    stride: int
    bottleneck: bool
    zero_init: bool
    padding: str
    dtype: Any
    dilation: tuple[int, int] = (1, 1)  # of the 3x3 convolution with the stride, of the other

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], train: bool) -> Float[Array, "b i j k"]:
        conv = functools.partial(_conv, padding=self.padding, dtype=self.dtype)
        batch_norm = functools.partial(_batch_norm, train, dtype=self.dtype)
        strided, other = self.dilation
        layers = [(self.channels, 3, self.stride, strided), (self.channels, 3, 1, other)]
        if self.bottleneck:
            layers = [(self.channels, 1, 1, 1), layers[0], (4 * self.channels, 1, 1, 1)]
        y = x
        for i, layer in enumerate(layers, start=1):
            is_last = i == len(layers)
            y = conv(*layer, name=f"conv{i}")(y)
            y = y if is_last else checkpoint_name(y, NARROW)
            y = batch_norm(name=f"bn{i}", zero=is_last and self.zero_init)(y)
            y = y if is_last else nn.relu(y)
        if x.shape != y.shape:
            x = conv(y.shape[-1], 1, self.stride, name="downsample_conv")(x)
            x = batch_norm(name="downsample_bn")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Normalized images to `Features` of d = 512 (from depth 50: 2048) x `width` channels.

    The grid has a 32nd of the image's side, rounded up; with the stem "cifar" an 8th. With
    `dilated_stages` the last stages do not halve it: what follows is dilated instead, so that the
    same weights see the same surroundings, at more places. (Where MoCo segments, arXiv 1911.05722,
    the first convolution of the stage is dilated too.)
    """

    depth: int = 18  # one of `BLOCKS`
    width: float = 1.0  # factor on the channels of every layer, the stem's too (as in SimCLR)
    stem: str = "imagenet"  # 7x7 with stride 2, then max pooling | "cifar": 3x3 with stride 1
    dilated_stages: int = 0  # 1: the grid has twice the side | 2: four times
    padding: str = "torch"  # by the same on all sides | "same": XLA's
    zero_init: bool = False  # the last scale of every block starts at 0: arXiv 1706.02677, 5.1
    dtype: Any = jnp.float32  # of the computation; parameters and statistics are float32
    remat: bool = False  # recompute the inside of blocks in the backward pass
    # Of blocks, recompute all but the narrow convolutions, which a bottleneck has first
    remat_expansions: bool = False

    def __post_init__(self) -> None:
        check_choice("the depth of a ResNet", self.depth, BLOCKS)
        check_choice("encoder.stem", self.stem, ("imagenet", "cifar"))
        check_choice("encoder.padding", self.padding, ("torch", "same"))
        if not 1 <= round(64 * min(self.width, 1e9)) <= MAX_CHANNELS:
            raise UserError(
                f"encoder.width is {self.width}; give a factor from 1/64, which leaves one "
                f"channel, to {MAX_CHANNELS // 64}"
            )
        check_range("encoder.dilated_stages", self.dilated_stages, "from 0 to 3")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"], train: bool) -> Features:
        _, height, width, _ = images.shape
        if height * width == 0:  # the only size too small, thanks to the padding
            raise UserError(f"images of {height} x {width} pixels; check views.size")
        stem, block = ResNet._stem, Block
        if self.remat or self.remat_expansions:
            remat = functools.partial(nn.remat, static_argnums=(2,))
            stem = remat(stem, policy=_narrow_or_summed)
            block = remat(Block, policy=None if self.remat else _narrow_or_summed)
        channels = round(64 * self.width)
        x = stem(self, images, train)
        for stage, blocks in enumerate(BLOCKS[self.depth]):
            dilation = 2 ** max(0, stage + self.dilated_stages - 3)
            before = max(1, dilation // 2)  # what had the stride sees cells as they were before
            for i in range(blocks):
                x = block(
                    channels=channels * 2**stage,
                    stride=2 if stage > 0 and i == 0 and dilation == 1 else 1,
                    bottleneck=self.depth >= 50,
                    zero_init=self.zero_init,
                    padding=self.padding,
                    dtype=self.dtype,
                    dilation=(before if i == 0 else dilation, dilation),
                    name=f"layer{stage + 1}_{i}",
                )(x, train)
        grid = x.astype(jnp.float32)  # averaged after the cast: bfloat16 sums lose digits
        return Features(grid=grid, pooled=jnp.mean(grid, axis=(1, 2)))

    def _stem(self, images: Float[Array, "b h w 3"], train: bool) -> Float[Array, "b i j k"]:
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        conv = functools.partial(_conv, padding=self.padding, dtype=self.dtype)
        x = conv(round(64 * self.width), kernel, stride, name="conv1")(images)
        x = checkpoint_name(x, NARROW)
        x = nn.relu(_batch_norm(train, dtype=self.dtype, name="bn1")(x))
        if self.stem == "cifar":
            return x
        return max_pool(x, ((1, 1), (1, 1)) if self.padding == "torch" else "SAME")
