"""Images of a source with their regions: in batches, and in their order whatever is broken."""

import dataclasses
import threading
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from jaxssl.data import open_source
from jaxssl.data.folder import Folder
from jaxssl.data.source import BrokenImage
from jaxssl.data.synthetic.scenes import Scenes
from mask_tools.backends import ray_cluster
from mask_tools.regions import from_mask
from mask_tools.segmenters import Grid, is_network
from mask_tools.segmenting import segment, segment_images
from mask_tools.shards import Job


@dataclasses.dataclass(frozen=True)
class Halves:
    """Finds the left half of an image, but of the sixth none; several at once."""

    needs_original_size: ClassVar[bool] = False
    device: str = "cpu"
    precision: str = "auto"
    images_per_batch: int = 3
    calls: list = dataclasses.field(default_factory=list)

    def segment_all(self, examples):
        self.calls.append((threading.current_thread().name, len(examples)))
        return [self._find(example) for example in examples]

    def _find(self, example):
        if example.key.endswith("6"):
            return BrokenImage(f"{example.key}: has no half")
        mask = np.zeros(example.image.shape[:2], bool)
        mask[:, : mask.shape[1] // 2] = True
        return [from_mask(mask)]

    def __call__(self, example):
        (found,) = self.segment_all([example])
        return found


class Damaged(Scenes):
    """Scenes of which the third cannot be read."""

    def __getitem__(self, index):
        if index == 2:
            raise BrokenImage("2: is damaged")
        return dataclasses.replace(super().__getitem__(index), key=str(index))


@pytest.mark.parametrize("max_side", [None, 48])
def test_batches_give_what_one_after_another_gives(max_side):
    source, network = Damaged(10), Halves()
    found = list(segment_images(source, range(1, 10), network, max_side))
    assert [str(f) for f in found if isinstance(f, BrokenImage)] == [
        "2: is damaged",
        "6: has no half",
    ]
    assert network.calls == [("MainThread", 2), ("MainThread", 3), ("MainThread", 3)]
    for index, one in enumerate(found, start=1):
        if not isinstance(one, BrokenImage):
            expected = segment(source[index], Halves(), max_side)
            example = one.example
            assert (example.key, one.row.regions, one.vanished) == (str(index), 1, 0)
            assert example.encoded == expected.encoded
            np.testing.assert_array_equal(example.image, expected.image)
            np.testing.assert_array_equal(example.regions.masks(), expected.regions.masks())


def test_what_takes_several_images_at_once_is_a_network(tmp_path):
    job = Job(open_source("scenes:5"), Halves(), None, tmp_path, "train", 5)
    assert is_network(Halves())
    assert ray_cluster.share({"CPU": 8.0, "GPU": 2.0}, job, shards=5) == (2, 1)
    assert not is_network(Grid())
    assert not is_network(None)


@pytest.mark.parametrize("segmenter", [Grid(), None])
def test_others_find_regions_in_one_image_after_another(segmenter):
    found = list(segment_images(Damaged(10), range(4), segmenter, None))
    assert isinstance(found[2], BrokenImage)
    source = open_source("scenes:10")
    counts = [25] * 3 if segmenter else [len(source[i].regions) for i in (0, 1, 3)]
    assert [found[i].row.regions for i in (0, 1, 3)] == counts


@pytest.mark.parametrize(("orientation", "is_kept"), [(0, True), (1, True), (9, True), (3, False)])
def test_files_are_encoded_again_only_if_they_are_turned(tmp_path, orientation, is_kept):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    example = segment(Folder(tmp_path)[0], None, None)
    assert (example.encoded == (tmp_path / "a.jpg").read_bytes()) == is_kept
    assert is_kept or example.orientation == 1


def test_a_bug_says_in_which_images_it_was(monkeypatch):
    def fail(self, example):
        raise ZeroDivisionError

    monkeypatch.setattr(Halves, "_find", fail)
    with pytest.raises(ZeroDivisionError) as error:
        list(segment_images(Damaged(10), range(1, 4), Halves(), None))
    assert error.value.__notes__ == ["Raised for the image 1 or 3 of scenes:10."]
