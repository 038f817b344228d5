"""Masks that another program made: MCG, SAM 2, Mask2Former, whatever writes one of two formats."""

import dataclasses
import functools
import pathlib
import re
from collections import defaultdict
from typing import ClassVar

import numpy as np

from jaxssl.checked_files import read_json, read_npz
from jaxssl.data.label_maps import find
from jaxssl.data.source import BrokenImage, Example
from jaxssl.errors import UserError
from mask_tools.regions import Region, from_mask
from mask_tools.segmenters import coco_json


@dataclasses.dataclass(frozen=True)
class Proposals:
    """Masks that another program made, in one of two formats:

    PATH.json  COCO results: a list of {"image_id", "segmentation": {"size", "counts"}, "score"};
               an image_id is the image's path in its folder, its name with or without the ending,
               or the number that its name ends with
    PATH/      a folder of KEY.npz with `masks` bool[n, h, w] and, if it likes, `scores` f32[n]

    Those of less than the minimum score are left out, and all but the best `top` of an image, if
    that is not 0.
    """

    needs_original_size: ClassVar[bool] = True

    path: str = ""
    min_score: float = 0.0
    top: int = 0

    def __post_init__(self) -> None:
        if not self.path or not pathlib.Path(self.path).exists():
            raise UserError(
                f"--path {self.path or '(none)'} is no file of COCO results, nor a folder of .npz"
            )
        if self.top < 0:
            raise UserError(f"--top {self.top} is negative; give 0 for all masks")

    def __call__(self, example: Example) -> list[Region]:
        """The masks of the image, best first."""
        path = pathlib.Path(self.path)
        found = _from_npz(path, example) if path.is_dir() else _from_results(self.path, example)
        found = [region for region in found if region.score >= self.min_score]
        found.sort(key=lambda region: -region.score)
        return found[: self.top or None]


def _from_results(path: str, example: Example) -> list[Region]:
    key = pathlib.PurePath(example.key)
    number = re.search(r"\d+$", key.stem)
    names = (example.key, str(key.with_suffix("")), key.name, key.stem)
    by_image = _results(path)
    found = next((by_image[name] for name in names if name in by_image), None)
    if found is None:
        found = by_image.get(int(number[0]), []) if number else []
    return coco_json.decode(found, path, example)


@functools.lru_cache(maxsize=1)
def _results(path: str) -> dict[str | int, list[coco_json.Annotation]]:
    """The results of each image, by its id."""
    advice = "give a list of COCO results with an image_id each, or make it again"
    content = read_json(pathlib.Path(path), list[coco_json.Annotation], advice=advice)
    by_image: dict[str | int, list[coco_json.Annotation]] = defaultdict(list)
    for result in content:
        by_image[result["image_id"]].append(result)
    return dict(by_image)


def _from_npz(root: pathlib.Path, example: Example) -> list[Region]:
    path = find(root, example.key, (".npz",))
    try:
        arrays = read_npz(path, advice="make it again")
    except UserError as error:
        raise BrokenImage(f"{example.key}: {error}") from error
    masks = arrays.get("masks", np.zeros(0))
    scores = arrays.get("scores", np.ones(masks.shape[:1]))
    if masks.shape[1:] != example.image.shape[:2] or scores.shape != masks.shape[:1]:
        raise BrokenImage(
            f"{example.key}: {path} holds masks {masks.shape} and scores {scores.shape} where the "
            f"image has {example.image.shape[:2]} pixels"
        )
    if not np.isfinite(scores).all():
        raise BrokenImage(f"{example.key}: {path} has scores that are no numbers")
    return [from_mask(m.astype(bool), score=float(s)) for m, s in zip(masks, scores, strict=True)]
