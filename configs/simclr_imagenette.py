"""SimCLR on Imagenette: the baseline of SAMCLR (arXiv 2310.14736, Table 3).

    python -m jaxssl.train --config configs/simclr_imagenette.py
    python -m jaxssl.train --config configs/simclr_imagenette.py:released

9,469 training images. The paper runs lightly's SimCLR with its defaults and reports on
Imagenette kNN 89.0, linear 88.5.
Short run: --config.epochs=10. Evaluation: --config.eval.datasets=folder:PATH (class folders).
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

VARIANTS = ("paper", "released")


def get_config(variant: str = "paper") -> ConfigDict:
    """`paper`: lightly's defaults. `released`: `simclr.yaml` of the paper's code."""
    choose(variant, VARIANTS)
    config = base()
    config.epochs = 800
    config.data.source = "folder:data/imagenette2/train"
    config.data.canvas = 256
    # lightly 1.4.14: temperature 0.5 and a batch of BatchNorm for each view.
    config.method = defaults("method", "simclr", temperature=0.5, share_batch_norm=False)
    config.views.recipe = "lightly_simclr"
    if variant == "released":
        config.method = defaults("method", "simclr", temperature=0.07)
        config.views.recipe = "s3same"
        config.views.scale = (0.5, 1.0)
    return config
