"""The protocols of linear probes, as the papers' code has them.

A linear classifier on frozen features is trained by SGD with momentum 0.9 and no weight decay. Its
learning rate is given, or chosen among several on a tenth of the *training* images, never on the
test images; the classifier is then trained on all of them.
"""

import dataclasses

from jaxssl.config import LINEAR_EPOCHS
from jaxssl.errors import UserError
from jaxssl.optim import Sgd


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """A protocol; the default is ours (`sweep`).

    Features are standardized, so that one grid of learning rates serves all encoders, and made
    once, of unchanged images. A linear classifier loses nothing by the former.
    """

    epochs: int = LINEAR_EPOCHS
    batch_size: int = 256  # or all training images, if they are fewer
    lr: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    scale_lr_by_batch: bool = False  # learning rate x batch size / 256
    nesterov: bool = True
    end_factor: float = 0.0  # the learning rate falls along a cosine to this part of the first
    milestones: tuple[float, ...] = ()  # or to a tenth at these fractions of training
    init_std: float = 0.0  # of the first weights; biases start at 0
    standardize: bool = True  # features, by mean and deviation of those of the training images
    augment: bool = False  # training images, in each epoch anew: random resized crop and flip
    best_on_test: bool = False  # report the best epoch too, as the paper did

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1:
            raise UserError(
                f"linear.epochs is {self.epochs} and linear.batch_size {self.batch_size}; "
                "both must be 1 or more"
            )
        if not self.lr or min(self.lr) <= 0:
            raise UserError(f"linear.lr is {self.lr}; give some above 0")

    def sgd(self) -> Sgd:
        """The optimizer at learning rate 1."""
        return Sgd(
            lr=1.0,
            weight_decay=0.0,
            scale_lr_by_batch="linear" if self.scale_lr_by_batch else "none",
            cosine_per="step",
            end_factor=self.end_factor,
            milestones=self.milestones,
            nesterov=self.nesterov,
        )


_AUGMENTED = LinearProbe(standardize=False, augment=True, scale_lr_by_batch=True)
_LIGHTLY = dataclasses.replace(
    _AUGMENTED,
    lr=(0.1,),
    nesterov=False,
    end_factor=0.001,
    init_std=0.0255,  # torch's uniform start at 512 features has this deviation
    best_on_test=True,
)

# xyupeng/ContrastiveCrop, DDP_linear.py, small images. Reports the best epoch on the test images.
_CONTRASTIVE_CROP = dataclasses.replace(
    _AUGMENTED,
    epochs=100,
    lr=(10.0,),
    batch_size=512,
    scale_lr_by_batch=False,
    nesterov=False,
    milestones=(0.6, 0.8),
    init_std=0.01,
    best_on_test=True,
)

# By what they are from: `sweep` is ours, the others the papers' released code.
PRESETS = {
    "sweep": LinearProbe(),
    # benji2264/s3same, callbacks.py: SAMCLR. Reports the best epoch on the test images.
    "s3same": dataclasses.replace(_LIGHTLY, batch_size=128),
    # lightly 1.4.14, utils/benchmarking/linear_classifier.py
    "lightly": _LIGHTLY,
    # google-research/simclr, and SimCLR (arXiv 2002.05709), appendix B.6
    "simclr": dataclasses.replace(_AUGMENTED, lr=(0.1,), batch_size=4096),
    # deepmind-research/byol, configs/eval.py; Haiku's start at 2048 features
    "byol": dataclasses.replace(_AUGMENTED, epochs=80, lr=(0.2,), batch_size=1024, init_std=0.0221),
    "contrastive_crop": _CONTRASTIVE_CROP,
    # facebookresearch/moco, main_lincls.py; also ContrastiveCrop on ImageNet
    "moco": dataclasses.replace(_CONTRASTIVE_CROP, lr=(30.0,), batch_size=256),
}
