"""Encoders from runs and from files of weights: to compute features with, or to start from.

    encoder = jaxssl.load_encoder("resnet18.safetensors")
    features = encoder(images)   # u8[b, h, w, 3] to f32[b, d]
    grid = encoder.grid(images)  # f32[b, h', w', d]

`python -m jaxssl.export` writes such files. Their metadata says what the encoder is and how its
images are prepared.
"""

import functools
import json
import logging
import os
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from jaxssl.config import build, defaults
from jaxssl.errors import UserError
from jaxssl.models import variable_shapes
from jaxssl.pretrained.param_names import Loaded, from_tensors
from jaxssl.pretrained.weight_files import Weights, read_weights
from jaxssl.types import Features, Tree

log = logging.getLogger("jaxssl")


class Encoder:
    """A pre-trained encoder, frozen."""

    def __init__(self, network: nn.Module, variables: Tree, metadata: dict[str, Any]):
        self.network, self.variables, self.metadata = network, variables, metadata

    @property
    def size(self) -> int:
        """Side of the images that it was evaluated on, pixels. No image is resized."""
        return int(self.metadata["preprocessing"]["size"])

    def __call__(self, images: np.ndarray | Array) -> Float[Array, "b d"]:
        """Pooled features of images u8[b, h, w, 3]."""
        pooled: Array = self._features(images).pooled
        return pooled

    def grid(self, images: np.ndarray | Array) -> Float[Array, "b i j d"]:
        """Features at each place of images u8[b, h, w, 3]."""
        grid: Array = self._features(images).grid
        return grid

    def _features(self, images: np.ndarray | Array) -> Features:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise UserError(
                f"images are {images.dtype} of {images.shape}; give uint8 of [b, h, w, 3]"
            )
        return self._apply(self.variables, images)

    @functools.cached_property
    def _apply(self) -> Any:
        preprocessing = self.metadata["preprocessing"]
        mean, std = (jnp.array(preprocessing[k])[None, None, None] for k in ("mean", "std"))

        def apply(variables: Tree, images: Array) -> Any:
            pixels = (images.astype(jnp.float32) / 255 - mean) / std
            return self.network.apply(variables, pixels, train=False)

        return jax.jit(apply)


def load_encoder(path: str | os.PathLike) -> Encoder:
    """The encoder of a file that `python -m jaxssl.export` wrote, in any of its formats.

    Raises:
      UserError: one line, if the file is missing, damaged, or not of this package.
    """
    path = pathlib.Path(path)
    weights = read_weights(path)
    metadata = _read_metadata(path, weights)
    encoder = ConfigDict(metadata["encoder"])
    if unknown := set(encoder) - set(defaults("encoder", encoder.name)):
        raise UserError(f"{path} needs a newer jaxssl, which knows {', '.join(sorted(unknown))}")
    network = build("encoder", encoder, dtype=jnp.dtype("float32"), remat=False)
    shapes = variable_shapes(network, metadata["preprocessing"]["size"])
    variables = jax.device_put(_load(path, weights, shapes).variables)
    return Encoder(network, variables, metadata)


def load_init_variables(config: ConfigDict, network: nn.Module) -> Tree:
    """The variables of the encoder out of the file `encoder.init`, whoever wrote it.

    Raises:
      UserError: one line, if the file cannot be read or holds another encoder's.
    """
    path = pathlib.Path(config.encoder.init)
    weights = read_weights(path)
    shapes = variable_shapes(network, config.views.size)
    loaded = _load(path, weights, shapes)
    count = len(jax.tree.leaves(shapes))
    log.info("%s: %d of %d tensors loaded, by %s names", path, count, count, loaded.naming)
    if loaded.ignored:
        more = f" and {len(loaded.ignored) - 5} more" if len(loaded.ignored) > 5 else ""
        log.warning("%s: ignored %s%s", path, ", ".join(loaded.ignored[:5]), more)
    if loaded.naming == "haiku" and config.encoder.padding == "torch":
        log.warning("%s is of a network that pads otherwise: set encoder.padding=same", path)
    if "preprocessing" in weights.metadata:
        preprocessing = _read_metadata(path, weights)["preprocessing"]
        if preprocessing["normalize"] != config.views.normalize:
            log.warning("%s was trained with views.normalize=%s", path, preprocessing["normalize"])
    return loaded.variables


def _load(path: pathlib.Path, weights: Weights, shapes: Tree) -> Loaded:
    try:
        return from_tensors(weights.tensors, shapes)
    except UserError as error:
        raise UserError(f"{path} does not fit: {error}") from error


def _read_metadata(path: pathlib.Path, weights: Weights) -> dict[str, Any]:
    """What `jaxssl.export` says about an encoder."""
    metadata: dict[str, Any] = dict(weights.metadata)
    try:
        for key in ("encoder", "preprocessing"):
            metadata[key] = json.loads(metadata[key])
        metadata["step"] = int(metadata["step"])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{path} does not say what encoder it is of, as files of python -m jaxssl.export do; "
            "to start pre-training from it, give --config.encoder.init"
        ) from error
    return metadata
