"""Encoders from runs and from files of weights: to compute features with, or to start from.

    encoder = jaxssl.load_encoder("resnet18.safetensors")
    features = encoder(images)   # u8[b, h, w, 3] to f32[b, d]
    grid = encoder.grid(images)  # f32[b, h', w', d]

`python -m jaxssl.export` writes such files. Their metadata says what the encoder is and how its
images are prepared. Of files of others the encoder is found by its tensors.
"""

import collections
import dataclasses
import functools
import logging
import math
import os
import pathlib
from collections.abc import Callable, Hashable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Shaped, UInt8
from ml_collections import ConfigDict
from numpy.typing import ArrayLike, DTypeLike

from jaxssl import sharding
from jaxssl.checked_files import naming_damage
from jaxssl.config import build, defaults
from jaxssl.errors import PartError, UserError, check_choice
from jaxssl.files import temporary_file
from jaxssl.image import augment
from jaxssl.models import variable_shapes
from jaxssl.pretrained.architecture import (
    FLOAT32,
    describe,
    differing_options,
    find_architecture,
    is_moco_v3,
)
from jaxssl.pretrained.metadata import AGAIN, Metadata, parse_metadata, preprocessing_of
from jaxssl.pretrained.param_names import Loaded, from_tensors
from jaxssl.pretrained.weight_files import Weights, read_weights
from jaxssl.progress import Progress
from jaxssl.types import Tree

# What is said of a file of others that does not tell how positional embeddings are resized.
IN_MEMORY = 2**30  # bytes that features may take
# What may be asked of a network: of an encoder, or of one with a head.
OUTPUTS: dict[str, Callable[[Any], Array]] = {
    "pooled": lambda features: features.pooled,
    "grid": lambda features: features.grid,
    "scores": lambda scores: scores,  # [b, ..., k]
    "class": lambda scores: scores.argmax(axis=-1).astype(jnp.uint8),
}

log = logging.getLogger("jaxssl")


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A frozen encoder with its variables, on all devices."""

    network: nn.Module
    variables: Tree = dataclasses.field(repr=False)
    normalization: str  # a name in `augment.NORMALIZE`
    mesh: Mesh
    batch_size: int = 256  # images at once
    show: bool = True  # whether to show how far long work is
    size: int = 0  # side of the images that it was evaluated on, pixels; none is resized
    metadata: Metadata | None = None  # of the file that it is from
    # What evaluation remembers of this encoder; one made from it by `replace` starts anew.
    memory: dict[str, Any] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __call__(self, images: ArrayLike) -> Float[np.ndarray, "b d"]:
        """Pooled features of images u8[b, h, w, 3], an array of any library or a list of images."""
        return self.outputs("pooled", _checked(images))

    def grid(self, images: ArrayLike) -> Float[np.ndarray, "b i j d"]:
        """Features at each place of images u8[b, h, w, 3]."""
        return self.outputs("grid", _checked(images))

    def outputs(
        self, kind: str, images: np.ndarray, rows: np.ndarray | None = None
    ) -> Float[np.ndarray, "n ..."] | UInt8[np.ndarray, "n ..."]:
        """The output `kind`, a name in `OUTPUTS`, for images u8[n, h, w, 3] or those in `rows`."""
        count = len(images if rows is None else rows)
        # Few images are filled up to a power of two, so that few programs are compiled.
        return extract(
            functools.partial(self.compiled(_encode, kind), self.variables),
            images,
            min(self.batch_size, 1 << max(count - 1, 0).bit_length()),
            rows=rows,
            show=self.show and kind == "pooled",
        )

    def compiled(self, function: Callable[..., Any], *static: Hashable) -> Callable[..., Any]:
        """`run(variables, rows)`: `function(network, normalization, *static, variables, rows)`.

        Jitted, for all devices, once for all encoders of a network; see `sharding.jit_over_rows`.
        """
        return _compile(self.mesh, function, self.network, self.normalization, *static)


def _checked(images: ArrayLike) -> np.ndarray:
    try:
        images = np.asarray(images)
    except ValueError as error:
        raise UserError("images of several sizes; give those of one size at a time") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise UserError(f"images are {images.dtype} of {images.shape}; give uint8 of [b, h, w, 3]")
    return images


@functools.cache
def _compile(mesh: Mesh, function: Callable[..., Any], *static: Hashable) -> Callable[..., Any]:
    return sharding.jit_over_rows(functools.partial(function, *static), mesh)


def _encode(
    network: nn.Module,
    normalization: str,
    kind: str,
    variables: Tree,
    images: UInt8[Array, "b h w 3"],
) -> Shaped[Array, "b ..."]:
    """The output `OUTPUTS[kind]` of an encoder, or of one with a head."""
    return OUTPUTS[kind](network.apply(variables, prepare(images, normalization), train=False))


def prepare(images: UInt8[Array, "b h w 3"], normalization: str) -> Float[Array, "b h w 3"]:
    """Images as a network gets them: from bytes to [0, 1], normalized."""
    return augment.normalize(images.astype(jnp.float32) / 255, normalization)


def extract(
    encode: Callable[..., Any],
    images: np.ndarray,
    batch_size: int,
    *,
    rows: np.ndarray | None = None,
    show: bool = False,
) -> np.ndarray:
    """The outputs of `encode`, [n, ...], for images u8[n, s, s, 3]; a short batch is filled up.

    Batches are handed over one ahead of the one awaited, so that device and host overlap.

    Args:
      encode: from images u8[batch_size, s, s, 3] to an array [batch_size, ...] on the devices.
      images: may be memory-mapped.
      batch_size: images at once.
      rows: which images; None: all.
      show: whether to show how far it is.

    Returns:
      u8 if that is what `encode` returns, else f32; a large array is memory-mapped.
    """
    rows = np.arange(len(images)) if rows is None else rows
    waiting: collections.deque[tuple[int, jax.Array]] = collections.deque()
    features: list[np.ndarray] = []

    def store(start: int, batch: jax.Array) -> None:
        if not features:
            dtype = np.uint8 if batch.dtype == np.uint8 else np.float32
            features.append(make_space((len(rows), *batch.shape[1:]), dtype))
        some = features[0][start : start + batch_size]
        some[:] = np.asarray(batch)[: len(some)]

    with Progress(len(rows), "features", show=show) as advance:
        # Of no images one empty batch, which has the shape of an output.
        for start in range(0, max(len(rows), 1), batch_size):
            batch = np.asarray(images[rows[start : start + batch_size]])
            missing = batch_size - len(batch)
            filled = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))
            waiting.append((start, encode(filled)))
            if len(waiting) > 1:
                store(*waiting.popleft())
            advance(len(batch))
        store(*waiting.popleft())
    return features[0]


def make_space(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array to fill: a large one lies in a file without a name, for the system to page."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.empty(shape, dtype)
    with temporary_file(size) as file:
        return np.asarray(np.memmap(file, dtype, "w+", shape=shape))


def load_encoder(
    path: str | os.PathLike[str], name: str = "", *, prefix: str = "", normalize: str = ""
) -> Encoder:
    """The encoder of a file of weights, of `python -m jaxssl.export` or of others.

    Args:
      path: of the file. One of this package says what encoder it is of.
      name: of the encoder, as `encoder.name` in configs, if the file is of others; "": found.
      prefix: chooses one of several networks in the file; see `encoder.init_prefix`.
      normalize: of images, as `views.normalize` in configs, if the file is of others; "": imagenet.

    Raises:
      UserError: the file is missing, damaged, or of no encoder that is known here.
    """
    path = pathlib.Path(path).expanduser()
    check_choice("the normalization of images", normalize or "imagenet", augment.NORMALIZE)
    weights = read_weights(path)
    if "preprocessing" in weights.metadata:
        metadata = parse_metadata(weights.metadata, path)
    else:
        metadata = _recognize(path, weights, name, prefix, normalize or "imagenet")
    with naming_damage(path, AGAIN):
        encoder = ConfigDict(metadata.encoder)
        if ":" in encoder.name and not name:  # a file that is downloaded chooses no code to run
            raise PartError(
                f"{path} is of {encoder.name}, which is not jaxssl's own; to import it, give "
                f"--encoder-name {encoder.name} (in Python: load_encoder(path, name))"
            )
        known = set(defaults("encoder", encoder.name))
    if name not in ("", encoder.name):
        raise UserError(f"{path} says that it is of {encoder.name}, not of {name}")
    if normalize not in ("", normalized := metadata.preprocessing["normalize"]):
        raise UserError(f"{path} says that images are normalized by {normalized}, not {normalize}")
    if unknown := set(encoder) - known:
        raise UserError(f"{path} needs a newer jaxssl, which knows {', '.join(sorted(unknown))}")
    size = metadata.preprocessing["size"]
    with naming_damage(path, AGAIN):
        network = build("encoder", encoder, **FLOAT32)
        shapes = variable_shapes(network, size)
    mesh = sharding.make_mesh()
    variables = sharding.replicate(_load(path, weights, shapes, prefix).variables, mesh)
    return Encoder(
        network,
        variables,
        normalized,
        mesh,
        show=False,
        size=size,
        metadata=metadata,
    )


def _recognize(
    path: pathlib.Path, weights: Weights, name: str, prefix: str, normalize: str
) -> Metadata:
    """The metadata of a file of others, found by its tensors."""
    try:
        encoder, size = find_architecture(weights.tensors, name, prefix)
    except UserError as error:
        raise UserError(
            f"{path} does not say what encoder it is of, as files of python -m jaxssl.export do: "
            f"{error}; --encoder-name says it, --encoder-prefix chooses one of several networks"
        ) from error
    log.info("%s: taken as %s", path, describe(encoder, size, normalize))
    return Metadata(encoder=encoder.to_dict(), preprocessing=preprocessing_of(normalize, size))


def load_init_variables(config: ConfigDict, network: nn.Module) -> Tree:
    """The variables of the encoder out of the file `encoder.init`, whoever wrote it."""
    path = pathlib.Path(config.encoder.init).expanduser()
    weights = read_weights(path)
    shapes = variable_shapes(network, config.views.size)
    loaded = _load(path, weights, shapes, config.encoder.init_prefix)
    count = len(jax.tree.leaves(shapes))
    log.info("%s: %d of %d tensors loaded, by %s names", path, count, count, loaded.naming)
    if loaded.naming == "haiku" and config.encoder.padding == "torch":
        log.warning("%s is of a network that pads otherwise: set encoder.padding=same", path)
    if is_moco_v3(weights.tensors) and config.encoder.name == "vit_small":
        log.warning("%s is of a network of 12 heads: set encoder.name=vit_small_moco_v3", path)
    if "preprocessing" in weights.metadata:
        metadata = parse_metadata(weights.metadata, path)
        trained = metadata.preprocessing["normalize"]
        if trained != config.views.normalize:
            log.warning("%s was trained with views.normalize=%s", path, trained)
        for key, value in differing_options(metadata.encoder, config.encoder).items():
            log.warning("%s was trained with encoder.%s=%s", path, key, value)
    return loaded.variables


def _load(path: pathlib.Path, weights: Weights, shapes: Tree, prefix: str = "") -> Loaded:
    try:
        loaded = from_tensors(weights.tensors, shapes, prefix)
    except UserError as error:
        raise UserError(f"{path} does not fit: {error}") from error
    if loaded.ignored:
        more = f" and {len(loaded.ignored) - 5} more" if len(loaded.ignored) > 5 else ""
        log.warning("%s: ignored %s%s", path, ", ".join(loaded.ignored[:5]), more)
    if len(loaded.networks) > 1:
        names = [name.rstrip("./") or "the top" for name in loaded.networks]
        log.info(
            "%s holds several networks: %s is read; to read %s, set encoder.init_prefix",
            *(path, names[0], " or ".join(names[1:])),
        )
    return loaded
