"""The parts that DetCon_S and DetCon_B share (Hénaff et al., arXiv 2103.10957): regions, the loss.

    h    = f(x)                                   a grid of features                   section 3.1
    h_m  = sum_ij m_ij h[i, j] / sum_ij m_ij      their mean over a region m
    z_m  = g(h_m)                                 its projection
    l_mn = -log  exp(v_m v'_n / tau) / (exp(v_m v'_n / tau) + sum_k exp(v_m v_k / tau))     eq. (1)
    L    = sum of l_mn over all m, n that show one region in two views                      eq. (3)

with unit vectors v and v' that `detcon_s.py` and `detcon_b.py` define. As in google-deepmind/detcon
every view draws its regions on its own; a row's negatives are all other regions, those of its own
image and view too; several positives of a row share its softmax; each distinct region has the same
weight; and L is the sum over the views of the mean over all rows drawn. With one region, the whole
view, it is thus twice SimCLR's loss. A view in which no region is visible has that one region.

Only the grid is trained: with a ViT, evaluate its mean and not the class token.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxssl.errors import UserError, check_choice, check_range
from jaxssl.image import region_pooling
from jaxssl.losses import MAX_ENTRIES, contrastive, embedding_std
from jaxssl.methods.forward import forward, images, stack_views
from jaxssl.models.heads import MLP
from jaxssl.types import Features, Leaf, Tree, View, ViewSpec

log = logging.getLogger("jaxssl")


@flax.struct.dataclass
class Latents:
    """One vector for each region drawn in each view."""

    z: Leaf  # f32[v, b, r, d]
    region: Leaf  # i32[v, b, r]: id, among the regions of one image
    view: Leaf  # i32[v, b, r]: number of the view; if there is but one, of the cell of its grid


@dataclasses.dataclass(frozen=True)
class DetCon:
    """Options of both variants, and what they compute alike."""

    needs_regions: ClassVar[bool] = True
    remedies: ClassVar[str] = (
        "lower optim.lr or raise optim.warmup_epochs, lower method.temperature, raise batch_size, "
        "and look at the regions (python -m mask_tools.inspect)"
    )

    encoder: nn.Module
    temperature: float = 0.1
    num_regions: int = 16  # drawn in each view, with repeats (table 4: latents)
    # soft: mean over the region (the paper) | hard: each cell belongs to the region that covers
    # most of it (the released code) | cell: one cell drawn from the region (section 4.4)
    pooling: str = "soft"
    whole_view: bool = False  # the only region is the whole view (table 4: global)
    local_negatives: bool = True  # the other regions of an image are negatives
    # Images that are negatives of one another. 0: all of the batch (table 5: all neg) | 32: those
    # of one worker out of 128 (its row a) | 1: only the regions of the image itself
    images_compared: int = 0
    hidden: tuple[int, ...] = (2048,)  # widths of the hidden layers of g
    dim: int = 128  # of z
    share_batch_norm: bool = True  # of views of one size, or each has its own: `forward`

    def __post_init__(self) -> None:
        check_choice("method.pooling", self.pooling, ("soft", "hard", "cell"))
        check_range("method.num_regions", self.num_regions, "1 or more")
        check_range("method.images_compared", self.images_compared, "0 or more")

    def check(self, *, batch_size: int, num_examples: int, views: tuple[ViewSpec, ...]) -> None:
        """Raises UserError if regions could not be told apart, or have nothing to compare with.

        Warns where evaluation would read a class token, which no loss trains.
        """
        if len(views) < 2 and self.pooling != "cell":
            raise UserError(
                "DetCon on one view of each image compares cells of a region: "
                "set method.pooling=cell, or views.num_global=2"
            )
        if self.images_compared and batch_size % self.images_compared:
            raise UserError(
                f"method.images_compared {self.images_compared} does not divide "
                f"batch_size {batch_size}"
            )
        regions_compared = self.local_negatives and not self.whole_view and self.num_regions > 1
        if (self.images_compared or batch_size) == 1 and not regions_compared:
            raise UserError(
                "DetCon has no negatives where one image is compared with no other and its regions "
                "are not compared: set --config.batch_size=2 and --config.method.images_compared=0"
            )
        smallest = min(view.size for view in views)
        if not self.whole_view and self._cells(smallest) == 1:
            raise UserError(
                f"of a view of {smallest} pixels the encoder makes one cell, in which all regions "
                "look alike: take larger views, or encoder.stem=cifar"
            )
        if getattr(self.encoder, "pool", "mean") == "cls":
            log.warning(
                "DetCon trains the grid of features and not the class token, which tasks on whole "
                "images and the signs of a collapse would read: set --config.encoder.pool=mean"
            )

    def _cells(self, size: int) -> int:
        """The number of cells of the encoder's grid, for a view of `size` pixels a side."""
        image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        run = functools.partial(self.encoder.init_with_output, train=False)
        features, _ = jax.eval_shape(run, jax.random.key(0), image)
        return int(features.grid.shape[1] * features.grid.shape[2])

    @property
    def head(self) -> MLP:  # g; and q of DetCon_B
        return MLP(self.hidden, self.dim, bias=True)

    def start(self, key: PRNGKeyArray, views: list[View]) -> tuple[Tree, Tree]:
        """Parameters and batch statistics of encoder and projector, by network."""
        key_encoder, key_projector = jax.random.split(key)
        image = views[0].image[:1]
        features, encoder = self.encoder.init_with_output(key_encoder, image, train=False)
        projector = self.head.init(key_projector, features.grid[:, 0], train=False)
        variables = {"encoder": encoder, "projector": projector}
        params = {name: v["params"] for name, v in variables.items()}
        return params, {name: v.get("batch_stats", {}) for name, v in variables.items()}

    def project(
        self,
        params: Tree,
        batch_stats: Tree,
        views: list[View],
        key: PRNGKeyArray,
        *,
        network_key: PRNGKeyArray | None = None,
    ) -> tuple[Latents, Tree]:
        """z of the regions drawn, and the new statistics of encoder and projector.

        Args:
          params: of encoder and projector, by network.
          batch_stats: of both.
          views: the images and region planes of each view.
          key: draws the regions.
          network_key: for what the encoder draws; None: nothing (`forward`).
        """
        share = self.share_batch_norm
        net, stats = params["encoder"], batch_stats["encoder"]
        keys = jax.random.split(key, len(views))

        def pool(features: Features, which: list[int]) -> tuple[Array, Array, Array]:
            draws = [self._draw(keys[i], views[i].planes, features.grid) for i in which]
            occupancy, ids = map(stack_views, zip(*draws, strict=True))
            cell = jnp.argmax(occupancy.reshape(*ids.shape, -1), axis=-1)
            return region_pooling.pool(features.grid, occupancy), ids, cell

        outputs, encoder_stats = forward(
            self.encoder, net, stats, images(views), share, key=network_key, reduce=pool
        )
        pooled, region, cells = zip(*outputs, strict=True)  # f32[b, r, d], i32[b, r] twice
        number = cells if len(views) == 1 else [jnp.full_like(c, i) for i, c in enumerate(cells)]
        z, projector_stats = forward(
            self.head, params["projector"], batch_stats["projector"], pooled, share
        )
        latents = Latents(z=jnp.stack(z), region=jnp.stack(region), view=jnp.stack(number))
        return latents, {"encoder": encoder_stats, "projector": projector_stats}

    def _draw(
        self, key: PRNGKeyArray, planes: Array, grid: Float[Array, "n h w d"]
    ) -> tuple[Float[Array, "b r h w"], Int[Array, "b r"]]:
        """The occupancy of the regions drawn in one view, and their ids."""
        key_region, key_cell = jax.random.split(key)
        planes = jnp.zeros_like(planes) if self.whole_view else planes
        occupancy = region_pooling.occupancy(planes, *grid.shape[1:3])
        if self.pooling == "hard":
            occupancy = region_pooling.winners(occupancy)
        occupancy = region_pooling.or_whole(occupancy)
        ids = region_pooling.sample(key_region, occupancy, self.num_regions)
        drawn = region_pooling.take(occupancy, ids)
        return region_pooling.sample_cell(key_cell, drawn) if self.pooling == "cell" else drawn, ids

    def contrast(self, p: Float[Array, "v b r d"], latents: Latents) -> Float[Array, ""]:
        """Equation (3): each row of p must pick the latents of its region in another view."""
        v, b, r, _ = p.shape
        image = jnp.broadcast_to(jnp.arange(b)[None, :, None], (v, b, r))
        group = image + b * latents.region
        compared = self.images_compared or b

        def parts(x: Array) -> Array:  # [v, b, r, ...] to [b / compared, compared v r, ...]
            # Image first: where images are split over devices, so are the rows, and the work.
            return x.swapaxes(0, 1).reshape(b // compared, compared * v * r, *x.shape[3:])

        def loss(p: Array, z: Array, group: Array, view: Array, image: Array) -> Array:
            keep = self.local_negatives
            return contrastive(
                p, z, group, view, self.temperature, local_negatives=keep, image=image
            )

        rows = (p, latents.z, group, latents.view, image)
        return v * _each(loss, *map(parts, rows)).mean()


def _each(loss: Callable[..., Array], *groups: Array) -> Array:
    """The loss of each of many groups of rows, whose matrices a device need not have all at once.

    Those of a device are taken one after another, as many as fit together into the memory that one
    large one may have, and again in the backward pass.
    """
    mesh = jax.sharding.get_abstract_mesh()
    number, rows = groups[0].shape[:2]
    devices = 1 if mesh.empty else mesh.size
    parts = math.ceil(number / devices / max(1, MAX_ENTRIES // rows**2))
    if parts == 1 or number % devices:  # a loop over groups that are split would be that of all
        return jax.vmap(loss)(*groups)

    def in_turn(groups: tuple[Array, ...]) -> Array:
        one = jax.checkpoint(lambda group: loss(*group))
        return jax.lax.map(one, groups, batch_size=math.ceil(number / devices / parts))

    per_device = [x.reshape(devices, -1, *x.shape[1:]) for x in groups]
    return jax.vmap(in_turn)(tuple(per_device))


def report(latents: Latents) -> dict[str, Array]:
    """Spread of the embeddings, and how many regions are drawn in a view, each counted once."""
    same = latents.region[..., :, None] == latents.region[..., None, :]
    return {
        "embedding_std": embedding_std(latents.z),
        "regions_per_view": (1 / same.sum(axis=-1)).sum(axis=-1).mean(),
    }
