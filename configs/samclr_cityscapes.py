r"""SAMCLR and SimCLR on Cityscapes (arXiv 2310.14736, Table 1).

    python -m mask_tools.export --source folder:data/leftImg8bit/train \
        --segmenter hq_sam --model-type vit_h --checkpoint sam_hq_vit_h.pth \
        --out data/cityscapes_regions
    python -m jaxssl.train --config configs/samclr_cityscapes.py
    python -m jaxssl.train --config configs/samclr_cityscapes.py:simclr

2,975 training images. The paper's regions are HQ-SAM's; without its weights and a GPU, take
`--segmenter fh`. SimCLR needs no regions:
--config.data.source=folder:data/leftImg8bit/train
Variants:
paper            SAMCLR, which "follows the one from SimCLR", lightly's 1.4.14, with tau 0.07
simclr           the same but for where views are cut: what to compare it with
simclr_lightly   the paper's SimCLR to the letter, "with default hyperparameters": tau is 0.5
released         SAMCLR in the paper's code (benji2264/s3same): larger views of larger boxes, six
                 local views, another interpolation, one batch of batch norm for views of one size
simclr_released  its SimCLR: two views, as SAMCLR has with `released --config.views.num_local=0`
The paper reports on CIFAR-10 / STL-10 / Imagenette
SAMCLR  kNN 63.9 / 57.2 / 66.3, linear 63.4 / 56.0 / 67.5
SimCLR  kNN 50.5 / 46.9 / 50.5, linear 42.5 / 40.8 / 42.7
as its code evaluates, the linear ones in the best epoch on the test images (top1_best_on_test):

    python -m jaxssl.evaluate --workdir runs/samclr_cityscapes --tasks knn,linear --bn-adapt \
        --preset s3same --datasets folder:PATH

Short run: --config.epochs=10. Evaluation during training: --config.eval.datasets=folder:PATH.
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

VARIANTS = ("paper", "simclr", "simclr_lightly", "released", "simclr_released")


def get_config(variant: str = "paper") -> ConfigDict:
    """`paper` and `simclr`, those two as released, and SimCLR by lightly's defaults."""
    choose(variant, VARIANTS)
    config = base()
    config.epochs = 1600
    config.batch_size = 256
    config.data.source = "records:data/cityscapes_regions"
    config.encoder = defaults("encoder", "resnet18")
    config.method = defaults("method", "simclr", temperature=0.07, hidden=(512,), dim=128)
    config.method.share_batch_norm = False  # lightly 1.4.14: each view has a batch of its own
    config.views.update(size=128, num_global=2, scale=(0.08, 1.0), recipe="lightly_simclr")
    # Regions of so many pixels or more; their boxes, so many times as wide and high, are the images
    # of which views show a part.
    config.sampler = defaults("sampler", "region_crop", min_area=1000, expand=1.3)
    # The learning rate is for 256 images; it falls along a cosine, without a warm-up.
    config.optim = defaults("optim", "sgd", lr=0.06, momentum=0.9, weight_decay=5e-4)
    if "released" in variant:
        # `area > 600`, boxes doubled, other positives out of the softmax.
        config.sampler.update(min_area=601, expand=2.0)
        config.method.update(share_batch_norm=True, positives_in_denominator=False)
        config.views.update(scale=(0.5, 1.0), recipe="s3same")
        config.views.update(local_size=64, local_scale=(0.2, 0.5))
    if variant == "released":
        config.views.num_local = 6
    if variant == "simclr_lightly":
        config.method.temperature = 0.5
    if variant.startswith("simclr"):
        config.sampler = defaults("sampler", "random_crop")
    return config
