"""Small data sets that tensorflow-datasets makes, under the features of real ones."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import warnings

import numpy as np
import torchvision  # noqa: F401 - before TensorFlow: the other way round ends Python

from jaxssl.data import open_source

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow_datasets as tfds
    from tensorflow_datasets.testing import mocking

COUNTS = {"train": 12, "test": 5}


class SmallPets(tfds.core.GeneratorBasedBuilder):
    """Synthetic scenes under the features of oxford_iiit_pet, two thirds of them as JPEG files."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(),
                    "label": tfds.features.ClassLabel(names=["cat", "dog", "newt"]),
                    "species": tfds.features.ClassLabel(num_classes=2),
                    "file_name": tfds.features.Text(),
                    "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split):
        scenes = open_source(f"scenes:{COUNTS[split]}")
        for i in range(COUNTS[split]):
            drawn = scenes[i]
            yield (
                i,
                {
                    "image": drawn.image,
                    "label": i % 3,
                    "species": 0,
                    "file_name": f"{split}_{i}.png",
                    "segmentation_mask": semantic_of(drawn)[..., None],
                },
            )


class OddScenes(tfds.core.GeneratorBasedBuilder):
    """Images and label maps of which no two have the same size."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        shape = tfds.features.Image()
        features = tfds.features.FeaturesDict({"image": shape, "segmentation": shape})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        image = np.zeros((4, 5, 3), np.uint8)
        yield 0, {"image": image, "segmentation": image[:3]}


class SmallScenes(tfds.core.GeneratorBasedBuilder):
    """What tensorflow-datasets' own mock draws for the features of scene_parse150."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(24, 32, 3), encoding_format="jpeg"),
                    "annotation": tfds.features.Image(shape=(24, 32, 3), encoding_format="png"),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield from enumerate(mocking.RandomFakeGenerator(self.info.features, 3))


class SmallDepths(tfds.core.GeneratorBasedBuilder):
    """A plane under the features of nyu_depth_v2, smaller."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        image = tfds.features.Image(shape=(6, 8, 3), encoding_format="png")
        depth = tfds.features.Tensor(shape=(6, 8), dtype=np.float16)
        features = tfds.features.FeaturesDict({"image": image, "depth": depth})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples() for split in ("train", "validation", "test")}

    def _generate_examples(self):
        for i in range(2):
            yield i, {"image": np.zeros((6, 8, 3), np.uint8), "depth": plane() + np.float16(i)}


class SmallPanoptic(tfds.core.GeneratorBasedBuilder):
    """Segments under the features of coco/2017_panoptic; the last of three is a crowd."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        segment = {"id": np.int64, "is_crowd": np.bool_}
        png = tfds.features.Image(encoding_format="png")
        features = {"image": png, "panoptic_image": png}
        features["panoptic_objects"] = tfds.features.Sequence(segment)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        ids = segments()
        colors = np.stack([ids % 256, ids // 256 % 256, ids // 65_536], axis=-1).astype(np.uint8)
        objects = [{"id": n, "is_crowd": n == 255} for n in (7, 70_000, 255)]
        image = np.zeros((6, 8, 3), np.uint8)
        yield 0, {"image": image, "panoptic_image": colors, "panoptic_objects": objects}


def segments():
    """A map of four segments, of which 0 is no one's."""
    ids = np.full((6, 8), 70_000)
    ids[:2, :3], ids[4:, :], ids[3, 5:] = 7, 255, 0
    return ids


def plane():
    return np.arange(48, dtype=np.float16).reshape(6, 8) / 8


def semantic_of(example):
    """A label map of a drawn scene: the number of the object, 0 on the ground."""
    ids = np.arange(1, len(example.regions) + 1)
    return (example.regions.masks() * ids[:, None, None]).max(0).astype(np.uint8)


DATA_SETS = (SmallPets, SmallScenes, OddScenes, SmallDepths, SmallPanoptic)
