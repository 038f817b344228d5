"""Measures of pets against the authors' numbers, plain loops, and what they say of a constant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
import torch

from jaxssl.evaluation.dense.pets import Pets
from jaxssl.evaluation.dense.pets_metrics import baselines, paper_metrics, pet_metrics, summarize
from jaxssl.models.dense import Dense, PetsHead, upsample
from jaxssl.models.resnet import ResNet


def random_maps(seed=0):
    return np.random.default_rng(seed).integers(0, 3, (2, 4, 9, 9), dtype=np.uint8)


def test_equals_the_authors(golden):
    g = golden("pet_metrics")
    found = paper_metrics(g["y_true"].astype(np.uint8), g["y_pred"].astype(np.uint8))
    assert set(found) == {"accuracy", "iou", "dice", "precision", "recall"}
    for name, values in found.items():
        np.testing.assert_allclose(values, g[name], rtol=1e-12, err_msg=name)


def test_standard_measures_equal_sklearns_with_pet_as_positive():
    truth, predicted = random_maps()
    found = pet_metrics(truth, predicted)
    theirs = {
        "iou": sklearn.metrics.jaccard_score,
        "dice": sklearn.metrics.f1_score,
        "precision": sklearn.metrics.precision_score,
        "recall": sklearn.metrics.recall_score,
    }
    for i in range(len(truth)):
        y, p = truth[i].ravel() == 0, predicted[i].ravel() == 0
        for name, function in theirs.items():
            assert found[name][i] == pytest.approx(function(y, p)), name
        assert found["accuracy"][i] == pytest.approx(np.mean(truth[i] == predicted[i]))


def test_images_without_a_pet_are_left_out_of_the_means():
    truth, predicted = random_maps()
    truth[1] = np.maximum(truth[1], 1)
    found = pet_metrics(truth, predicted)
    assert np.isnan(found["recall"][1])
    expected = np.mean([found["recall"][i] for i in (0, 2, 3)])
    assert summarize(truth, predicted)["recall"] == pytest.approx(expected)


def test_the_floor_is_what_a_constant_gets():
    truth, _ = random_maps()
    floor = baselines(truth)
    no_pet = np.mean(truth != 0, axis=(1, 2))
    assert floor["baseline_paper_recall"] == 1
    assert floor["baseline_paper_iou"] == pytest.approx(no_pet.mean())
    assert floor["baseline_iou"] == pytest.approx((1 - no_pet).mean())
    assert floor["baseline_precision"] == pytest.approx((1 - no_pet).mean())


def test_sizes_are_those_of_the_papers_code():
    network = Dense(ResNet(34), PetsHead(3, 256))
    images = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), images)
    count = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in shapes["params"].items()}
    assert count["head"] == 1_568_067
    assert sum(count.values()) == 22_852_739
    variables, out = shapes, None
    out = jax.eval_shape(lambda v, x: network.apply(v, x, train=False), variables, images)
    assert out.shape == (1, 256, 256, 3)


def test_the_pooled_head_knows_nothing_of_place():
    x = jax.random.normal(jax.random.key(0), (1, 2, 2, 2))
    both = jnp.concatenate([x, x[:, ::-1]])
    head = PetsHead(3, 8, "gap")
    one, other = jax.jit(lambda x: head.init_with_output(jax.random.key(1), x, False)[0])(both)
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("cells", "side"), [(1, 2), (2, 4), (5, 16), (4, 4)])
def test_upsampling_is_torchs_with_align_corners(cells, side):
    x = np.random.default_rng(0).normal(size=(2, cells, cells, 3)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.tensor(x).permute(0, 3, 1, 2), (side, side), mode="bilinear", align_corners=True
    )
    theirs = theirs.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(upsample(jnp.array(x), side), theirs, atol=1e-6)


def test_mistakes():
    with pytest.raises(ValueError, match="choose one of map, gap"):
        Pets(head_input="mean")
