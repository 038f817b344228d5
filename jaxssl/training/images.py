"""The images that a run learns from: their source, what is kept of each, and their batches."""

import logging

import jax
from ml_collections import ConfigDict

from jaxssl import distributed, sharding
from jaxssl.config import build
from jaxssl.data import Source, open_source
from jaxssl.data.canvas import CanvasSpec, choose_pixels
from jaxssl.data.loading import sample_sizes
from jaxssl.data.pipeline import Pipeline, open_pipeline
from jaxssl.errors import UserError
from jaxssl.methods import Method
from jaxssl.samplers import Sampler
from jaxssl.views import ViewConfig

log = logging.getLogger("jaxssl")


def open_images(config: ConfigDict, method: Method) -> tuple[Source, CanvasSpec]:
    """The images to learn from, and what is kept of each; nothing is decoded but a sample of them.

    Raises UserError if the method cannot learn from them.
    """
    source = open_source(config.data.source, seed=config.seed)
    canvas = canvas_for(config, source, build("sampler", config.sampler), method)
    views = ViewConfig(**config.views.to_dict()).specs()
    method.check(batch_size=config.batch_size, num_examples=len(source), views=views)
    return source, canvas


def canvas_for(config: ConfigDict, source: Source, sampler: Sampler, method: Method) -> CanvasSpec:
    """The canvas that sampler, method and views need.

    Args:
      config: of the run; of its sections `data` and `views`.
      source: the images to learn from.
      sampler: as the config describes it.
      method: as the config describes it.

    Raises:
      UserError: they need regions and the source has none.
    """
    parts: dict[str, Sampler | Method] = {"sampler": sampler, "method": method}
    needing = [f"{name} {type(p).__name__}" for name, p in parts.items() if p.needs_regions]
    if needing and not source.has_regions:
        raise UserError(
            f"{' and '.join(needing)} cannot do without regions and {source.spec} has none; make "
            f"them: python -m mask_tools.export --source {source.spec} --segmenter fh --out "
            "data/regions, then train with --config.data.source=records:data/regions"
        )
    objects = config.data.max_objects if sampler.needs_regions else 0
    planes = config.data.region_planes if method.needs_regions else 0
    sides = [config.views.size] + [config.views.local_size] * bool(config.views.num_local)
    pixels = config.data.pixels or choose_pixels(sample_sizes(source), len(source))
    return CanvasSpec(pixels, (min(sides), max(sides)), objects, planes)


def open_data(
    config: ConfigDict, source: Source, canvas: CanvasSpec, device_bytes: int
) -> Pipeline:
    """The pipeline that yields batches of canvases, decoded where its mode wants that.

    `device_bytes`, the memory of a device, decides on the mode "auto".
    """
    pipeline = open_pipeline(
        source,
        canvas,
        batch_size=config.batch_size,
        seed=config.seed,
        mode=config.data.input,
        workers=config.data.workers,
        cache_dir=config.data.cache_dir or None,
        device_bytes=device_bytes,
        devices=jax.device_count(),
        share=sharding.share(),
        progress=distributed.is_first(),
    )
    log.info("%s: %d images; %s", source.spec, pipeline.num_examples, pipeline.reason)
    if cut := canvas.describe_cut(source):
        log.info("%s: %s", source.spec, cut)
    return pipeline
