r"""DetCon_S and DetCon_B, and the SimCLR and BYOL they are compared with (arXiv 2103.10957).

    python -m mask_tools.export --source folder:data/imagenet/train \
        --segmenter fh --out data/imagenet_fh
    python -m mask_tools.export --source folder:data/coco/train2017 \
        --segmenter fh --scale 500,1000,1500 --out data/coco_fh
    python -m mask_tools.export --source folder:data/coco/train2017 \
        --segmenter annotation --format coco \
        --path data/coco/annotations/instances_train2017.json --out data/coco_annotation
    python -m jaxssl.train --config configs/detcon.py:b_imagenet_fh_300

Variants METHOD_DATA_REGIONS_EPOCHS: s or b; imagenet or coco; fh, grid (5 x 5, the segmenter's
default) or, on coco, annotation. simclr and byol have no regions: byol_imagenet_300. On ImageNet s
and simclr have 100, 200, 500 or 1000 epochs, b and byol 100, 300 or 1000; on COCO all have 324,
1296 or 5184 (figure 6 spans 324 to 5184). Its other networks, figure 5 and table 3:
    --config.encoder.name=resnet200 --config.encoder.zero_init=True --config.encoder.width=2
It reports, fine-tuned, Mask-RCNN on COCO for 12 epochs (box AP / mask AP) and mean IoU on PASCAL /
Cityscapes:
byol_imagenet_300  41.2 / 37.1, 74.7 / 73.4    byol_imagenet_1000  41.6 / 37.2, 75.7 / 74.6
b_imagenet_fh_300  42.0 / 37.8, 75.6 / 75.1    b_imagenet_fh_1000  42.7 / 38.2, 77.3 / 77.0
s_imagenet_fh_1000 41.8 / 37.4                 simclr_imagenet     39.7 / 35.8
b_imagenet_fh_1000 with ResNet-200 of width 2: 48.9 / 43.0
Frozen, after COCO (it does not say how many epochs; box AP / mask AP, or box AP):
simclr_coco 31.6 / 29.2, s_coco_fh 33.4 / 30.6; table 5: s_coco_fh 33.6, s_coco_annotation 37.0
Table 4: row a with --config.method.whole_view=True, row b with --config.method.num_regions=1.
Table 5: row a with --config.method.images_compared=32, row b with that and one view, of which cells
are compared: --config.views.num_global=1 --config.method.pooling=cell. Figure 8:
--config.method.pooling=cell --config.views.size=512.
DetCon_B on COCO, BYOL there, and grids on ImageNet are not in the paper.

A batch of 4096 wants many devices; on few: --config.batch_size=256 --config.remat=True. The
learning rate follows. Short run: --config.epochs=10 --config.optim.warmup_epochs=1.
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

S_EPOCHS, B_EPOCHS, COCO_EPOCHS = (100, 200, 500, 1000), (100, 300, 1000), (324, 1296, 5184)
METHODS = {"s": S_EPOCHS, "simclr": S_EPOCHS, "b": B_EPOCHS, "byol": B_EPOCHS}
REGIONS = {"imagenet": ("fh", "grid"), "coco": ("fh", "grid", "annotation")}
VARIANTS = tuple(
    f"{method}_{data}_{regions}{epochs}"
    for method, imagenet_epochs in METHODS.items()
    for data in REGIONS
    for regions in ([f"{r}_" for r in REGIONS[data]] if method in ("s", "b") else [""])
    for epochs in (imagenet_epochs if data == "imagenet" else COCO_EPOCHS)
)
IMAGES = {"imagenet": "folder:data/imagenet/train", "coco": "folder:data/coco/train2017"}

# BYOL's learning rate, weight decay and momentum of the target, for each number of epochs
PRESETS = {
    100: (0.45, 1e-6, 0.99),
    300: (0.3, 1e-6, 0.99),
    1000: (0.2, 1.5e-6, 0.996),
    # On COCO those for about as many steps: they are 30, 120 and 479 epochs of ImageNet.
    324: (0.45, 1e-6, 0.97),
    1296: (0.45, 1e-6, 0.99),
    5184: (0.3, 1e-6, 0.99),
}


def get_config(variant: str = "b_imagenet_fh_300") -> ConfigDict:
    """METHOD_DATA_REGIONS_EPOCHS; without REGIONS for simclr and byol."""
    method, data, *regions, epochs = choose(variant, VARIANTS).split("_")
    config = base()
    config.epochs = int(epochs)
    config.batch_size = 4096
    config.data.source = f"records:data/{data}_{regions[0]}" if regions else IMAGES[data]
    if (data, regions) == ("coco", ["fh"]):
        config.data.region_planes = 3  # three overlapping partitions
    # The released codes of DetCon, BYOL and SimCLR all start blocks at 0.
    config.encoder = defaults("encoder", "resnet50", zero_init=True)
    config.views.size = 224
    {"s": _detcon_s, "b": _detcon_b, "simclr": _simclr, "byol": _byol}[method](config)
    if data == "coco":
        config.optim.milestones = (0.96, 0.98)  # to a tenth each time, and no cosine
    return config


def _detcon_s(config: ConfigDict) -> None:
    config.method = defaults("method", "detcon_s")
    config.views.recipe = "detcon_s"
    _simclr_optim(config)


def _simclr(config: ConfigDict) -> None:
    config.method = defaults(
        "method", "simclr", temperature=0.1, hidden=(2048,), final_batch_norm="scale"
    )
    config.views.recipe = "simclr"
    _simclr_optim(config)


def _simclr_optim(config: ConfigDict) -> None:
    config.optim = defaults("optim", "lars", lr=0.3, weight_decay=1e-6, lr_in_momentum=True)


def _detcon_b(config: ConfigDict) -> None:
    # DetCon's code has BYOL's numbers for 1000 epochs whatever the epochs, and warms up for a
    # hundredth of them; as the paper has "the optimization details of BYOL", these are BYOL's.
    lr, weight_decay, momentum = PRESETS[config.epochs]
    config.method = defaults("method", "detcon_b", momentum=momentum)
    config.views.recipe = "byol"
    config.optim = defaults("optim", "lars", lr=lr, weight_decay=weight_decay)


def _byol(config: ConfigDict) -> None:
    lr, weight_decay, momentum = PRESETS[config.epochs]
    config.method = defaults("method", "byol", momentum=momentum)
    config.views.recipe = "byol"
    config.optim = defaults("optim", "lars", lr=lr, weight_decay=weight_decay)
