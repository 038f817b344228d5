"""SimCLR on Cityscapes: the baseline of SAMCLR (arXiv 2310.14736, Table 1).

    python -m jaxssl.train --config configs/simclr_cityscapes.py
    python -m jaxssl.train --config configs/simclr_cityscapes.py:released

2,975 training images. The paper runs lightly's SimCLR with its defaults and reports on
CIFAR-10 / STL-10 / Imagenette kNN 50.5 / 46.9 / 50.5, linear 42.5 / 40.8 / 42.7.
Short run: --config.epochs=10. Evaluation: --config.eval.datasets=folder:PATH (class folders).
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

VARIANTS = ("paper", "released")


def get_config(variant: str = "paper") -> ConfigDict:
    """`paper`: lightly's defaults. `released`: `simclr.yaml` of the paper's code."""
    choose(variant, VARIANTS)
    config = base()
    config.epochs = 1600
    config.data.source = "folder:data/leftImg8bit/train"
    config.data.canvas = 512
    # lightly 1.4.14: temperature 0.5 and a batch of BatchNorm for each view.
    config.method = defaults("method", "simclr", temperature=0.5, share_batch_norm=False)
    config.views.recipe = "lightly_simclr"
    if variant == "released":
        config.method = defaults("method", "simclr", temperature=0.07)
        config.views.recipe = "s3same"
        config.views.scale = (0.5, 1.0)
    return config
