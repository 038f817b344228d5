"""Segment Anything (arXiv 2304.02643): its automatic mask generator on a grid of points.

The model and the generator are those of the package `segment-anything` (the extra `sam`); the
parameters are those of its `SamAutomaticMaskGenerator`, with its defaults, which are the paper's.
"""

import contextlib
import dataclasses
import functools
import pathlib
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from jaxssl.data.source import BrokenImage, Example
from jaxssl.errors import UserError
from mask_tools.regions import Region

_FROM = "https://dl.fbaipublicfiles.com/segment_anything/"
OFFICIAL = {  # the address of each model's file of weights
    "vit_b": _FROM + "sam_vit_b_01ec64.pth",
    "vit_l": _FROM + "sam_vit_l_0b3195.pth",
    "vit_h": _FROM + "sam_vit_h_4b8939.pth",
}
_HQ_ONLY = "mask_decoder.hf_token.weight"  # a weight that SAM does not have
_WIDTH = "image_encoder.pos_embed"  # whose last axis tells the model types apart
_PRECISIONS = ("auto", "float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class SamConfig:
    """The model, its device, and the options of the automatic mask generator."""

    needs_original_size: ClassVar[bool] = False

    model_type: str = "vit_h"
    checkpoint: str = ""
    device: str = "auto"
    precision: str = "auto"
    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0

    def check(self, official: Mapping[str, str]) -> None:
        """Raises `UserError` for options that are wrong whatever the weights."""
        if self.model_type not in official:
            raise UserError(f"no model {self.model_type!r}; --model-type {', '.join(official)}")
        if self.precision not in _PRECISIONS:
            raise UserError(f"--precision {self.precision}: choose {', '.join(_PRECISIONS)}")
        if min(self.points_per_side, self.points_per_batch) < 1:
            raise UserError("--points-per-side and --points-per-batch must be at least 1")
        if not pathlib.Path(self.checkpoint).is_file():
            raise UserError(
                f"--checkpoint {self.checkpoint or '(none)'} is no file; "
                f"{_download_hint(official, self.model_type)}"
            )
        _import_first()


@dataclasses.dataclass(frozen=True)
class Sam(SamConfig):
    """Segment Anything, model type vit_b, vit_l or vit_h; --checkpoint is its file of weights.

    --device is auto, cpu, cuda, cuda:1 or mps; --precision is that of autocast: auto is float16 on
    an NVIDIA GPU, float32 elsewhere. The defaults of the rest are the paper's.
    """

    def __post_init__(self) -> None:
        self.check(OFFICIAL)

    def __call__(self, example: Example) -> list[Region]:
        """The masks of the image, as its generator orders them."""
        return generate(_generator(self), example)


@functools.lru_cache(maxsize=1)
def _generator(parameters: Sam) -> Any:
    """Loaded once in a process."""
    with installed():
        import segment_anything as library
    model = load(parameters, library.sam_model_registry, OFFICIAL)
    return make_generator(library.SamAutomaticMaskGenerator, model, parameters)


def _import_first() -> None:
    """Loads torchvision before a tfds: source loads TensorFlow: the other way round ends Python.

    Both bring LLVM; seen with torchvision 0.29 and TensorFlow 2.21.
    """
    if "tensorflow" in sys.modules and "torchvision" not in sys.modules:
        raise UserError("SAM cannot be loaded after TensorFlow; make it before a tfds: source")
    with installed():
        import torchvision  # noqa: F401


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Raises `UserError`, naming what to install, where a package is missing."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{error}; SAM needs torch and its own packages: pip install 'jaxssl[sam]'"
        ) from error


def load(
    parameters: SamConfig,
    registry: Mapping[str, Callable[[], Any]],
    official: Mapping[str, str],
) -> Any:
    """The model with its weights, on its device; `UserError` if they are not of its type."""
    import torch

    model = registry[parameters.model_type]()
    weights = _read(parameters, official)
    expected = model.state_dict()
    _check_type(weights, expected, parameters, official)
    model.load_state_dict({name: weights[name] for name in expected})
    name = parameters.device
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        model.to(torch.device(name)).eval()
    except (RuntimeError, AssertionError) as error:  # no such device, or no torch built for it
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--device {name} cannot be used ({reason}); give auto, cpu, cuda, cuda:1 or mps"
        ) from error
    _set_precision(model, parameters.precision)
    return model


def _set_precision(model: Any, precision: str) -> None:
    """Lets the two networks compute by autocast; what follows them takes float32 alone."""
    import torch

    kind = model.device.type
    if precision == "auto":
        precision = "float16" if kind == "cuda" else "float32"
    if precision == "float32":
        return

    def reduced(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **named: Any) -> Any:
            with torch.autocast(kind, getattr(torch, precision)):
                return _to_float(forward(*args, **named))

        return run

    for network in (model.image_encoder, model.mask_decoder):
        network.forward = reduced(network.forward)


def _to_float(output: Any) -> Any:
    if isinstance(output, list | tuple):
        return type(output)(map(_to_float, output))
    return output.float()


def _read(parameters: SamConfig, official: Mapping[str, str]) -> dict[str, Any]:
    import torch

    try:
        weights = torch.load(parameters.checkpoint, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{parameters.checkpoint} is damaged or cut short, or holds no weights; "
            f"{_download_hint(official, parameters.model_type)}"
        ) from error
    if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
        raise UserError(
            f"{parameters.checkpoint} holds no weights of SAM; "
            f"{_download_hint(official, parameters.model_type)}"
        )
    return weights


def _check_type(
    weights: Mapping[str, Any],
    expected: Mapping[str, Any],
    parameters: SamConfig,
    official: Mapping[str, str],
) -> None:
    """Raises `UserError` if the weights are of another model, naming that."""
    what = f"{parameters.checkpoint} holds weights of"
    if (_HQ_ONLY in weights) != (_HQ_ONLY in expected):
        kind, name = ("HQ-SAM", "hq_sam") if _HQ_ONLY in weights else ("SAM", "sam")
        raise UserError(f"{what} {kind}: give --segmenter {name}, or other weights")
    wrong = [n for n in expected if n not in weights or weights[n].shape != expected[n].shape]
    if wrong:
        width = weights[_WIDTH].shape[-1] if _WIDTH in weights else 0
        kind = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}.get(width, "another model")
        raise UserError(
            f"{what} {kind}, not of {parameters.model_type} ({wrong[0]} differs): give the "
            f"--model-type that they are of, or {_download_hint(official, parameters.model_type)}"
        )


def _download_hint(official: Mapping[str, str], model_type: str) -> str:
    address = official[model_type]
    return f"get {address.rpartition('/')[2]} from {address}"


def make_generator(kind: Callable[..., Any], model: Any, parameters: SamConfig) -> Any:
    """The automatic mask generator of a library, with these parameters."""
    options = dataclasses.asdict(parameters)
    for name in ("model_type", "checkpoint", "device", "precision"):
        del options[name]
    with installed():  # it imports OpenCV where --min-mask-region-area needs it
        generator = kind(model, output_mode="coco_rle", **options)
    if model.device.type == "mps":  # which has no float64, in which the points are given
        transform = generator.predictor.transform
        apply = transform.apply_coords
        transform.apply_coords = lambda *points: apply(*points).astype(np.float32)
    return generator


def generate(generator: Any, example: Example) -> list[Region]:
    """The masks that a generator finds in the image."""
    import torch

    size = example.image.shape[0], example.image.shape[1]
    resize = generator.predictor.transform
    if min(resize.get_preprocess_shape(*size, resize.target_length)) < 1:  # very long and thin
        raise BrokenImage(
            f"{example.key}: SAM takes no image of {size} pixels: at its own size nothing is left"
        )
    try:
        found = generator.generate(example.image)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{example.key}: the GPU is out of memory; lower --points-per-batch or give --max-side"
        ) from error
    return [
        Region(mask["segmentation"]["counts"].encode(), size, mask["predicted_iou"])
        for mask in found
    ]
