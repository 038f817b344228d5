r"""SAMCLR on ADE20K: SimCLR, with both views cut from one region (arXiv 2310.14736, Table 2).

    python -m mask_tools.export --source folder:data/ADEChallengeData2016/images/training \
        --segmenter fh --out data/ade20k_fh
    python -m jaxssl.train --config configs/samclr_ade20k.py
    python -m jaxssl.train --config configs/samclr_ade20k.py:released

20,210 training images; the paper's regions are HQ-SAM's. It reports on
CIFAR-10 / STL-10 / Imagenette:
SAMCLR kNN 65.5 / 59.3 / 69.1, linear 65.6 / 59.8 / 70.8
SimCLR: kNN 60.6 / 59.1 / 68.8, linear 57.0 / 54.5 / 66.5
Short run: --config.epochs=10. Evaluation: --config.eval.datasets=folder:PATH (class folders).
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

VARIANTS = ("paper", "released")


def get_config(variant: str = "paper") -> ConfigDict:
    """`paper`: the numbers of the paper. `released`: those of its code, where they differ."""
    choose(variant, VARIANTS)
    config = base()
    config.epochs = 250
    config.data.source = "records:data/ade20k_fh"
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
