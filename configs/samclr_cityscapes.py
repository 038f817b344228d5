r"""SAMCLR on Cityscapes: SimCLR, with both views cut from one region (arXiv 2310.14736, Table 1).

    python -m mask_tools.export --source folder:data/leftImg8bit/train \
        --segmenter fh --out data/cityscapes_fh
    python -m jaxssl.train --config configs/samclr_cityscapes.py
    python -m jaxssl.train --config configs/samclr_cityscapes.py:released

2,975 training images; the paper's regions are HQ-SAM's. It reports on
CIFAR-10 / STL-10 / Imagenette:
SAMCLR kNN 63.9 / 57.2 / 66.3, linear 63.4 / 56.0 / 67.5
SimCLR: kNN 50.5 / 46.9 / 50.5, linear 42.5 / 40.8 / 42.7
Short run: --config.epochs=10. Evaluation: --config.eval.datasets=folder:PATH (class folders).
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

VARIANTS = ("paper", "released")


def get_config(variant: str = "paper") -> ConfigDict:
    """`paper`: the numbers of the paper. `released`: those of its code, where they differ."""
    choose(variant, VARIANTS)
    config = base()
    config.epochs = 1600
    config.data.source = "records:data/cityscapes_fh"
    config.data.canvas = 512
    config.sampler = defaults("sampler", "region_crop")
    if variant == "released":
        # `area > 600`, boxes doubled, six local views, other positives out of the softmax.
        config.sampler = defaults("sampler", "region_crop", min_area=601, expand=2.0)
        config.method.positives_in_denominator = False
        config.views.scale = (0.5, 1.0)
        config.views.num_local = 6
        config.views.local_size = 64
        config.views.local_scale = (0.2, 0.5)
    return config
