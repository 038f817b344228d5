"""Masks that another program made."""

import numpy as np
import pytest
from tiny_annotations import (
    SIZE,
    assert_values,
    faults,
    make_example,
    make_labels,
    masks,
    write_json,
)

from jaxssl.data.rle import encode_mask
from jaxssl.data.source import BrokenImage, Example
from mask_tools.segmenters.annotation import Annotation
from mask_tools.segmenters.proposals import Proposals


@pytest.fixture
def labels():
    return make_labels()


@pytest.fixture
def example():
    return make_example()


@pytest.mark.parametrize("image_id", ["town/street_1.jpg", "town/street_1", "street_1"])
def test_coco_results(tmp_path, labels, example, image_id):
    results = [
        {
            "image_id": image_id,
            "segmentation": {"size": [*SIZE], "counts": encode_mask(labels == value).decode()},
            "score": score,
        }
        for value, score in [(1, 0.2), (2, 0.9), (255, 0.5)]
    ]
    path = write_json(tmp_path / "results.json", results)
    found = Proposals(path=path)(example)
    assert [region.score for region in found] == [0.9, 0.5, 0.2]
    assert_values(found, labels, 2, 255, 1)
    assert_values(Proposals(path=path, top=1)(example), labels, 2)
    assert_values(Proposals(path=path, min_score=0.5)(example), labels, 2, 255)
    assert Proposals(path=path)(Example("other_2.jpg", example.image)) == []


@pytest.mark.parametrize(
    "segmentation",
    [
        {},
        {"size": [12, 16], "counts": "0"},
        {"size": [12, 16], "counts": [1, 2, 3]},
        {"size": [12, 15], "counts": [180]},
        {"size": [12, 16]},
        [[1.0, 2.0]],
        "mask",
    ],
)
def test_a_damaged_mask_is_at_fault_alone(tmp_path, example, segmentation):
    good = {"size": [12, 16], "counts": [0, 192]}
    results = [{"image_id": "street_1", "segmentation": s} for s in (segmentation, good)]
    path = write_json(tmp_path / "results.json", results)
    whole, faulty = Proposals(path=path)(example)
    assert masks([whole])[0].all()
    assert faulty.fault
    assert faulty.name == "annotation 0"
    images = [{"id": "street_1", "file_name": "street_1.jpg", "height": 12, "width": 16}]
    path = write_json(tmp_path / "all.json", {"images": images, "annotations": results})
    assert faults(Annotation(format="coco", path=path)(example)) == [faulty.fault, ""]


def test_arrays_of_masks(tmp_path, labels, example):
    values = np.array([1, 2])
    given = {"masks": labels[None] == values[:, None, None]}
    np.savez(tmp_path / "street_1.npz", **given, scores=np.array([0.25, 0.5], np.float32))
    found = Proposals(path=str(tmp_path))(example)
    assert_values(found, labels, 2, 1)
    assert [region.score for region in found] == [0.5, 0.25]
    np.savez(tmp_path / "street_1.npz", **given, scores=np.array([-3.0, 0.5]))  # logits
    for least, values in {0.0: (2, 1), -4.0: (2, 1), -1.0: (2,), 0.1: (2,)}.items():
        assert_values(Proposals(path=str(tmp_path), min_score=least)(example), labels, *values)
    np.savez(tmp_path / "street_1.npz", **given)
    assert_values(Proposals(path=str(tmp_path))(example), labels, 1, 2)
    for chosen in ({"top": 1}, {"min_score": 0.1}):
        assert faults(Proposals(path=str(tmp_path), **chosen)(example)) == ["has no score"] * 2
    small = Example("street_1.jpg", np.zeros((5, 5, 3), np.uint8))
    (faulty,) = Proposals(path=str(tmp_path))(small)
    assert faulty.fault == "has an array of (2, 12, 16) for an image of (5, 5)"
    (tmp_path / "street_1.npz").write_bytes(b"PK")
    with pytest.raises(BrokenImage, match=r"street_1.npz is damaged"):
        Proposals(path=str(tmp_path))(example)
