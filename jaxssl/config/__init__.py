"""Configurations: `base()` has every key, and each config file changes what it must."""

import difflib
from collections.abc import Sequence

from ml_collections import ConfigDict

from jaxssl.config.parts import build, build_method, defaults, plain_fields
from jaxssl.errors import UserError
from jaxssl.views import ViewConfig

__all__ = [
    "KNN_K",
    "KNN_TEMPERATURE",
    "LINEAR_EPOCHS",
    "base",
    "build",
    "build_method",
    "choose",
    "defaults",
]

# Protocols of the evaluation during training, and the defaults of these tasks.
KNN_K, KNN_TEMPERATURE, LINEAR_EPOCHS = 200, 0.1, 90


def base() -> ConfigDict:
    """SimCLR on the embedded scenes; every config starts here and changes what it must."""
    config = ConfigDict()
    config.seed = 0
    config.epochs = 100
    config.batch_size = 256  # images a step, over all devices
    config.dtype = "bfloat16"  # of the network's computation: float32 | bfloat16
    config.remat = False  # recompute activations in the backward pass: less memory, more time
    config.log_every = 50  # steps between lines in metrics.jsonl
    config.wandb = ""  # name of a Weights & Biases project; "": off

    config.data = ConfigDict()
    config.data.source = "scenes:4000"  # folder:PATH | records:PATH | scenes:N | objects:N
    # Budget, height x width, up to which an image is kept pixel by pixel; 0: chosen from the data.
    config.data.pixels = 0
    config.data.max_objects = 64  # of an image with more, the largest are kept
    config.data.region_planes = 1  # of 32 regions each, the largest; read by methods on regions
    config.data.input = "auto"  # auto | device | host | stream
    config.data.workers = 0  # processes that decode in stream mode; 0: threads
    config.data.cache_dir = ""  # "": $JAXSSL_CACHE or ~/.cache/jaxssl

    config.encoder = defaults("encoder", "resnet18")
    config.method = defaults("method", "simclr")
    config.sampler = defaults("sampler", "random_crop")
    config.views = ConfigDict(plain_fields(ViewConfig))
    config.optim = defaults("optim", "sgd")

    config.eval = ConfigDict()
    config.eval.datasets = ()  # sources with labels; (): no evaluation
    config.eval.every = 0  # epochs between evaluations; 0: before the first and after the last
    config.eval.size = 0  # side of the images, pixels; 0: views.size, with label maps their own
    config.eval.health = 512  # training images on which signs of a collapse are measured; 0: off
    config.eval.in_context = 0  # cells in the memory of segmentation by retrieval; 0: off
    config.eval.linear = True  # whether to train a linear classifier too, after the last epoch
    config.eval.batch_size = 256  # images at once
    config.eval.knn_k = KNN_K
    config.eval.knn_temperature = KNN_TEMPERATURE
    config.eval.linear_epochs = LINEAR_EPOCHS
    # Label values of pixels that are no class, besides 255; CamVid: (11,).
    config.eval.ignore_labels = ()

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 500  # steps
    config.checkpoint.keep = 2
    return config


def choose(variant: str, variants: Sequence[str]) -> str:
    """The variant of a config file, or an error that lists what there is."""
    if variant not in variants:
        near = difflib.get_close_matches(variant, variants, 1)
        hint = f"did you mean {near[0]!r}? There are" if near else "choose one of"
        raise UserError(f"no variant {variant!r} of this config; {hint} {', '.join(variants)}")
    return variant
