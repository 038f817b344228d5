r"""DetCon_S and DetCon_B, and the SimCLR and BYOL they are compared with (arXiv 2103.10957).

    python -m mask_tools.export --source folder:data/imagenet/train \
        --segmenter fh --out data/imagenet_fh
    python -m mask_tools.export --source folder:data/coco/train2017 \
        --segmenter fh --scale 500,1000,1500 --out data/coco_fh
    python -m mask_tools.export --source folder:data/coco/train2017 \
        --segmenter grid --rows 2 --cols 2 --out data/coco_grid2
    python -m mask_tools.export --source folder:data/coco/train2017 \
        --segmenter proposals --path data/coco/mcg --top 16 --out data/coco_mcg
    python -m mask_tools.export --source folder:data/coco/train2017 \
        --segmenter annotation --format coco \
        --path data/coco/annotations/instances_train2017.json --out data/coco_annotation
    python -m jaxssl.train --config configs/detcon.py:b_imagenet_fh_300

Variants METHOD_DATA_REGIONS_EPOCHS: s or b; imagenet or coco; fh, grid (5 x 5, the segmenter's
default) or, on coco, grid2 (2 x 2), grid10 (10 x 10), mcg (masks that MCG's own code made) or
annotation: figure 7. simclr and byol have no regions: byol_imagenet_300. On ImageNet s and simclr
have 100, 200, 500 or 1000 epochs, b and byol 100, 300 or 1000; on COCO all have 324, 1296 or 5184
(figure 6 spans 324 to 5184). Its other networks, figure 5 and table 3:
    --config.encoder.name=resnet200 --config.encoder.zero_init=True --config.encoder.width=2
It reports, fine-tuned, Mask-RCNN on COCO for 12 epochs (box AP / mask AP), mean IoU on PASCAL /
Cityscapes, and depth on NYU v2 (errors below 1.25; of 300 epochs it has that of 100 instead):
byol_imagenet_300   41.2 / 37.1, 74.7 / 73.4, 83.7
byol_imagenet_1000  41.6 / 37.2, 75.7 / 74.6, 84.2
b_imagenet_fh_300   42.0 / 37.8, 75.6 / 75.1, 85.1
b_imagenet_fh_1000  42.7 / 38.2, 77.3 / 77.0, 86.3; with ResNet-200 of width 2: 48.9 / 43.0
simclr_imagenet     39.7 / 35.8
s_imagenet_fh_1000  41.8 / 37.4

    python -m jaxssl.evaluate --workdir DIR --tasks fcn --preset pascal --datasets SOURCE
    python -m jaxssl.evaluate --workdir DIR --tasks fcn --preset cityscapes --datasets SOURCE
    python -m jaxssl.evaluate --workdir DIR --tasks depth --datasets SOURCE

and notebooks/detection_transfer.ipynb for Mask-RCNN.
Frozen, after COCO (it does not say how many epochs; box AP / mask AP, or box AP):
simclr_coco 31.6 / 29.2, s_coco_fh 33.4 / 30.6; table 5: s_coco_fh 33.6, s_coco_annotation 37.0
Table 4: row a with --config.method.whole_view=True, row b with --config.method.num_regions=1.
Table 5: row a with --config.method.images_compared=32, row b with that and one view, of which cells
are compared: --config.views.num_global=1 --config.method.pooling=cell. Figure 8:
--config.method.pooling=cell --config.views.size=512.
DetCon_B on COCO, BYOL there, and grids on ImageNet are not in the paper.

s and simclr, b and byol differ in the method alone. DetCon_S was not released: its views are
DetCon_B's with SimCLR's strengths and blur in the first view only, as lightly has it, and its head
has no last batch norm; simclr has the same here. SimCLR's own code (google-research/simclr) has
--config.views.recipe=simclr (blur in half of all views, another brightness and rule for crops),
--config.views.normalize=none and --config.method.final_batch_norm=scale. All these codes make large
crops smaller without averaging their pixels (no antialiasing), so their views are sharper. Blocks
start at 0, as in the released codes; BYOL's README says that its published numbers are without:
--config.encoder.zero_init=False. The warm-up has 10 epochs on COCO too, there 280 steps; the
paper's appendix may have another. A region's features are the mean over its pixels, as the paper
says; in the released code each cell belongs to the region that covers most of it
(--config.method.pooling=hard), convolutions pad as TensorFlow's (--config.encoder.padding=same),
and labels train a classifier beside, which leaves the encoder as it is.

A batch of 4096 wants many devices; on few: --config.batch_size=256 --config.remat=True. The
learning rate follows. Short run: --config.epochs=10 --config.optim.warmup_epochs=1.
"""

from ml_collections import ConfigDict

from jaxssl.config import base, choose, defaults

S_EPOCHS, B_EPOCHS, COCO_EPOCHS = (100, 200, 500, 1000), (100, 300, 1000), (324, 1296, 5184)
EPOCHS = {"s": S_EPOCHS, "simclr": S_EPOCHS, "b": B_EPOCHS, "byol": B_EPOCHS}
REGIONS = {
    "imagenet": ("fh", "grid"),
    "coco": ("fh", "grid", "grid2", "grid10", "mcg", "annotation"),
}
VARIANTS = tuple(
    f"{method}_{data}_{regions}{epochs}"
    for method, imagenet_epochs in EPOCHS.items()
    for data in REGIONS
    for regions in ([f"{r}_" for r in REGIONS[data]] if method in ("s", "b") else [""])
    for epochs in (imagenet_epochs if data == "imagenet" else COCO_EPOCHS)
)
IMAGES = {"imagenet": "folder:data/imagenet/train", "coco": "folder:data/coco/train2017"}
# Of 32 regions each: three overlapping partitions, and 100 cells.
PLANES = {"coco_fh": 3, "coco_grid10": 4}

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
    config.data.source = IMAGES[data]
    if regions:
        records = f"{data}_{regions[0]}"
        config.data.source = f"records:data/{records}"
        config.data.region_planes = PLANES.get(records, 1)
    config.encoder = defaults("encoder", "resnet50", zero_init=True, remat_expansions=True)
    config.views.size = 224
    if method in ("s", "simclr"):
        _simclr(config, {"s": "detcon_s"}.get(method, method))
    else:
        _byol(config, {"b": "detcon_b"}.get(method, method))
    if data == "coco":
        config.optim.milestones = (0.96, 0.98)  # to a tenth each time, and no cosine
    return config


def _simclr(config: ConfigDict, method: str) -> None:
    config.method = defaults("method", method, temperature=0.1, hidden=(2048,), dim=128)
    if method == "simclr":  # DetCon_S with one region has twice its loss, as SimCLR's own code has
        config.method.update(final_batch_norm="none", loss_scale=2.0)
    config.views.recipe = "detcon_s"
    config.optim = defaults("optim", "lars", lr=0.3, weight_decay=1e-6, lr_in_momentum=True)


def _byol(config: ConfigDict, method: str) -> None:
    # DetCon's code has BYOL's numbers for 1000 epochs whatever the epochs, and warms up for a
    # hundredth of them; as the paper has "the optimization details of BYOL", these are BYOL's.
    lr, weight_decay, momentum = PRESETS[config.epochs]
    config.method = defaults("method", method, momentum=momentum, hidden=(4096,), dim=256)
    config.views.recipe = "byol"
    config.optim = defaults("optim", "lars", lr=lr, weight_decay=weight_decay)
