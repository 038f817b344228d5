"""Displacement against torchvision's, given the same displacement field."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.image.augment import displace


@pytest.mark.parametrize("name", ["weak", "strong"])
def test_displace_is_torchvisions_elastic(golden, name):
    expected = golden("pets_ops")
    # There the offset is (across, down), in halves of the width and the height.
    offset = (expected[f"displacement_{name}"] * np.array([16, 12], np.float32))[..., ::-1]
    assert (np.abs(offset) > 0.5).any()
    moved = displace(jnp.array(expected["image"]), jnp.array(offset))
    np.testing.assert_allclose(moved, expected[f"elastic_{name}"], atol=2e-5)
    assert (np.array(moved) == 0).mean() > 0.05  # some of it is from outside


def test_pixels_come_from_where_the_offset_says():
    image = jnp.array(np.random.default_rng(0).random((5, 7, 3)), jnp.float32)
    np.testing.assert_array_equal(displace(image, jnp.zeros((5, 7, 2))), image)
    down_left = jnp.broadcast_to(jnp.array([1.0, -2.0]), (5, 7, 2))
    moved = displace(image, down_left)
    np.testing.assert_array_equal(moved[:-1, 2:], image[1:, :-2])
    np.testing.assert_array_equal(moved[-1], 0)
    np.testing.assert_array_equal(moved[:, :2], 0)
