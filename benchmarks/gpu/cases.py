"""What `benchmarks/gpu.sh` measures, each as the config of a training on synthetic scenes."""

import dataclasses
import pathlib

from ml_collections import ConfigDict

from jaxssl.config import base, defaults

LINES = 5  # of metrics that the loop writes


@dataclasses.dataclass(frozen=True)
class Case:
    """What is trained."""

    encoder: str
    size: int  # of a view, pixels
    method: str
    batch_size: int
    steps: int  # of the loop
    region_crop: bool = False


def _resnet18(method: str, batch_size: int, **changes: bool) -> Case:
    return Case("resnet18", 128, method, batch_size, 500 * 256 // batch_size, **changes)


def _resnet50(method: str, **changes: bool) -> Case:
    return Case("resnet50", 224, method, 256, 80, **changes)


# In the order of what should be known first: time may end before they do.
CASES = {
    "resnet18_samclr_256": _resnet18("simclr", 256, region_crop=True),
    "resnet50_simclr_256": _resnet50("simclr"),
    "resnet18_detcon_s_256": _resnet18("detcon_s", 256),
    "resnet18_samclr_1024": _resnet18("simclr", 1024, region_crop=True),
    "resnet50_detcon_s_256": _resnet50("detcon_s"),
    "resnet18_simclr_256": _resnet18("simclr", 256),
    "resnet50_samclr_256": _resnet50("simclr", region_crop=True),
}


def make_config(name: str, scratch: pathlib.Path, images: int, small: bool) -> ConfigDict:
    """The config of a case.

    Args:
      name: a key of `CASES`.
      scratch: the folder with what is kept for a while, canvases among it.
      images: at most so many are drawn, but a batch of them at least.
      small: all of it tiny, to try the script out.
    """
    case, config = CASES[name], base()
    batch_size, steps = (8, 10) if small else (case.batch_size, case.steps)
    images = max(images // batch_size, 1) * batch_size
    config.batch_size = batch_size
    config.epochs = max(steps * batch_size // images, 1)
    config.log_every = max(steps // LINES, 1)
    config.checkpoint.every = steps
    config.data.source = f"scenes:{images}"
    config.data.input = "device"
    config.data.cache_dir = str(scratch / "cache")
    config.encoder = defaults("encoder", case.encoder, **({"width": 0.125} if small else {}))
    config.method = defaults("method", case.method)
    config.views.size = 64 if small else case.size
    if case.method == "detcon_s":
        config.views.recipe = "detcon_s"
    if case.region_crop:
        config.sampler = defaults("sampler", "region_crop", min_area=64)
    config.eval.health = 0
    return config
