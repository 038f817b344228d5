"""Views to look at: what a run with a config would learn from."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxssl.config import build, build_method, canvas_for
from jaxssl.data import open_source
from jaxssl.data.canvas import load_canvas
from jaxssl.image.augment import NORMALIZE
from jaxssl.views import ViewConfig, make_views


def draw_views(
    config: ConfigDict, indices: Sequence[int] = range(4), *, seed: int = 0
) -> list[np.ndarray]:
    """Random views of some images of `config.data.source`: one f32[b, s, s, 3] for each view.

    Cut and coloured as in training, colours in [0, 1]. A sampler that looks at images between
    epochs has not done so yet.

    Args:
      config: of a run, as `load_config` returns it.
      indices: of the b images.
      seed: another one gives other views.

    Raises:
      UserError: the sampler or the method needs regions and the source has none.
    """
    method, _ = build_method(config)
    sampler, views = build("sampler", config.sampler), ViewConfig(**config.views.to_dict())
    source = open_source(config.data.source, seed=config.seed)
    spec = canvas_for(config, source, sampler, method)
    canvases = [load_canvas(source, i, spec) for i in indices]
    batch = {name: np.stack([c[name] for c in canvases]) for name in canvases[0]}
    batch["index"] = np.array(indices, np.int32)

    @jax.jit
    def draw(batch: dict[str, jax.Array]) -> list[jax.Array]:
        memory = sampler.init(len(source))
        cut, _ = make_views(jax.random.key(seed), batch, memory, sampler, views)
        mean, deviation = (jnp.array(s)[None, None, None] for s in NORMALIZE[views.normalize])
        return [jnp.clip(view.image * deviation + mean, 0, 1) for view in cut]

    return [np.asarray(images) for images in draw(batch)]
