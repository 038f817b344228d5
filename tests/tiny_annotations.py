"""An image, its label map, and what tests do with annotations of it."""

import json

import numpy as np
from PIL import Image

from jaxssl.data.rle import decode_mask
from jaxssl.data.source import Example

SIZE = (12, 16)


def masks(regions):
    return [decode_mask(region.rle, region.size) for region in regions]


def faults(regions):
    return [region.fault for region in regions]


def assert_values(regions, labels, *values):
    np.testing.assert_array_equal(masks(regions), [labels == value for value in values])


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_json(path, content):
    path.write_text(json.dumps(content))
    return str(path)


def make_labels():
    """A label map: 0 around, 1 in two places, 2, and 255."""
    labels = np.zeros(SIZE, np.uint8)
    labels[1:4, 1:5] = 1
    labels[8:11, 1:5] = 1
    labels[2:9, 8:12] = 2
    labels[0, 15] = 255
    return labels


def make_example():
    return Example("town/street_1.jpg", np.zeros((*SIZE, 3), np.uint8))
