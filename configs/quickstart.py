r"""SAMCLR on crowded synthetic scenes in minutes on a laptop: no download, no accelerator.

    python -m jaxssl.train --config configs/quickstart.py
    python -m jaxssl.train --config configs/quickstart.py:simclr,samclr
    python -m jaxssl.train --config configs/quickstart.py:byol --config.sampler.name=region_crop \
        --config.sampler.min_area=64

There is a variant for each method; several are trained one after the other and compared. Training
images are scenes of 12 to 32 objects (`scenes:`); kNN on ten classes of images of single objects
(`objects:`) measures what was learned. `samclr` and `simclr` differ in the sampler alone: both have
SimCLR's range of crops, MoCo v2's temperature, and clipped gradients, without which the loss stays
above that of chance for the first epochs. `benchmarks/regions.md` has the numbers, also of other
settings.
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

# What each method needs to be changed for small batches, few images and a small encoder.
METHODS = {
    "simclr": {"temperature": 0.2},
    "moco": {"temperature": 0.1, "hidden": (512,), "queue_size": 1024, "momentum": 0.99}
    | {"symmetric": True},
    "byol": {"hidden": (512,), "dim": 128, "momentum": 0.99, "copy_target": True},
    "simsiam": {"hidden": (512, 512), "dim": 512, "predictor_hidden": (128,)},
    "dino": {"hidden": (512,), "bottleneck": 64, "num_outputs": 512, "momentum": 0.99}
    | {"head_batch_norm": True, "teacher_temperature_start": 0.02, "teacher_temperature": 0.02},
    "swav": {"hidden": (512,), "num_prototypes": 64, "epsilon": 0.03, "freeze_prototypes": 0.05},
    "detcon_s": {"hidden": (512,)},
    "detcon_b": {"hidden": (512,), "dim": 128, "momentum": 0.99},
}
VARIANTS = ("samclr", *METHODS)
SMALL_CROPS = ("simclr", "byol", "detcon_s", "detcon_b")  # from 0.08 of the image, in their papers


def get_config(variant: str = "samclr") -> ConfigDict:
    """`samclr`: SimCLR with both views from inside one object. The others: from anywhere."""
    choose(variant, VARIANTS)
    method = "simclr" if variant == "samclr" else variant
    config = base()
    config.epochs = 64
    config.batch_size = 64
    config.dtype = "float32"
    config.data.source = "scenes:2000"
    config.encoder = defaults("encoder", "resnet18", width=0.25)
    config.views.size = 32
    config.views.scale = (0.08 if method in SMALL_CROPS else 0.2, 1.0)
    config.views.recipe = "gray"
    # Not AdamW: with that all but SimCLR learn much less or nothing (benchmarks/regions.md).
    config.optim = defaults(
        "optim", "sgd", lr=0.3, weight_decay=5e-4, warmup_epochs=1.0, clip_norm=1.0
    )
    config.eval.datasets = ("objects:4000",)
    config.eval.every = 16
    config.eval.size = 48  # objects are smaller there than in a view cut around one
    config.eval.knn_k = 20
    config.checkpoint.every = 100
    config.method = defaults("method", method, **METHODS[method])
    if variant == "samclr":
        config.sampler = defaults("sampler", "region_crop", min_area=64)
    if variant.startswith("detcon"):  # of 32 pixels the encoder would make a single cell
        config.views.size = 40
    return config
