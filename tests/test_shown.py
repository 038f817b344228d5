"""Results as people read them: which of them are fractions, and how many digits they have."""

import math

import pytest

from jaxssl.evaluation.shown import is_fraction, percent, show

FRACTIONS = """
    top1 top5 top1_k20 top1_0.01 top1_best_on_test mean_class majority_baseline knn_top1 miou
    scratch_miou miou_k500 miou_classes miou_0.1 pixel_accuracy baseline_pixel_accuracy map
    baseline_map recall_at_1 accuracy iou dice precision recall paper_iou baseline_paper_dice delta1
    scratch_delta3 dead_dimensions health/no_region fallback_fraction data_wait
    eval/objects/knn_top1 eval/objects/majority_baseline eval/scenes/retrieval_map
"""
OTHERS = """
    rank_me std std_if_even alignment uniformity images regions rmse abs_rel baseline_abs_rel
    scratch_rmse loss learning_rate eval/objects/linear_lr health/regions_per_image images_per_sec
    embedding_std grad_norm eval/map/health_rank_me eval/top1/rank_me
"""


@pytest.mark.parametrize("name", FRACTIONS.split())
def test_fractions_are_in_percent(name):
    assert is_fraction(name)
    assert show(name, 0.3126) == "31.3 %"


@pytest.mark.parametrize("name", OTHERS.split())
def test_other_results_are_as_they_are(name):
    assert not is_fraction(name)
    assert show(name, 0.3126) == "0.3126"


def test_several_values_have_a_mean_and_a_deviation():
    assert show("top1", 0.5, 0.7) == "60.0 ± 14.1 %"
    assert percent(0.25) == "25.0 %"
    assert show("rank_me", 62.9788, 63.1) == "63.04 ± 0.09"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.000338834], "0.0003388"),
        ([-0.622265], "-0.6223"),
        ([62.978816], "62.98"),
        ([123456.7], "123457"),
        ([571.0], "571"),
        ([0.0], "0"),
        ([0.0, 0.25], "0.1250 ± 0.1768"),
    ],
)
def test_digits_of_results_that_are_no_fractions(values, text):
    assert show("std", *values) == text


def test_values_that_are_not_finite_are_counted():
    for name in ("top1", "rmse"):
        assert show(name, math.nan, 0.5, math.inf) == "not finite in 2 of 3"
