"""Pictures of a report."""

import tracemalloc

import numpy as np
import pytest
from sklearn.decomposition import PCA

from jaxssl.data.rle import encode_mask
from jaxssl.data.source import Regions
from jaxssl.reporting.pictures import (
    FeatureMap,
    color,
    draw_boxes,
    draw_regions,
    feature_map,
    heat_rows,
    mask_legend,
    mask_rows,
    paint_labels,
)
from jaxssl.reporting.run_arrays import EmbeddedImages, nearest_neighbors, project


def test_neighbors_and_map():
    features = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    for query, *nearest in nearest_neighbors(features, 5, 3):
        others = sorted(set(range(20)) - {query}, key=lambda i: -(features[i] @ features[query]))
        assert nearest == others[:3]
    ours, sklearn = project(features, "pca"), PCA(2).fit_transform(features)
    np.testing.assert_allclose(np.abs(ours), np.abs(sklearn), atol=1e-5)
    assert project(features, "tsne").shape == (20, 2)
    np.testing.assert_array_equal(project(features[:, :1], "pca")[:, 1], 0)
    assert project(features[:2], "pca").shape == project(features[:2], "tsne").shape == (2, 2)
    for how in ("pca", "tsne"):
        with pytest.raises(ValueError, match="one image alone"):
            project(features[:1], how)


def test_a_map_has_one_scale_for_both_axes():
    positions = np.float32([[0, 0], [4, 0], [0, 1]])
    nothing = np.zeros((3, 0))
    embedded = EmbeddedImages("", nothing, np.full(3, -1), (), nothing)
    (x0, y0), (x1, y1), (x2, y2) = (dot[:2] for dot in feature_map(positions, embedded).dots)
    assert x1 - x0 == FeatureMap.width - 2 * FeatureMap.margin == 4 * (y2 - y0)
    assert (x2, y1, y0 + y2) == (x0, y0, FeatureMap.height)


def test_pictures_keep_the_aspect_of_images():
    image = np.zeros((50, 100, 3), np.uint8)
    drawn = draw_regions(image, None)
    assert drawn.size == (224, 112)
    draw_boxes(drawn, np.float32([[0, 50, 50, 100]]), np.array([50, 100]))  # the right half
    right = np.asarray(drawn).any(axis=(0, 2))
    assert not right[:108].any()
    assert right[112:].all()
    ((shown, heated),) = heat_rows([(image, np.zeros((50, 100), np.float32))])
    assert (shown.width, shown.height) == (heated.width, heated.height) == (100, 50)


def test_only_the_regions_that_are_drawn_are_decoded():
    count, side = 200, 400
    masks = np.zeros((count, side, side), bool)
    for n in range(count):  # bands, the first ones the largest
        masks[n, 8 * (n % 50) : 8 * (n % 50) + 8, : side - n] = True
    regions = Regions(
        size=(side, side),
        box=np.zeros((count, 4), np.float32),
        area=masks.sum(axis=(1, 2)),
        object=np.arange(count),
        score=np.ones(count, np.float32),
        level=np.zeros(count, np.int64),
        rle=tuple(map(encode_mask, masks)),
    )
    image = np.zeros((side, side, 3), np.uint8)
    draw_regions(image, regions)
    tracemalloc.start()
    drawn = np.asarray(draw_regions(image, regions))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < masks.nbytes / 4
    tinted = drawn.any(axis=(1, 2))
    assert tinted[: 24 * 8 * 224 // 400].all()
    assert not tinted[24 * 8 * 224 // 400 + 1 :].any()
    assert (drawn[2, 2] == np.rint(0.28 * np.array(color(0))).astype(np.uint8)).all()


def test_masks_have_no_bars_and_name_what_they_show():
    truth, predicted = np.full((2, 1, 8, 8), 255, np.uint8)
    truth[0, 2:6], predicted[0, 2:6] = 3, 1  # of an image twice as wide as high
    truth[0, 2, :4] = 255  # pixels without a label
    image = np.full((1, 8, 8, 3), 90, np.uint8)
    predictions = {"image": image, "truth": truth, "predicted": predicted}
    (row,) = mask_rows(predictions, 5)
    assert [(p.width, p.height) for p in row] == [(8, 4)] * 3
    names = mask_legend(predictions, 5, ["a", "b", "c", "d", "e"])
    assert names == [("b", f"rgb{color(1)}"), ("d", f"rgb{color(3)}")]


def test_labels_are_painted():
    painted = paint_labels(np.uint8([[0, 1], [200, 255]]))
    assert [tuple(p) for p in painted.reshape(-1, 3)] == [
        color(0), color(1), color(200), (0, 0, 0)
    ]  # fmt: skip
