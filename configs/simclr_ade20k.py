"""SimCLR on ADE20K: the baseline of SAMCLR (arXiv 2310.14736, Table 2).

    python -m jaxssl.train --config configs/simclr_ade20k.py
    python -m jaxssl.train --config configs/simclr_ade20k.py:released

20,210 training images. The paper runs lightly's SimCLR with its defaults and reports on
CIFAR-10 / STL-10 / Imagenette kNN 60.6 / 59.1 / 68.8, linear 57.0 / 54.5 / 66.5.
Short run: --config.epochs=10. Evaluation: --config.eval.datasets=folder:PATH (class folders).
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

VARIANTS = ("paper", "released")


def get_config(variant: str = "paper") -> ConfigDict:
    """`paper`: lightly's defaults. `released`: `simclr.yaml` of the paper's code."""
    choose(variant, VARIANTS)
    config = base()
    config.epochs = 250
    config.data.source = "folder:data/ADEChallengeData2016/images/training"
    config.data.canvas = 512
    # lightly 1.4.14: temperature 0.5 and a batch of BatchNorm for each view.
    config.method = defaults("method", "simclr", temperature=0.5, share_batch_norm=False)
    config.views.recipe = "lightly_simclr"
    if variant == "released":
        config.method = defaults("method", "simclr", temperature=0.07)
        config.views.recipe = "s3same"
        config.views.scale = (0.5, 1.0)
    return config
