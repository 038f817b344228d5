"""Masks by any model of Hugging Face's task `mask-generation` (the extra `transformers`).

SAM (arXiv 2304.02643), HQ-SAM (2306.01567), SAM 2 (2408.00714), SAM 3 (2511.16719) and EdgeTAM
(2501.07256): a folder that `save_pretrained` wrote, or a name on the hub, of which the newest
revision is fetched once; then everything is read from that folder.
"""

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from jaxssl.data.source import BrokenImage, Example
from jaxssl.errors import UserError
from mask_tools.regions import Region
from mask_tools.segmenters.network import enough_memory, import_first, installed, move
from mask_tools.segmenters.point_masks import PointOptions, find_masks

_EXTRA = "transformers"
_WEIGHTS, _SETTINGS = "*.safetensors", "*.json"
_GIVE = (
    "give --model a folder written by save_pretrained or a name such as facebook/sam2.1-hiera-large"
)


@dataclasses.dataclass(frozen=True)
class Transformers(PointOptions):
    """Any model of Hugging Face's task mask-generation: SAM, HQ-SAM, SAM 2, SAM 3, EdgeTAM.

    --model is a folder with config.json, preprocessor_config.json and weights in safetensors, or a
    name on the hub, such as facebook/sam2.1-hiera-large, of which --revision is a branch, tag or
    commit. --images-per-batch go through the encoder at once. The other options are those of sam,
    but that one suppression (--box-nms-thresh) goes over an image and its crops. Points are spread
    over the whole image; --library-points puts them where the library's pipeline does, which leaves
    a part of images without any that SAM 2, SAM 3 and EdgeTAM squash to a square.
    """

    needs_original_size: ClassVar[bool] = False

    model: str = ""
    revision: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images_per_batch < 1:
            raise UserError("--images-per-batch must be at least 1")
        if self.points_per_side < self.crop_n_points_downscale_factor**self.crop_n_layers:
            raise UserError(
                "no point is left in the smallest crops; raise --points-per-side or lower "
                "--crop-n-layers or --crop-n-points-downscale-factor"
            )
        import_first(_EXTRA)
        folder = self.folder()
        if not pathlib.Path(self.model).is_dir():  # its folder is named for the commit
            object.__setattr__(self, "revision", folder.name)
        _check_kind(folder)

    def folder(self) -> pathlib.Path:
        """The folder with the model's files; `UserError` if it is not there nor can be fetched."""
        return _fetch(self.model, self.revision)

    def checksums(self) -> dict[str, str]:
        """Checksums of the weights and of the settings; where that is one file, its sha256."""
        files = {"model": _WEIGHTS, "model_config": _SETTINGS}
        return {name: _checksum(self.folder(), pattern) for name, pattern in files.items()}

    def __call__(self, example: Example) -> list[Region]:
        """The masks of the image, best first."""
        (found,) = self.segment_all([example])
        if isinstance(found, BrokenImage):
            raise found
        return found

    def segment_all(self, examples: Sequence[Example]) -> list[list[Region] | BrokenImage]:
        """The masks of each of the images, or why it can have none."""
        if not examples:
            return []
        model, processor = _load(self)
        longest = processor.size.longest_edge  # None: images are squashed to a square
        broken = {
            example.key: BrokenImage(
                f"{example.key}: the model takes no image of {example.size} pixels: at "
                "its own size nothing is left"
            )
            for example in examples
            if longest and int(min(size := example.size) * longest / max(size) + 0.5) < 1
        }
        whole = [example for example in examples if example.key not in broken]
        with enough_memory(" ".join(example.key for example in whole)):
            masks = iter(find_masks(model, processor, [e.image for e in whole], self))
        return [broken.get(example.key) or next(masks) for example in examples]


@functools.lru_cache(maxsize=1)
def _fetch(model: str, revision: str) -> pathlib.Path:
    """The folder that `model` names, or into which its files have been fetched from the hub."""
    if not model or pathlib.Path(model).is_dir():
        if not model or revision:
            raise UserError(
                f"--model {model or '(none)'} --revision {revision or '(none)'}: {_GIVE}"
            )
        return pathlib.Path(model)
    with installed(_EXTRA):
        import huggingface_hub
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(
                model, revision=revision or None, allow_patterns=[_WEIGHTS, _SETTINGS]
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise UserError(
            f"--model {model} is neither a folder nor available on the hub ({_reason(error)}); "
            f"{_GIVE}"
        ) from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())


def _checksum(folder: pathlib.Path, pattern: str) -> str:
    """The sha256 of the one file of that pattern, or of the lines that sha256sum prints of many."""
    sums = {}
    for path in sorted(folder.glob(pattern)):
        with path.open("rb") as file:
            sums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    if len(sums) == 1:
        return next(iter(sums.values()))
    lines = [f"{value}  {name}\n" for name, value in sums.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _check_kind(folder: pathlib.Path) -> None:
    """Raises `UserError` if the folder holds no model that makes masks."""
    with installed(_EXTRA):
        from huggingface_hub.errors import StrictDataclassError
        from transformers import MODEL_FOR_MASK_GENERATION_MAPPING, AutoConfig
    for pattern in ("config.json", "*processor_config.json", _WEIGHTS):
        if not any(folder.glob(pattern)):
            raise UserError(f"--model {folder} has no {pattern}; {_GIVE}")
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, StrictDataclassError) as error:  # no JSON, or what nobody knows
        raise UserError(f"--model {folder} cannot be read: {_reason(error)}; {_GIVE}") from error
    if type(config) not in MODEL_FOR_MASK_GENERATION_MAPPING:
        kinds = ", ".join(sorted(kind.model_type for kind in MODEL_FOR_MASK_GENERATION_MAPPING))
        raise UserError(
            f"--model {folder} is a {config.model_type}, which makes no masks from points; give "
            f"one of {kinds}"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within, transformers logs errors only, and shows no progress bar."""
    from transformers.utils import logging

    shown, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(shown)
        if bar:
            logging.enable_progress_bar()


@functools.lru_cache(maxsize=1)
def _load(options: Transformers) -> tuple[Any, Any]:
    """The model on its device and its processor, loaded once in a process."""
    with installed(_EXTRA):
        import torch
        from safetensors import SafetensorError
        from transformers import AutoImageProcessor, AutoModelForMaskGeneration
    folder = options.folder()
    try:
        with _quiet():
            model, report = AutoModelForMaskGeneration.from_pretrained(
                folder,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in its report
            )
            processor = AutoImageProcessor.from_pretrained(folder)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(
            f"--model {folder} is damaged or cut short ({_reason(error)}); {_GIVE}"
        ) from error
    wrong = sorted([*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])])
    if wrong:
        raise UserError(
            f"--model {folder} has no weights for {len(wrong)} of its parts, such as {wrong[0]}; "
            f"{_GIVE}"
        )
    side = model.config.prompt_encoder_config.image_size
    given = processor.size.longest_edge or processor.size.height
    if side != given:
        raise UserError(
            f"--model {folder} takes images of {side} pixels a side, and its "
            f"preprocessor_config.json makes them {given}; {_GIVE}"
        )
    move(model, options.device)
    return model, processor
