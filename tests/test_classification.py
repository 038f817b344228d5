"""Tasks on small data sets, on eight devices: encoders whose features are known, and messages."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from jaxssl import sharding
from jaxssl.evaluation import TASKS
from jaxssl.evaluation.classification.augmented_images import TrainingImages
from jaxssl.evaluation.classification.few_shot import FewShot
from jaxssl.evaluation.classification.knn import Knn
from jaxssl.evaluation.classification.logistic import Logistic
from jaxssl.evaluation.datasets import open_datasets
from jaxssl.evaluation.dense.overclustering import standardized
from jaxssl.evaluation.features import adapt_batch_norm, standardizer
from jaxssl.evaluation.probes import LinearProbe, Schedule, init_probes
from jaxssl.evaluation.run import match, run_tasks
from jaxssl.models.vit import ViT
from jaxssl.pretrained import encoder as encoder_module
from jaxssl.pretrained.encoder import Encoder
from jaxssl.types import Features


class Thumbnail(nn.Module):
    """Means over 4 x 4 parts of the image: features that anyone can compute."""

    def __call__(self, images, train):
        b, s, _, _ = images.shape
        grid = images.reshape(b, 4, s // 4, 4, s // 4, 3).mean(axis=(2, 4))
        return Features(grid=grid, pooled=grid.reshape(b, -1))


def freeze(network, variables, **options):
    mesh = sharding.make_mesh()
    return Encoder(network, variables, "none", mesh, batch_size=48, show=False, **options)


@pytest.fixture(scope="module")
def tiny(tiny_encoder):
    return freeze(
        tiny_encoder,
        tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False),
    )


def find(encoder, data, name, seed=0, **changes):
    """What one task with a changed protocol finds."""
    task = TASKS[name]
    task = dataclasses.replace(task, protocol=dataclasses.replace(task.protocol, **changes))
    (entry,) = run_tasks(encoder, match({name: task}, [data]), (seed,))
    return entry.result


def write_folder(root, classes=3, train=20, test=8, *, unlabeled=0, tint=150, spread=1):
    """Noise with a tint for each class, over a color of each image's own."""
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for label in range(classes):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 60, (16, 16, 3)) + rng.integers(0, spread, 3)
                image[..., label % 3] += tint * (1 + label // 3)
                Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    for i in range(unlabeled):
        noise = rng.integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(root / "train" / f"a{i}.png")
    return f"folder:{root}"


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """Easily told apart."""
    root = tmp_path_factory.mktemp("colors")
    (data,) = open_datasets([write_folder(root / "data")], 16, str(root / "cache"))
    return data


@pytest.fixture(scope="module")
def tints(tmp_path_factory):
    """Told apart in part."""
    root = tmp_path_factory.mktemp("tints")
    spec = write_folder(root / "data", 6, 50, 25, tint=40, spread=120)
    (data,) = open_datasets([spec], 16, str(root / "cache"))
    return data


def test_an_image_that_cannot_be_read_is_not_scored(tmp_path, tiny):
    spec = write_folder(tmp_path / "data", test=2)
    (tmp_path / "data/test/class0/1.png").write_bytes(b"no image")
    (data,) = open_datasets([spec], 16, str(tmp_path / "cache"))
    assert data.labeled.test["label"].tolist() == [0, -1, 1, 1, 2, 2]
    confusion = find(tiny, data, "knn", k=(5,)).details["confusion"]
    assert np.sum(confusion, axis=1).tolist() == [1, 2, 2]


def numpy_features(part):
    n = len(part["image"])
    pixels = np.asarray(part["image"], np.float32) / 255
    return pixels.reshape(n, 4, 4, 4, 4, 3).mean(axis=(2, 4)).reshape(n, -1), part["label"]


def test_known_features_give_sklearns_numbers(tints):
    encoder = freeze(Thumbnail(), {})
    train, labels = numpy_features(tints.labeled.train)
    test, truth = numpy_features(tints.labeled.test)
    model = KNeighborsClassifier(
        20, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute"
    )
    theirs = model.fit(train, labels).score(test, truth)
    knn = find(encoder, tints, "knn", k=(20,), temperature=0.07).results
    assert knn["top1"] == pytest.approx(theirs, abs=1e-6)
    assert 2 * knn["majority_baseline"] < theirs < 0.95
    scaler = StandardScaler().fit(train)
    logistic = LogisticRegression(max_iter=1000)
    logistic.fit(scaler.transform(train), labels)
    theirs = logistic.score(scaler.transform(test), truth)
    assert abs(find(encoder, tints, "logistic").results["top1"] - theirs) <= 0.005


@pytest.mark.parametrize(("c", "seeds"), [((1.0,), [0]), ((1e-6, 1.0), [0, 1, 2])])
def test_regression_has_a_seed_where_it_chooses_c(colors, c, seeds):
    task = TASKS["logistic"].changed(c=c)
    pairs = match({"logistic": task}, [colors])
    assert [r.seed for r in run_tasks(freeze(Thumbnail(), {}), pairs, range(3))] == seeds


def test_few_shot_learns_from_a_part(tints):
    encoder = freeze(Thumbnail(), {})
    found = find(encoder, tints, "few_shot", fractions=(0.1, 1.0))
    full = find(encoder, tints, "logistic").results["top1"]
    assert found.results["top1_1"] == full > found.results["top1_0.1"]
    assert found.protocol["images"] == [30, 300]
    again = find(encoder, tints, "few_shot", seed=1, fractions=(0.1, 1.0))
    assert again.results["top1_0.1"] != found.results["top1_0.1"]


@pytest.mark.parametrize(
    ("classifier", "name", "options"),
    [("linear", "learning_rate", LinearProbe().lr), ("logistic", "c_chosen", (1e-6, 1.0))],
)
def test_few_shot_says_what_it_chose_for_each_part(tints, classifier, name, options):
    encoder, fractions = freeze(Thumbnail(), {}), (0.1, 1.0)
    c = {} if classifier == "linear" else {"c": options}
    found = find(encoder, tints, "few_shot", fractions=fractions, classifier=classifier, **c)
    alone = [
        find(encoder, tints, "few_shot", fractions=(part,), classifier=classifier, **c).protocol
        for part in fractions
    ]
    assert found.protocol[name] == [chosen for part in alone for chosen in part[name]]
    assert set(found.protocol[name]) <= set(options)
    probe = LinearProbe() if classifier == "linear" else Logistic(options)
    decided = {name: found.protocol[name], "images": [30, 300]}
    if classifier == "linear":
        decided["batch_size"] = [30, 256]
    assert found.protocol == dataclasses.asdict(probe) | decided


@pytest.mark.parametrize(
    ("options", "decided", "said"),
    [
        ({"c": (0.1, 1.0)}, {"c_chosen": [0.1]}, "so c = 0.1, the first, is taken"),
        ({"classifier": "linear"}, {"learning_rate": [0.1]}, "so a learning rate of 0.1 is taken"),
    ],
)
def test_few_shot_of_one_image_of_each_class(colors, caplog, options, decided, said):
    caplog.set_level("INFO")
    found = find(freeze(Thumbnail(), {}), colors, "few_shot", fractions=(0.01,), **options)
    assert found.protocol | decided | {"images": [3]} == found.protocol
    assert said in caplog.text


def test_linear_probe_on_augmented_images(tiny, colors):
    changes = {"epochs": 5, "batch_size": 20, "lr": (0.03, 1.0), "augment": True}
    found = find(tiny, colors, "linear", best_on_test=True, **changes)
    assert found.results["top1"] > 0.9
    assert found.results["top1_best_on_test"] >= found.results["top1"]
    assert found.protocol["learning_rate"] in (0.03, 1.0)
    assert found.protocol["batch_size"] == 16  # which divides over eight devices


def test_fine_tuning_trains_a_copy_of_everything(tiny, colors):
    before = jax.tree.map(np.asarray, tiny.variables)
    found = find(tiny, colors, "finetune", epochs=6, batch_size=16, lr=(1e30, 0.3))
    assert (found.protocol["learning_rate"], found.protocol["batch_size"]) == (0.3, 16)
    assert found.results["top1"] > 0.9
    jax.tree.map(np.testing.assert_array_equal, before, tiny.variables)


def test_fine_tuning_from_scratch_too(tiny, colors):
    changes = {"epochs": 1, "batch_size": 16, "lr": (0.1,)}
    found = find(tiny, colors, "finetune", scratch=True, **changes)
    alone = find(tiny, colors, "finetune", **changes)
    assert found.results | alone.results == found.results
    assert set(found.results) == {*alone.results, "scratch_top1", "scratch_mean_class"}
    assert found.protocol["scratch_learning_rate"] == 0.1
    before, after = (found.details[name] for name in ("confusion", "scratch_confusion"))
    assert np.sum(before) == np.sum(after)


def test_a_network_without_batch_norm(colors):
    vit = ViT(dim=16, depth=1, heads=2, patch=8, image_size=16)
    variables = vit.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    encoder = freeze(vit, {"batch_stats": {}} | variables)
    found = find(encoder, colors, "finetune", epochs=6, batch_size=16, lr=(1.0,))
    assert found.results["top1"] > found.results["majority_baseline"]
    jax.tree.map(
        np.testing.assert_array_equal,
        adapt_batch_norm(encoder, colors).variables,
        encoder.variables,
    )


def test_adapted_statistics_are_those_of_training_mode(tiny, colors):
    images, labels = (np.asarray(colors.labeled.train[k]) for k in ("image", "label"))
    rows = np.resize(np.random.default_rng(0).permutation(len(labels)), 96)  # 60 in batches of 48
    variables = tiny.variables
    for batch in (rows[:48], rows[48:]):
        pixels = jnp.asarray(images[batch], jnp.float32) / 255
        _, changed = tiny.network.apply(variables, pixels, train=True, mutable=["batch_stats"])
        variables = variables | changed
    adapted = adapt_batch_norm(tiny, colors).variables
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), adapted, variables)
    jax.tree.map(np.testing.assert_array_equal, adapted["params"], tiny.variables["params"])
    knn = dataclasses.replace(TASKS["knn"], protocol=Knn((5,)))
    pairs = match({"knn": knn}, [colors])
    plain, moved = (next(run_tasks(tiny, pairs, bn_adapt=b)).protocol for b in (False, True))
    assert (plain["bn_adapt"], moved["bn_adapt"]) == (False, True)


def test_statistics_are_adapted_to_images_without_labels(tiny, tmp_path, caplog):
    (scenes,) = open_datasets(["scenes:12"], 16, str(tmp_path))
    adapted = adapt_batch_norm(tiny, scenes).variables["batch_stats"]
    for before, after in zip(
        *map(jax.tree.leaves, (tiny.variables["batch_stats"], adapted)), strict=True
    ):
        assert np.abs(before - after).max() > 0
    without = dataclasses.replace(tiny, variables=tiny.variables | {"batch_stats": {}})
    assert adapt_batch_norm(without, scenes) is without
    assert "--bn-adapt changes nothing: the encoder has no batch norm" in caplog.text


def test_unlabeled_images_change_nothing(tiny, colors, tmp_path):
    spec = write_folder(tmp_path / "data", unlabeled=5)
    (data,) = open_datasets([spec], 16, str(tmp_path))
    assert (data.labeled.train["label"] < 0).sum() == 5
    for name, changes in (("knn", {"k": (5,)}), ("linear", {"epochs": 2})):
        theirs, ours = (find(tiny, d, name, **changes).results for d in (data, colors))
        assert theirs == ours
    batches = TrainingImages(data, tiny.mesh).batches(np.arange(60), 8, 0, range(7))
    indices = np.concatenate([batch["index"] for batch in batches])
    assert len(set(indices)) == 56
    assert min(data.labeled.train["label"][indices]) == 0
    a, b = (
        jax.tree.leaves(adapt_batch_norm(tiny, d).variables["batch_stats"]) for d in (data, colors)
    )
    np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize("in_memory", [0, 2**30])
def test_features_of_some_rows(monkeypatch, in_memory):
    monkeypatch.setattr(encoder_module, "IN_MEMORY", in_memory)
    images = np.arange(7 * 12, dtype=np.uint8).reshape(7, 2, 2, 3)
    rows = np.array([6, 0, 3, 2, 5])
    found = encoder_module.extract(lambda batch: jnp.float32(batch[:, 0, 0]), images, 2, rows=rows)
    np.testing.assert_array_equal(found, images[rows, 0, 0])


def test_features_are_standardized_by_one_rule():
    rows = np.random.default_rng(0).normal(3, [0.5, 2, 1e-3, 1, 1], (9000, 5)).astype(np.float32)
    rows[:, 3], rows[:, 4] = 0.1, 0
    scaler = StandardScaler().fit(rows.astype(np.float64))
    for found, theirs in zip(standardizer(rows), (scaler.mean_, scaler.scale_), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, theirs, rtol=1e-6)


def test_a_constant_of_many_rows_is_one_for_every_task():
    """In float32 the mean of so many rows is 0.0969 and their deviation 0.0031."""
    constant = np.full((3_000_000, 1), 0.1, np.float32)
    schedule = Schedule(LinearProbe(), 256, 1)
    every = np.arange(len(constant))
    probes = init_probes(jax.random.key(0), schedule, (0.1,), constant, every, num_classes=2)
    assert (float(probes.mean[0]), float(probes.std[0])) == (np.float32(0.1), 1)
    assert not standardized([constant], 1).any()


def test_numbers_of_few_images_share_programs():
    traced = []

    class Seen(Thumbnail):
        def __call__(self, images, train):
            traced.append(len(images))
            return super().__call__(images, train)

    encoder = dataclasses.replace(freeze(Seen(), {}), batch_size=100)
    for count in (1, 2, 3, 5, 9, 20, 25, 33, 99, 101):
        assert len(encoder(np.zeros((count, 16, 16, 3), np.uint8))) == count
    assert traced == [8, 16, 32, 64, 104]  # eight devices


def test_features_of_no_image(tiny):
    assert tiny(np.zeros((0, 16, 16, 3), np.uint8)).shape == (
        0,
        *tiny(np.zeros((1, 16, 16, 3), np.uint8)).shape[1:],
    )


def test_few_shot_mistakes():
    with pytest.raises(ValueError, match="'svm'; choose one of logistic, linear"):
        FewShot(classifier="svm")
    with pytest.raises(ValueError, match=r"is \(0.1, 1.5\); it must be in \(0, 1\]"):
        FewShot(fractions=(0.1, 1.5))


def test_messages(tiny, colors, tmp_path, caplog):
    caplog.set_level("WARNING", "jaxssl")
    spec = write_folder(tmp_path / "missing")
    for path in (tmp_path / "missing/test/class2").iterdir():
        path.unlink()
    (data,) = open_datasets([spec], 16, str(tmp_path))
    assert find(tiny, data, "knn", k=(5,)).details["per_class"][2] is None
    assert "no image of 1 of 3 classes (class2) in the test part" in caplog.text

    spec = write_folder(tmp_path / "one")
    for path in (tmp_path / "one").glob("train/class[12]/*"):
        path.unlink()
    (data,) = open_datasets([spec], 16, str(tmp_path))
    with pytest.raises(ValueError, match="of one class only, 'class0', in its training part"):
        find(tiny, data, "logistic")

    broken = jax.tree.map(lambda x: x * np.nan, tiny.variables)
    with pytest.raises(ValueError, match="features of data are not finite"):
        find(dataclasses.replace(tiny, variables=broken), colors, "logistic")
    with pytest.raises(ValueError, match=r"has 60 labeled images.* k = 61; set knn.k"):
        find(tiny, colors, "knn", k=(5, 61))
