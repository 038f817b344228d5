r"""The pre-training of "Improving Pixel-Wise Segmentation with Contrastive Pre-Training" (Jappert).

    python -m jaxssl.train --config configs/pets.py
    python -m jaxssl.train --config configs/pets.py:et_rp_rs

SimCLR with a ResNet-34 on ImageNet at 64 x 64 pixels; what it is for is the segmentation of
Oxford-IIIT Pets. The variants are the rows of table 1: `none`, with crops, flips and colors only,
or together with elastic transform (et), random posterize (rp) and random solarize (rs) in the first
view. It reports accuracy / IoU / Dice / precision / recall on Pets, in one run each, as its code
(maxjappert/pet_segmentation) defines them:
no pre-training  0.785 / 0.807 / 0.813 / 0.879 / 0.939
none             0.809 / 0.808 / 0.812 / 0.930 / 0.927
et               0.812 / 0.844 / 0.812 / 0.923 / 0.961
rp               0.810 / 0.817 / 0.817 / 0.929 / 0.931
rs               0.812 / 0.829 / 0.825 / 0.917 / 0.948
et_rp            0.812 / 0.823 / 0.821 / 0.924 / 0.940
et_rs            0.809 / 0.824 / 0.822 / 0.915 / 0.946
rp_rs            0.811 / 0.823 / 0.821 / 0.921 / 0.943
et_rp_rs         0.809 / 0.831 / 0.827 / 0.909 / 0.953
To segment, from random weights too (fractions of the training images: --set pets.fraction=0.1):

    python -m jaxssl.evaluate --workdir runs/pets --tasks pets --datasets tfds:oxford_iiit_pet \
        --size 256 --from-scratch --set pets.head_input=gap

With `gap` the head sees one pooled cell, as in the code that the numbers are from; without it, all
cells. Views are the code's too, not the paper's, which crops, flips and jitters either one: the
first has no jitter, the second is flipped upside down, and they differ in scale.
Its code has a lower learning rate and a narrower head: --config.optim.lr=0.001
--config.method.hidden="(128,)" --config.method.dim=128. There a last ReLU follows the head, and the
loss is that of inner products; here it is that of cosines, as the paper says. A fifth of the images
is kept for validation there.
Short run: --config.epochs=5 and --config.data.source=folder:PATH.
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

VARIANTS = ("none", "et", "rp", "rs", "et_rp", "et_rs", "rp_rs", "et_rp_rs")


def get_config(variant: str = "none") -> ConfigDict:
    """The transforms that the first view has besides."""
    choose(variant, VARIANTS)
    config = base()
    config.epochs = 50
    config.batch_size = 2048
    config.data.source = "tfds:imagenet_resized/64x64/train"
    config.encoder = defaults("encoder", "resnet34")
    config.method = defaults(
        "method",
        "simclr",
        temperature=0.5,
        hidden=(512,),
        dim=512,
        head_batch_norm=False,
        final_batch_norm="none",
        share_batch_norm=False,
    )
    # The views differ in colors and in scale: the second one is what is called a local view here.
    config.views.recipe = "pets" if variant == "none" else f"pets_{variant}"
    config.views.num_global = config.views.num_local = 1
    config.views.size = config.views.local_size = 64
    config.views.scale = (0.5, 1.0)
    config.views.local_scale = (0.08, 1.0)
    config.optim = defaults(
        "optim",
        "adamw",
        lr=0.01,
        weight_decay=0.0,
        scale_lr_by_batch="none",
        warmup_epochs=0.0,
        milestones=(0.2, 0.4, 0.6, 0.8),
        decay_factor=0.5,
    )
    return config
