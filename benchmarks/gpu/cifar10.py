"""SimCLR on CIFAR-10 as lightly's benchmark has it, there kNN 0.835 after 200 epochs.

python -m jaxssl.train --config benchmarks/gpu/cifar10.py --config.data.source=folder:CIFAR10 \
    --config.eval.datasets=folder:CIFAR10
"""

from ml_collections import ConfigDict

from jaxssl.config import base, defaults


def get_config() -> ConfigDict:
    """A batch of 512; no warmup, kNN as the run goes, no linear classifier."""
    config = base()
    config.epochs = 200
    config.batch_size = 512
    config.log_every = 97
    config.data.source = "folder:cifar10"
    config.data.pixels = 32 * 32
    config.data.input = "device"
    config.encoder = defaults("encoder", "resnet18", stem="cifar")
    config.method = defaults("method", "simclr", temperature=0.5, share_batch_norm=False)
    config.views.size = 32
    config.views.recipe = "contrastive_crop"  # strength 0.5, no blur
    config.views.normalize = "cifar10"
    config.optim = defaults("optim", "sgd", lr=0.12)
    config.eval.every = 15
    config.eval.linear = False
    config.eval.health = 0
    config.checkpoint.every = 10_000
    return config
