"""SAMCLR on drawn scenes in a few minutes on a laptop: no download, no accelerator.

    python -m jaxssl.train --config configs/quickstart.py
    python -m jaxssl.train --config configs/quickstart.py:simclr

Ten classes of single objects (`objects:`) tell by kNN what was learned from scenes of 3 to 8
objects (`scenes:`). The README has the numbers.
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

VARIANTS = ("samclr", "simclr")


def get_config(variant: str = "samclr") -> ConfigDict:
    """`samclr`: both views from inside one object. `simclr`: from anywhere in the scene."""
    choose(variant, VARIANTS)
    config = base()
    config.epochs = 12
    config.batch_size = 128
    config.dtype = "float32"
    config.data.source = "scenes:4000"
    config.data.canvas = 96
    config.encoder = defaults("encoder", "resnet18", width=0.25)
    config.method = defaults("method", "simclr")
    if variant == "samclr":
        config.sampler = defaults("sampler", "region_crop", min_area=64)
    config.views.size = 32
    config.views.scale = (0.6, 1.0)
    config.views.recipe = "gray"
    config.optim = defaults("optim", "adamw", lr=0.008, weight_decay=0.01, warmup_epochs=0.5)
    config.eval.datasets = ("objects:4000",)
    config.eval.every = 4
    config.eval.size = 48  # objects are smaller there than in a view cut around one
    config.eval.knn_k = 20
    config.checkpoint.every = 100
    return config
