"""Self-supervised pre-training of vision encoders on scene images, from regions, in JAX."""

from __future__ import annotations

import os
import typing

if typing.TYPE_CHECKING:
    from jaxssl.pretrained import Encoder


def load_encoder(path: str | os.PathLike) -> Encoder:
    """The pre-trained encoder of a file that `python -m jaxssl.export` wrote, in any format.

        encoder = jaxssl.load_encoder("resnet18.safetensors")
        features = encoder(images)   # u8[b, h, w, 3] to f32[b, d]
        grid = encoder.grid(images)  # f32[b, h', w', d]

    Raises:
      ValueError: one line, if the file is missing, damaged, or not of this package.
    """
    from jaxssl import pretrained  # here, for the tools that only read images do without JAX

    return pretrained.load_encoder(path)
