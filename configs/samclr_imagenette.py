r"""SAMCLR on Imagenette: SimCLR, with both views cut from one region (arXiv 2310.14736, Table 3).

    python -m mask_tools.export --source folder:data/imagenette2/train \
        --segmenter fh --out data/imagenette_fh
    python -m jaxssl.train --config configs/samclr_imagenette.py
    python -m jaxssl.train --config configs/samclr_imagenette.py:released

9,469 training images; the paper's regions are HQ-SAM's. It reports on
Imagenette:
SAMCLR kNN 85.1, linear 85.8
SimCLR: kNN 89.0, linear 88.5
Short run: --config.epochs=10. Evaluation: --config.eval.datasets=folder:PATH (class folders).
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

VARIANTS = ("paper", "released")


def get_config(variant: str = "paper") -> ConfigDict:
    """`paper`: the numbers of the paper. `released`: those of its code, where they differ."""
    choose(variant, VARIANTS)
    config = base()
    config.epochs = 800
    config.data.source = "records:data/imagenette_fh"
    config.data.canvas = 256
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
