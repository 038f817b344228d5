"""The parts that segmenters by networks of torch share: device, precision, order of loading.

A network takes all cores, or a GPU, by itself: it is run in one process, or in one for each GPU.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

from jaxssl.errors import UserError
from mask_tools.segmenters.fields import take_fields

_PRECISIONS = ("auto", "float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A segmenter that is a network: the options that all have; the defaults are SAM's paper's."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
    precision: str = "auto"  # of autocast; auto is float16 on an NVIDIA GPU, float32 elsewhere
    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1

    def __post_init__(self) -> None:
        take_fields(self)
        if self.precision not in _PRECISIONS:
            raise UserError(f"--precision {self.precision}: choose {', '.join(_PRECISIONS)}")
        if min(self.points_per_side, self.points_per_batch) < 1:
            raise UserError("--points-per-side and --points-per-batch must be at least 1")


def import_first(extra: str) -> None:
    """Loads torchvision before a tfds: source loads TensorFlow: the other way round ends Python.

    Both bring LLVM; seen with torchvision 0.29 and TensorFlow 2.21. `extra` is that of the package
    which brings torchvision.
    """
    if "tensorflow" in sys.modules and "torchvision" not in sys.modules:
        raise UserError("SAM cannot be loaded after TensorFlow; make it before a tfds: source")
    with installed(extra):
        import torchvision  # noqa: F401


@contextlib.contextmanager
def installed(extra: str) -> Iterator[None]:
    """Raises `UserError`, naming the extra to install, where a package is missing."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{error}; --segmenter needs torch and more: pip install 'jaxssl[{extra}]'"
        ) from error


def move(model: Any, device: str) -> None:
    """Moves a model to the device of that name, for inference; `UserError` if there is none."""
    import torch

    if device == "auto":
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        model.to(torch.device(device)).eval()
    except (RuntimeError, AssertionError) as error:  # no such device, or no torch built for it
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--device {device} cannot be used ({reason}); give auto, cpu, cuda, cuda:1 or mps"
        ) from error


def autocast(device: Any, precision: str) -> contextlib.AbstractContextManager[Any]:
    """A context in which networks compute with that precision, on weights of float32."""
    import torch

    if precision == "auto":
        precision = "float16" if device.type == "cuda" else "float32"
    if precision == "float32":
        return contextlib.nullcontext()
    kinds = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    return torch.autocast(device.type, kinds[precision])


def to_float(output: Any) -> Any:
    """The tensors of a network's output as float32: what follows them takes nothing else."""
    if isinstance(output, list | tuple):
        return type(output)(map(to_float, output))
    return output.float()


@contextlib.contextmanager
def enough_memory(examples: str) -> Iterator[None]:
    """Raises `UserError`, saying what to lower, where the GPU has too little for `examples`."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{examples}: the GPU is out of memory; lower --points-per-batch or give --max-side"
        ) from error
