"""The views of a picture are those of training: cut within a usable object, by the config."""

import pathlib

import jax
import numpy as np
import pytest

from jaxssl.config import base, build, build_method
from jaxssl.data.loading import stack_arrays
from jaxssl.data.source import Example
from jaxssl.preview import cut_views, describe_views, preview_config
from jaxssl.training.images import canvas_for
from jaxssl.views import ViewConfig, make_views
from mask_tools.regions import collect, from_labels

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
GROWN = (0, 46, 51, 79)  # the large object of 40 x 25 pixels, 1.3 times as high and wide


class Repeated:
    """One image with a large and a small object, 20 times."""

    spec, class_names, has_regions = "repeated", (), True

    def __len__(self):
        return 20

    def __getitem__(self, index):
        labels = np.zeros((60, 80), np.uint8)
        labels[5:45, 50:75] = 1
        labels[50:52, 3:5] = 2
        image = np.zeros((60, 80, 3), np.uint8)
        image[0:51, 46:79] = 255
        return Example("one", image, regions=collect(from_labels(labels, ignore=(0,)), (60, 80)))

    def fingerprint(self):
        return ""


@pytest.fixture
def config():
    changed = preview_config()
    changed.views.size, changed.views.recipe = 16, "none"
    return changed


def test_views_are_cut_from_within_a_usable_object(config):
    cut = cut_views(config, Repeated(), range(20))
    assert cut.boxes.shape == (20, 2, 4)
    assert (cut.boxes >= np.array(GROWN) * [1, 1, 0, 0] - 1e-3).all()
    assert (cut.boxes <= np.array([60, 80, *GROWN[2:]]) + 1e-3).all()
    for view in cut.views:
        assert view.shape == (20, 16, 16, 3)
        assert view[:, 2:-2, 2:-2].min() > 0.9  # white there alone
    config.sampler.min_area = 1001
    anywhere = cut_views(config, Repeated(), range(20))
    assert anywhere.boxes[..., 1].min() < 20


def test_views_are_those_of_training(config):
    """The same key gives what `make_views` makes of the same canvases, before normalization."""
    source, indices = Repeated(), [3, 1]
    sampler, views = build("sampler", config.sampler), ViewConfig(**config.views.to_dict())
    method, _ = build_method(config)
    spec = canvas_for(config, source, sampler, method)
    batch = stack_arrays(source, indices, spec) | {"index": np.array(indices, np.int32)}
    made, _ = make_views(jax.random.key(5), batch, (), sampler, views)
    cut = cut_views(config, source, indices, seed=5)
    for view, expected in zip(cut.views, made, strict=True):
        pixels = np.array(expected.image) * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]
        np.testing.assert_allclose(view, pixels, atol=1e-5)
    np.testing.assert_array_equal(cut.hw, [[60, 80]] * 2)


def test_the_config_of_a_preview():
    samclr = preview_config()
    assert (samclr.sampler.name, samclr.sampler.min_area) == ("region_crop", 1000)
    assert samclr.views.to_dict() == base().views.to_dict()
    quickstart = preview_config(str(CONFIGS / "quickstart.py"))
    assert "32 px, area 0.08 to 1" in describe_views(quickstart)
    assert describe_views(quickstart).endswith("sampler region_crop, expand 1.3, min_area 64")
    other = preview_config(str(CONFIGS / "quickstart.py"), sampler="random_crop", min_area=5)
    assert other.sampler.to_dict() == {"name": "random_crop"}
    assert preview_config(min_area=5).sampler.min_area == 5
    with pytest.raises(ValueError, match="no config file 'nowhere.py'"):
        preview_config("nowhere.py")
