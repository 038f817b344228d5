"""Regions on the feature grid: the released code's numbers, masks averaged by hand, draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.image import region_pooling


def planes_of(masks):
    """u32[b, l, l, P] of masks bool[b, m, l, l]: the bits as `occupancy` expects them."""
    planes = np.zeros((len(masks), *masks.shape[2:], -(-masks.shape[1] // 32)), np.uint32)
    for r in range(masks.shape[1]):
        planes[..., r // 32] |= masks[:, r].astype(np.uint32) << np.uint32(r % 32)
    return jnp.asarray(planes)


@functools.partial(jax.jit, static_argnames="count")
def sample(occupancy, count):
    return region_pooling.sample(jax.random.key(0), occupancy, count)


def test_hard_regions_and_pooling_equal_detcon(golden):
    g = golden("detcon_masks")
    planes = planes_of(g["fh"][..., 0][:, None] == np.arange(256)[None, :, None, None])

    @jax.jit
    def pooled(planes, grid, ids):
        occupancy = region_pooling.winners(region_pooling.occupancy(planes, 7, 7))
        drawn = region_pooling.take(occupancy, ids)
        return occupancy, drawn, region_pooling.pool(grid, drawn)

    occupancy, drawn, features = pooled(planes, g["feat"], g["mask_ids"])
    np.testing.assert_array_equal(occupancy.reshape(2, 256, 49), g["binary_mask"])
    np.testing.assert_array_equal(drawn.reshape(2, 16, 49), g["sampled"])
    np.testing.assert_allclose(features, g["pooled"], atol=1e-6)
    for image, ids in enumerate(np.asarray(sample(occupancy, 300))):
        survived = np.flatnonzero(g["binary_mask"][image].any(axis=1))
        np.testing.assert_array_equal(np.unique(ids), survived)


@pytest.mark.parametrize(("points", "h", "w"), [(6, 3, 2), (3, 4, 5)])
def test_occupancy_is_the_mean_of_the_mask_over_a_cell(points, h, w):
    masks = np.random.default_rng(0).random((2, 40, points, points)) < 0.4  # they overlap
    fine = np.kron(masks, np.ones((h, w)))  # every point as h x w, every cell as points x points
    expected = fine.reshape(2, 40, h, points, w, points).mean(axis=(3, 5))
    occupancy = jax.jit(lambda planes: region_pooling.occupancy(planes, h, w))(planes_of(masks))
    assert occupancy.shape == (2, 64, h, w)
    np.testing.assert_allclose(occupancy[:, :40], expected, atol=1e-6)
    assert not np.any(occupancy[:, 40:])


def test_winner_takes_the_cell_and_the_first_of_equals():
    occupancy = jnp.array([[0.2, 0.5, 0.5, 0.0], [0.0] * 4]).reshape(2, 4, 1, 1)
    winners = jax.jit(region_pooling.winners)(occupancy)
    np.testing.assert_array_equal(winners.reshape(2, 4), [[0, 1, 0, 0], [0] * 4])


def test_ids_are_uniform_over_visible_regions_whatever_their_size():
    occupancy = np.zeros((3, 5, 2, 2), np.float32)
    occupancy[0, 1, 0, 0], occupancy[0, 4], occupancy[1, 2] = 0.1, 1, 0.5
    occupancy[2, [1, 4]] = 1
    ids = np.asarray(sample(occupancy, 2000))
    assert set(ids[0]) == {1, 4}
    assert set(ids[1]) == {2}
    assert abs((ids[0] == 1).sum() - 1000) < 5 * 500**0.5  # five standard deviations
    assert abs((ids[0] == ids[2]).sum() - 1000) < 5 * 500**0.5  # each image draws its own


def test_the_whole_view_where_no_region_is_visible():
    occupancy = np.zeros((2, 32, 2, 2), np.float32)
    occupancy[1, 7, 0, 0] = 0.02
    grid = np.random.default_rng(0).normal(size=(2, 2, 2, 4)).astype(np.float32)

    @jax.jit
    def pooled(occupancy, grid):
        extended = region_pooling.or_whole(occupancy)
        ids = region_pooling.sample(jax.random.key(0), extended, 3)
        return extended, ids, region_pooling.pool(grid, region_pooling.take(extended, ids))

    extended, ids, features = pooled(occupancy, grid)
    np.testing.assert_array_equal(extended[:, :32], occupancy)
    np.testing.assert_array_equal(ids, [[32] * 3, [7] * 3])
    np.testing.assert_allclose(features[0, 0], grid[0].mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_allclose(features[1, 0], grid[1, 0, 0], atol=1e-6)


def test_pool_is_a_weighted_mean_and_zero_for_an_empty_region():
    rng = np.random.default_rng(0)
    grid = rng.normal(size=(1, 2, 3, 4)).astype(np.float32)
    occupancy = rng.random((1, 2, 2, 3)).astype(np.float32)
    occupancy[0, 1] = 0
    weighted = [occupancy[0, 0, i, j] * grid[0, i, j] for i in range(2) for j in range(3)]

    features = jax.jit(region_pooling.pool)(grid, occupancy)
    np.testing.assert_allclose(features[0, 0], sum(weighted) / occupancy[0, 0].sum(), rtol=1e-5)
    np.testing.assert_array_equal(features[0, 1], 0)


def test_cells_are_drawn_in_proportion_to_what_is_covered():
    covered = np.array([[0.0, 0.25], [0.75, 0.0]], np.float32)
    many = np.tile(covered, (1, 4000, 1, 1))
    drawn = np.asarray(jax.jit(region_pooling.sample_cell)(jax.random.key(0), many))
    np.testing.assert_array_equal(drawn.sum(axis=(2, 3)), 1)
    share = drawn.mean(axis=(0, 1))
    np.testing.assert_array_equal(share == 0, covered == 0)
    assert abs(share[0, 1] - 0.25) < 5 * (0.1875 / 4000) ** 0.5
