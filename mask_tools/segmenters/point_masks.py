"""Masks from a grid of points (SAM, arXiv 2304.02643, section 5), for several images at once.

For models and processors of Hugging Face's task `mask-generation`, with the masks of its own
pipeline: an image and its crops are embedded, each point gives up to three masks with scores, and
those stay that score well, that change little when the threshold moves, that do not end at the edge
of a crop, and that no better one resembles.

Images go through the encoder in batches, points in batches through the decoder. Only masks with a
good score are enlarged to the image, a bounded number at a time, and leave the device as the
positions at which they change: all else would be memory.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxssl.data.rle import encode_changes
from jaxssl.data.source import Size
from mask_tools.regions import Region
from mask_tools.segmenters.network import Network, autocast, to_float

if TYPE_CHECKING:
    from torch import Tensor

_ENLARGED = 2**27  # pixels of masks that are enlarged at once: 512 MiB
_EDGE = 20.0  # pixels from the edge of a crop within which a mask ends at it


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointOptions(Network):
    """The options by which masks are found for several images at once."""

    images_per_batch: int = 4
    library_points: bool = False


class _Crop(NamedTuple):
    """A part of an image, or the whole of it."""

    image: int  # which of the images
    size: Size  # of the image
    box: tuple[int, int, int, int]  # x0 y0 x1 y1 in the image
    pixels: "Tensor"  # u8[3, h, w]
    points_per_side: int


class _Masks(NamedTuple):
    """Some masks of an image."""

    rle: list[bytes]
    score: "Tensor"  # f32[n]
    box: "Tensor"  # f32[n, 4]: x0 y0 x1 y1, of the first and last pixels


def find_masks(
    model: Any, processor: Any, images: Sequence[np.ndarray], options: PointOptions
) -> list[list[Region]]:
    """The masks of each of the images, best first.

    Args:
      model: of `mask-generation`, on its device.
      processor: of the model's images.
      images: u8[h, w, 3] each.
      options: by which masks are found.
    """
    import torch

    crops = [crop for i, image in enumerate(images) for crop in _cut(processor, i, image, options)]
    found: list[list[_Masks]] = [[] for _ in images]
    with torch.inference_mode():
        for start in range(0, len(crops), options.images_per_batch):
            some = crops[start : start + options.images_per_batch]
            inputs = processor(images=[crop.pixels for crop in some], return_tensors="pt")
            pixels = inputs["pixel_values"].to(model.device)
            with autocast(model.device, options.precision):
                embeddings = model.get_image_embeddings(pixels)
            for i, crop in enumerate(some):
                resized = (
                    inputs["reshaped_input_sizes"][i] if "reshaped_input_sizes" in inputs else None
                )
                points = _points(crop, pixels.shape[-2:], resized, options)
                for batch in points.to(model.device).split(options.points_per_batch):
                    masks, score = _decode(model, batch, _pick(embeddings, i), options)
                    found[crop.image] += _select(processor, masks, score, crop, resized, options)
        return [
            _suppress(masks, (image.shape[0], image.shape[1]), options.box_nms_thresh)
            for masks, image in zip(found, images, strict=True)
        ]


def _cut(processor: Any, number: int, image: np.ndarray, options: PointOptions) -> list[_Crop]:
    """The image and, layer by layer, its crops."""
    import torch

    boxes, _, pixels, _ = processor.generate_crop_boxes(
        torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
        1,
        crop_n_layers=options.crop_n_layers,
        overlap_ratio=options.crop_overlap_ratio,
        points_per_crop=1,
    )
    layers = [layer for layer in range(options.crop_n_layers + 1) for _ in range(4**layer)]
    factor = options.crop_n_points_downscale_factor
    return [
        _Crop(number, image.shape[:2], tuple(box), part, options.points_per_side // factor**layer)
        for box, part, layer in zip(boxes.int().tolist(), pixels, layers, strict=True)
    ]


def _points(
    crop: _Crop, side: Sequence[int], resized: "Tensor | None", options: PointOptions
) -> "Tensor":
    """The points of a crop, in pixels of the model's input: f32[n, 2], x and y.

    Args:
      crop: in which they are spread evenly.
      side: height and width of the model's input.
      resized: height and width of the crop in it, if padding fills it; None: the crop is squashed.
      options: the library's own points leave a part of a squashed image without any, as if it had
        been padded.
    """
    import torch

    height, width = crop.pixels.shape[-2:]
    size = list(side) if resized is None else resized.tolist()
    if options.library_points:
        scale = side[0] / max(height, width)
        size = [int(height * scale + 0.5), int(width * scale + 0.5)]
    n = crop.points_per_side
    line = torch.linspace(1 / (2 * n), 1 - 1 / (2 * n), n)
    y, x = torch.meshgrid(line, line, indexing="ij")
    x, y = x * width * (size[1] / width), y * height * (size[0] / height)
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def _pick(embeddings: Any, number: int) -> Any:
    """The embeddings of one image of a batch; they may be of several levels."""
    if isinstance(embeddings, list | tuple):
        return type(embeddings)(_pick(level, number) for level in embeddings)
    return embeddings[number : number + 1]


def _decode(
    model: Any, points: "Tensor", embedding: Any, options: PointOptions
) -> tuple["Tensor", "Tensor"]:
    """Masks f32[n, 1, s, s] as logits and their scores f32[n] of points f32[p, 2] in an image."""
    import torch

    given = {"image_embeddings": embedding}
    if isinstance(embedding, tuple):  # HQ-SAM's
        given = dict(zip(("image_embeddings", "intermediate_embeddings"), embedding, strict=True))
    labels = torch.ones((1, len(points), 1), dtype=torch.int64, device=points.device)
    with autocast(model.device, options.precision):
        output = model(input_points=points[None, :, None], input_labels=labels, **given)
    masks, score = to_float([output["pred_masks"][0], output["iou_scores"][0]])
    return masks.flatten(0, 1)[:, None], score.flatten()


def _select(
    processor: Any,
    masks: "Tensor",
    score: "Tensor",
    crop: _Crop,
    resized: "Tensor | None",
    options: PointOptions,
) -> list[_Masks]:
    """The good and stable masks of a crop, in the image."""
    good = score > options.pred_iou_thresh if options.pred_iou_thresh > 0 else score == score
    height, width = crop.pixels.shape[-2:]
    at_once = max(1, _ENLARGED // (height * width))
    found = []
    for some, their_score in zip(
        masks[good].split(at_once), score[good].split(at_once), strict=True
    ):
        if len(some):
            (large,) = processor.post_process_masks(
                [some],
                [[height, width]],
                reshaped_input_sizes=None if resized is None else [resized.tolist()],
                binarize=False,
            )
            found.append(_keep(large[:, 0], their_score, crop, options))
    return found


def _keep(logits: "Tensor", score: "Tensor", crop: _Crop, options: PointOptions) -> _Masks:
    """The stable ones of logits f32[n, h, w] that do not end at the edge of their crop."""
    import torch
    from torchvision.ops import masks_to_boxes

    if options.stability_score_thresh > 0:
        inner, outer = (
            (logits > offset).sum((1, 2))
            for offset in (options.stability_score_offset, -options.stability_score_offset)
        )
        stable = inner / outer > options.stability_score_thresh  # none where both are 0
        logits, score = logits[stable], score[stable]
    masks = logits > 0
    filled = masks.flatten(1).any(1)
    box = torch.zeros((len(masks), 4), device=masks.device)
    box[filled] = masks_to_boxes(masks[filled])
    x0, y0, x1, y1 = crop.box
    box += torch.tensor([x0, y0, x0, y0], device=box.device)
    height, width = crop.size
    edge, image = (
        torch.tensor(limits, dtype=box.dtype, device=box.device)
        for limits in (crop.box, (0, 0, width, height))
    )
    cut = ((box - edge).abs() <= _EDGE) & ((box - image).abs() > _EDGE)
    whole = ~cut.any(1)
    masks = torch.nn.functional.pad(masks[whole], (x0, width - x1, y0, height - y1))
    return _Masks(_encode(masks), score[whole], box[whole])


def _encode(masks: "Tensor") -> list[bytes]:
    """The run lengths of masks bool[n, h, w]."""
    import torch

    down = masks.transpose(1, 2).flatten(1)  # runs go down the columns
    changed = down ^ torch.nn.functional.pad(down, (1, 0))[:, :-1]
    number, position = changed.nonzero().T.cpu().numpy()
    parts = np.split(position, np.searchsorted(number, np.arange(1, len(masks))))
    size = masks.shape[1], masks.shape[2]
    return [encode_changes(part, size) for part in parts[: len(masks)]]


def _suppress(found: Sequence[_Masks], size: Size, threshold: float) -> list[Region]:
    """The masks of an image whose box no better one shares, best first."""
    import torch
    from torchvision.ops import nms

    if not found:
        return []
    rle = [counts for masks in found for counts in masks.rle]
    score = torch.cat([masks.score for masks in found])
    kept = nms(torch.cat([masks.box for masks in found]), score, threshold).tolist()
    values = score.tolist()
    return [Region(rle[i], size, values[i]) for i in kept]
