"""Segment Anything (arXiv 2304.02643) and HQ-SAM (arXiv 2306.01567): masks from a grid of points.

Models and generators are those of the packages `segment-anything` and `segment-anything-hq` (the
extra `sam`); the parameters are those of their `SamAutomaticMaskGenerator`, with its defaults,
which are SAM's paper's. That of HQ-SAM gives one mask for each point, the best of SAM's with the
finer one added, where SAM's own gives three.
"""

import dataclasses
import functools
import pathlib
import pickle
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from jaxssl.data.source import BrokenImage, Example
from jaxssl.errors import UserError
from mask_tools.regions import Region
from mask_tools.segmenters.network import (
    Network,
    autocast,
    enough_memory,
    import_first,
    installed,
    move,
    to_float,
)

_SAM_FROM = "https://dl.fbaipublicfiles.com/segment_anything/"
_HQ_SAM_FROM = "https://huggingface.co/lkeab/hq-sam/resolve/main/"
_HQ_ONLY = "mask_decoder.hf_token.weight"  # a weight that SAM does not have
_WIDTH = "image_encoder.pos_embed"  # whose last axis tells the model types apart


@dataclasses.dataclass(frozen=True)
class SamConfig(Network):
    """The model, and the options of the automatic mask generator."""

    needs_original_size: ClassVar[bool] = False
    official: ClassVar[Mapping[str, str]]  # the address of each model type's file of weights

    model_type: str = "vit_h"
    checkpoint: str = ""
    crop_nms_thresh: float = 0.7
    min_mask_region_area: int = 0

    def __post_init__(self) -> None:
        if self.model_type not in self.official:
            types = ", ".join(self.official)
            raise UserError(f"no model {self.model_type!r}; --model-type {types}")
        super().__post_init__()
        if not pathlib.Path(self.checkpoint).is_file():
            raise UserError(
                f"--checkpoint {self.checkpoint or '(none)'} is not a file; {self.download_hint}"
            )
        import_first("sam")

    @property
    def download_hint(self) -> str:
        """The address of the weights, for an error message."""
        address = self.official[self.model_type]
        return f"get {address.rpartition('/')[2]} from {address}"

    def __call__(self, example: Example) -> list[Region]:
        """The masks of the image, as its generator orders them."""
        return _generate(_generator(self), example)


@dataclasses.dataclass(frozen=True)
class Sam(SamConfig):
    """Segment Anything, model type vit_b, vit_l or vit_h; --checkpoint is its file of weights.

    --device is auto, cpu, cuda, cuda:1 or mps; --precision is that of autocast: auto is float16 on
    an NVIDIA GPU, float32 elsewhere. The defaults of the rest are the paper's.
    """

    official: ClassVar[Mapping[str, str]] = {
        "vit_b": _SAM_FROM + "sam_vit_b_01ec64.pth",
        "vit_l": _SAM_FROM + "sam_vit_l_0b3195.pth",
        "vit_h": _SAM_FROM + "sam_vit_h_4b8939.pth",
    }


@dataclasses.dataclass(frozen=True)
class HqSam(SamConfig):
    """HQ-SAM, model type vit_tiny, vit_b, vit_l or vit_h, with the options of sam."""

    official: ClassVar[Mapping[str, str]] = {
        name: f"{_HQ_SAM_FROM}sam_hq_{name}.pth" for name in ("vit_tiny", "vit_b", "vit_l", "vit_h")
    }


@functools.lru_cache(maxsize=1)
def _generator(parameters: SamConfig) -> Any:
    """The automatic mask generator, loaded once in a process."""
    with installed("sam"), warnings.catch_warnings():
        # HQ-SAM's imports names that timm has moved, and registers models under timm's names.
        warnings.simplefilter("ignore")
        if isinstance(parameters, HqSam):
            import segment_anything_hq as library
        else:
            import segment_anything as library
    model = _load(parameters, library.sam_model_registry[parameters.model_type])
    options = dataclasses.asdict(parameters)
    for name in ("model_type", "checkpoint", "device", "precision"):
        del options[name]
    with installed("sam"):  # it imports OpenCV where --min-mask-region-area needs it
        generator = library.SamAutomaticMaskGenerator(model, output_mode="coco_rle", **options)
    if model.device.type == "mps":  # which has no float64, in which the points are given
        transform = generator.predictor.transform
        apply = transform.apply_coords
        transform.apply_coords = lambda *points: apply(*points).astype(np.float32)
    return generator


def _load(parameters: SamConfig, build: Callable[[], Any]) -> Any:
    """The model with its weights, on its device; `UserError` if they are not of its type."""
    model = build()
    weights = _read(parameters)
    expected = model.state_dict()
    _check_type(weights, expected, parameters)
    model.load_state_dict({name: weights[name] for name in expected})
    move(model, parameters.device)
    _set_precision(model, parameters.precision)
    return model


def _set_precision(model: Any, precision: str) -> None:
    """Lets the two networks compute by autocast; what follows them takes float32 alone."""

    def reduced(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **named: Any) -> Any:
            with autocast(model.device, precision):
                return to_float(forward(*args, **named))

        return run

    for network in (model.image_encoder, model.mask_decoder):
        network.forward = reduced(network.forward)


def _read(parameters: SamConfig) -> dict[str, Any]:
    import torch

    path, hint = parameters.checkpoint, parameters.download_hint
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is damaged or cut short, or holds no weights; {hint}") from error
    if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
        raise UserError(f"{path} holds no weights of SAM; {hint}")
    return weights


def _check_type(
    weights: Mapping[str, Any], expected: Mapping[str, Any], parameters: SamConfig
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
            f"--model-type that they are of, or {parameters.download_hint}"
        )


def _generate(generator: Any, example: Example) -> list[Region]:
    """The masks that a generator finds in the image."""
    size = example.size
    resize = generator.predictor.transform
    if min(resize.get_preprocess_shape(*size, resize.target_length)) < 1:  # very long and thin
        raise BrokenImage(
            f"{example.key}: SAM takes no image of {size} pixels: at its own size nothing is left"
        )
    with enough_memory(example.key):
        found = generator.generate(example.image)
    return [
        Region(mask["segmentation"]["counts"].encode(), size, mask["predicted_iou"])
        for mask in found
    ]
