"""HQ-SAM (arXiv 2306.01567): Segment Anything with a token for finer masks, as SAMCLR uses it.

The model and the generator are those of the package `segment-anything-hq` (the extra `sam`). Its
generator gives one mask for each point, the best of SAM's with the finer one added, where SAM's
own gives three.
"""

import dataclasses
import functools
import warnings
from typing import Any

from jaxssl.data.source import Example
from mask_tools.regions import Region
from mask_tools.segmenters.sam import SamConfig, generate, installed, load, make_generator

_FROM = "https://huggingface.co/lkeab/hq-sam/resolve/main/"
OFFICIAL = {
    "vit_tiny": _FROM + "sam_hq_vit_tiny.pth",
    "vit_b": _FROM + "sam_hq_vit_b.pth",
    "vit_l": _FROM + "sam_hq_vit_l.pth",
    "vit_h": _FROM + "sam_hq_vit_h.pth",
}


@dataclasses.dataclass(frozen=True)
class HqSam(SamConfig):
    """HQ-SAM, model type vit_tiny, vit_b, vit_l or vit_h, with the options of sam."""

    def __post_init__(self) -> None:
        self.check(OFFICIAL)

    def __call__(self, example: Example) -> list[Region]:
        """The masks of the image, as its generator orders them."""
        return generate(_generator(self), example)


@functools.lru_cache(maxsize=1)
def _generator(parameters: HqSam) -> Any:
    """Loaded once in a process."""
    with warnings.catch_warnings(), installed():
        # The package imports names that timm has moved, and registers models under timm's names.
        warnings.simplefilter("ignore")
        import segment_anything_hq as library
    model = load(parameters, library.sam_model_registry, OFFICIAL)
    return make_generator(library.SamAutomaticMaskGenerator, model, parameters)
