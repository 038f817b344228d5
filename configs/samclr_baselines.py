r"""SAMCLR's baselines MoCo, DINO and SwAV (arXiv 2310.14736, Tables 1 to 3).

    python -m jaxssl.train --config configs/samclr_baselines.py:moco_cityscapes

Variants: moco, dino or swav, on cityscapes, ade20k or imagenette, with images in `data`; SimCLR is
a variant of samclr_*.py. The paper runs lightly's methods "with default optimizers and
hyperparameters". These are the numbers of lightly 1.4.14's benchmark on Imagenette, its one script
with these sizes of views. The paper reports, kNN and linear, evaluated as samclr_*.py says, on
CIFAR-10 / STL-10 / Imagenette:
moco_cityscapes: kNN 44.0 / 41.2 / 45.4, linear 43.2 / 40.1 / 46.8
moco_ade20k:     kNN 63.1 / 61.9 / 71.8, linear 60.7 / 60.7 / 73.5
dino_cityscapes: kNN 38.8 / 36.7 / 40.8, linear 37.1 / 34.7 / 40.4
dino_ade20k:     kNN 52.4 / 55.8 / 65.4, linear 48.9 / 51.7 / 62.8
and on Imagenette alone:
dino_imagenette: kNN 85.9, linear 88.6
swav_imagenette: kNN 89.5, linear 91.9
It has no SwAV on scenes and no MoCo on Imagenette.

Its future work, the same with views from one region, is `--config.sampler.name=region_crop
--config.data.source=records:data/cityscapes_regions`; samclr_cityscapes.py has the command that
makes the records.
With a ViT, which its code offers: --config.encoder.name=vit_small.
Short run: --config.epochs=10. Evaluation during training: --config.eval.datasets=folder:PATH.
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

# Data set: source, epochs
DATA = {
    "cityscapes": ("folder:data/leftImg8bit/train", 1600),
    "ade20k": ("folder:data/ADEChallengeData2016/images/training", 250),
    "imagenette": ("folder:data/imagenette2/train", 800),
}
VARIANTS = tuple(f"{method}_{data}" for method in ("moco", "dino", "swav") for data in DATA)


def get_config(variant: str = "moco_cityscapes") -> ConfigDict:
    """METHOD_DATA."""
    method, data = choose(variant, VARIANTS).split("_")
    config = base()
    config.data.source, config.epochs = DATA[data]
    {"moco": _moco, "dino": _dino, "swav": _swav}[method](config)
    return config


def _moco(config: ConfigDict) -> None:
    # Not followed: in lightly the keys of one direction are negatives of their own images in the
    # other. Batches are not shuffled: batch norm is over all devices.
    config.method = defaults(
        "method", "moco", temperature=0.1, queue_size=4096, momentum=0.99, symmetric=True
    )
    config.views.recipe = "lightly_simclr"


def _dino(config: ConfigDict) -> None:
    # Not followed: lightly's initial weights, 0.2 wide and not the same in the teacher, and the
    # one BatchNorm that two layers of its head share.
    config.method = defaults(
        "method",
        "dino",
        head_batch_norm=True,
        momentum=0.99,
        momentum_end=0.99,
        freeze_last_layer=0.0,
        share_batch_norm=False,
        needs_local=True,
        evaluate_student=True,
    )
    config.views.recipe = "dino"
    config.views.scale = (0.4, 1.0)
    config.views.num_local = 6
    config.views.local_scale = (0.05, 0.4)


def _swav(config: ConfigDict) -> None:
    config.method = defaults(
        "method", "swav", freeze_prototypes=0.0, prototype_bias=True, share_batch_norm=False
    )
    config.views.recipe = "lightly_simclr"
    config.views.scale = (0.14, 1.0)
    config.views.num_local = 6
    config.views.local_scale = (0.05, 0.14)
    config.optim = defaults(
        "optim",
        "adamw",  # lightly has Adam: next to the same with so small a decay
        lr=1e-3,
        weight_decay=1e-6,
        exclude_bias_and_norm=False,
        scale_lr_by_batch="none",
        warmup_epochs=0.0,
        cosine_per="epoch",
    )
