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
    config.batch_size = 256
    config.data.source = "folder:data/imagenette2/train"
    config.encoder = defaults("encoder", "resnet18")
    config.method = defaults("method", "simclr", temperature=0.5, hidden=(512,), dim=128)
    config.method.share_batch_norm = False  # lightly 1.4.14: each view has a batch of its own
    config.sampler = defaults("sampler", "random_crop")
    config.views.update(size=128, num_global=2, scale=(0.08, 1.0), recipe="lightly_simclr")
    # The learning rate is for 256 images; it falls along a cosine, without a warm-up.
    config.optim = defaults("optim", "sgd", lr=0.06, momentum=0.9, weight_decay=5e-4)
    if variant == "released":
        config.method.update(temperature=0.07, share_batch_norm=True)
        config.views.update(scale=(0.5, 1.0), recipe="s3same")
    return config
