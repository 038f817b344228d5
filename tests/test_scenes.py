"""The embedded data sets: reproducible, exactly masked, and told apart by shape alone."""

import pickle

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxssl.data.synthetic import shapes, textures
from jaxssl.data.synthetic.scenes import SCENE_OBJECTS, VISIBLE, Objects, Scenes, draw_scene

SOURCES = (Scenes, Objects)


def same(one, other):
    """Whether two examples agree in everything."""
    return (
        (one.key, one.label, one.regions.rle) == (other.key, other.label, other.regions.rle)
        and np.array_equal(one.image, other.image)
        and np.array_equal(one.regions.box, other.regions.box)
    )


@pytest.mark.parametrize("source", SOURCES)
def test_an_image_depends_on_seed_part_and_index_alone(source):
    forwards = [source(9, seed=4)[i] for i in range(9)]
    larger = source(1000, seed=4, part="train")
    backwards = [larger[i] for i in reversed(range(9))][::-1]
    assert all(map(same, forwards, backwards))
    for other in (source(9, seed=5), source(9, seed=4, part="test")):
        assert not any(
            np.array_equal(a.image, b.image) for a, b in zip(forwards, other, strict=True)
        )
        assert not {e.key for e in forwards} & {e.key for e in other}


@pytest.mark.parametrize("source", SOURCES)
def test_survives_pickling(source):
    opened = source(5, seed=1, part="test")
    copy = pickle.loads(pickle.dumps(opened))
    assert len(copy) == 5
    assert copy.spec == opened.spec
    assert copy.fingerprint() == opened.fingerprint()
    assert all(map(same, opened, copy))


@pytest.mark.parametrize("source", SOURCES)
def test_the_fingerprint_tells_sources_apart(source):
    sources = [
        source(5),
        source(6),
        source(5, seed=1),
        source(5, part="test"),
        source(5, size=64),
        (Scenes if source is Objects else Objects)(5),
    ]
    assert len({s.fingerprint() for s in sources}) == len(sources)
    assert source(5, part="train").fingerprint() == source(5).fingerprint()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("size", [96, 64])
def test_masks_are_exact(source, size):
    for example in source(25, seed=2, size=size):
        regions, masks = example.regions, example.regions.masks()
        assert example.image.shape == (size, size, 3)
        assert example.image.dtype == np.uint8
        assert masks.shape == (len(regions), *regions.size) == (len(regions), size, size)
        assert masks.sum(axis=0).max() == 1  # disjoint: what is hidden belongs to what hides it
        np.testing.assert_array_equal(regions.area, masks.sum(axis=(1, 2)))
        assert regions.area.min() > 0
        for box, mask in zip(regions.box, masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert tuple(box) == (
                rows.min(),
                columns.min(),
                rows.max() + 1,
                columns.max() + 1,
            )
        assert len(set(regions.object)) == len(regions)
        assert np.all(regions.level == 0)
        assert np.all(regions.score == 1)
    kinds = [regions.box.dtype, regions.area.dtype, regions.object.dtype, regions.score.dtype]
    assert kinds == [np.float32, np.int64, np.int64, np.float32]


def test_masks_are_where_the_object_is_painted(monkeypatch):
    """Without textures, light and noise, a scene is one color a mask, but for the edges."""
    monkeypatch.setattr(
        "jaxssl.data.synthetic.scenes.draw_surface",
        lambda color, size, light, rng: np.tile(color[:, None, None], size),
    )
    monkeypatch.setattr(
        "jaxssl.data.synthetic.scenes.expose", lambda canvas, rng: canvas.transpose(1, 2, 0)
    )
    right = []  # of the pixels within a mask, but for slivers of corners that end in it
    for seed in range(20):
        canvas, shown, shapes = draw_scene(192, np.random.default_rng(seed))
        for number in range(1, 1 + len(shapes)):
            mask = shown == number
            inside = mask.copy()
            for axis, step in [(0, 1), (0, -1), (1, 1), (1, -1)]:
                inside &= np.roll(mask, step, axis)
            colors = canvas[inside]
            middle = np.median(colors, axis=0)
            right.append(np.abs(colors - middle).max(axis=-1) < 1e-4)
            assert right[-1].mean() > 0.95
    assert np.concatenate(right).mean() > 0.995


def test_scenes_show_a_crowd_of_which_enough_is_seen():
    few, many = SCENE_OBJECTS
    scenes = [draw_scene(192, np.random.default_rng(seed))[1] for seed in range(150)]
    assert {shown.max() for shown in scenes} == set(range(few, many + 1))
    areas = np.concatenate([np.bincount(shown.ravel())[1:] for shown in scenes])
    whole = np.pi * 10.5**2  # of the smallest object
    assert np.mean(areas > VISIBLE * whole) > 0.97
    first = Scenes(1)[0]
    assert first.label == -1
    assert Scenes(1).class_names == ()


def test_the_label_map_of_a_scene_names_what_each_pixel_shows():
    example = Scenes(3, seed=1)[2]
    image, shown, shapes = draw_scene(192, Scenes(3, seed=1)._generator(2))
    np.testing.assert_array_equal(example.image, image)
    for number, shape in enumerate(shapes, start=1):
        assert (example.semantic[shown == number] == 1 + shape).all()
    assert (example.semantic[shown == 0] == 0).all()
    drawn = [shape for i in range(40) for shape in np.unique(Scenes(40)[i].semantic)]
    assert set(drawn) == set(range(11))


def test_classes_are_balanced_and_labels_name_the_shape():
    source = Objects(40)
    labels = [example.label for example in source]
    assert np.bincount(labels).tolist() == [4] * 10
    holes = {}
    for example in source:
        (mask,) = example.regions.masks()
        rows, columns = np.nonzero(mask)
        holes.setdefault(example.label, []).append(
            not mask[round(rows.mean()), round(columns.mean())]
        )
    assert all(holes[source.class_names.index("ring")])  # its middle is ground
    for solid in ("disc", "square", "heart", "cross"):
        assert not any(holes[source.class_names.index(solid)])


@pytest.mark.parametrize("name", shapes.CLASS_NAMES)
def test_every_class_has_the_same_area_and_fits_its_window(name):
    rng = np.random.default_rng(0)
    outlines = shapes.draw_outlines([name] * 20, np.full(20, 15.0), rng)
    assert shapes.areas(outlines) == pytest.approx(np.pi * 15**2)
    for alpha in shapes.coverage(outlines):
        assert alpha.sum() == pytest.approx(np.pi * 15**2, rel=0.01)
        assert alpha.min() > -1e-6
        assert alpha.max() < 1 + 1e-6
        assert np.abs(alpha[[0, -1]]).max() < 1e-6
        assert np.abs(alpha[:, [0, -1]]).max() < 1e-6


def test_coverage_against_counted_points():
    """A square turned by 45 degrees, against 32 x 32 points a pixel."""
    (alpha,) = shapes.coverage([5 * np.array([1, 1j, -1, -1j])])
    side = np.abs((np.arange(32 * len(alpha)) + 0.5) / 32 - len(alpha) / 2)
    counted = (side[:, None] + side < 5).reshape(len(alpha), 32, len(alpha), 32).mean(axis=(1, 3))
    np.testing.assert_allclose(alpha, counted, atol=0.02)


def test_a_palette_holds_colors_that_differ():
    rng = np.random.default_rng(0)
    pairs = np.stack([textures.draw_palette(2, rng) for _ in range(300)])
    apart = np.sqrt((pairs[:, 0] - pairs[:, 1]) ** 2 @ textures.WEIGHTS)
    assert apart.min() > textures.FAR - 1e-6


@pytest.fixture(scope="module")
def objects():
    train, test = Objects(1500, seed=3), Objects(750, seed=3, part="test")
    return [list(train), list(test)]


def accuracy(objects, features, classifier):
    train, test = (np.stack([features(example) for example in part]) for part in objects)
    labels = [[example.label for example in part] for part in objects]
    model = make_pipeline(StandardScaler(), classifier).fit(train, labels[0])
    return model.score(test, labels[1])


def color_and_area(example):
    (mask,) = example.regions.masks()
    inside, outside = example.image[mask], example.image[~mask]
    moments = [f(part, axis=0) for part in (inside, outside) for f in (np.mean, np.std)]
    return np.concatenate([*moments, example.regions.area])


def histogram(example):
    code = (example.image // 64) @ [16, 4, 1]
    return np.bincount(code.ravel(), minlength=64)


def place_and_area(example):
    (mask,) = example.regions.masks()
    # Whole pixels: where in a pixel a centroid lies, which symmetric shapes share, is no place.
    return np.array([*np.argwhere(mask).mean(axis=0).round(), example.regions.area[0]])


def distances_from_the_middle(example):
    rows, columns = np.nonzero(example.regions.masks()[0])
    radius = np.hypot(rows - rows.mean(), columns - columns.mean()) / np.sqrt(len(rows))
    return np.histogram(radius, bins=14, range=(0, 1.2))[0] / len(rows)


@pytest.mark.parametrize("features", [color_and_area, histogram, place_and_area])
@pytest.mark.parametrize("model", [KNeighborsClassifier(15), LogisticRegression(max_iter=300)])
def test_nothing_but_shape_tells_the_class(objects, features, model):
    assert accuracy(objects, features, model) < 0.17


def test_shape_tells_the_class(objects):
    assert accuracy(objects, distances_from_the_middle, KNeighborsClassifier(15)) > 0.8


@pytest.mark.parametrize("source", SOURCES)
def test_mistakes_are_named_in_one_line(source):
    for arguments, words in [
        ({"count": 0}, "no image"),
        ({"count": 5, "seed": -1}, "negative"),
        ({"count": 5, "part": "val"}, "no part 'val'"),
    ]:
        with pytest.raises(ValueError, match=words) as caught:
            source(**arguments)
        assert "\n" not in str(caught.value)
    for index in (-1, 5):
        with pytest.raises(IndexError):
            source(5)[index]
