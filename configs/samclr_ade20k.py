r"""SAMCLR on ADE20K: SimCLR, with both views cut from one region (arXiv 2310.14736, Table 2).

    python -m mask_tools.export --source folder:data/ADEChallengeData2016/images/training \
        --segmenter hq_sam --model-type vit_h --checkpoint sam_hq_vit_h.pth \
        --out data/ade20k_regions
    python -m jaxssl.train --config configs/samclr_ade20k.py
    python -m jaxssl.train --config configs/samclr_ade20k.py:released

20,210 training images. The paper's regions are HQ-SAM's; without its weights and a GPU, take
`--segmenter fh`. It reports on CIFAR-10 / STL-10 / Imagenette:
SAMCLR  kNN 65.5 / 59.3 / 69.1, linear 65.6 / 59.8 / 70.8
SimCLR  kNN 60.6 / 59.1 / 68.8, linear 57.0 / 54.5 / 66.5
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
    config.batch_size = 256
    config.data.source = "records:data/ade20k_regions"
    config.encoder = defaults("encoder", "resnet18")
    config.method = defaults("method", "simclr", temperature=0.07, hidden=(512,), dim=128)
    # Regions of so many pixels or more; their boxes, so many times as wide and high, are the images
    # of which views show a part.
    config.sampler = defaults("sampler", "region_crop", min_area=1000, expand=1.3)
    config.views.update(size=128, num_global=2, scale=(0.08, 1.0), recipe="s3same")
    # The learning rate is for 256 images; it falls along a cosine, without a warm-up.
    config.optim = defaults("optim", "sgd", lr=0.06, momentum=0.9, weight_decay=5e-4)
    if variant == "released":
        # `area > 600`, boxes doubled, six local views, other positives out of the softmax.
        config.sampler.update(min_area=601, expand=2.0)
        config.method.positives_in_denominator = False
        config.views.update(scale=(0.5, 1.0), num_local=6, local_size=64, local_scale=(0.2, 0.5))
    return config
