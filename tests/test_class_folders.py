"""Which folders of a tree are splits, and which classes."""

import os
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

from jaxssl.data.folder import Folder
from jaxssl.errors import UserError


def put(root: pathlib.Path, *paths: str) -> None:
    """Images of 3 x 2 pixels, each of another gray."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2), (number,) * 3).save(root / path)


def test_one_folder_is_no_class(tmp_path):
    put(tmp_path, "images/1.png", "images/2.png")
    assert Folder(tmp_path).class_names == ()
    assert Folder(tmp_path)[0].label == -1


def test_declared_splits(tmp_path):
    put(tmp_path, "train/cat/1.png", "train/dog/2.png", "val/dog/3.png", "val/eel/4.png", "x/5.png")
    parts = {part: Folder(tmp_path, part) for part in (None, "train", "test")}
    keys = {part: [f[i].key for i in range(len(f))] for part, f in parts.items()}
    assert keys[None] == keys["train"] == ["train/cat/1.png", "train/dog/2.png"]
    assert keys["test"] == ["val/dog/3.png", "val/eel/4.png"]
    assert Folder(tmp_path).class_names == Folder(tmp_path, "test").class_names
    assert [Folder(tmp_path, "test")[i].label for i in range(2)] == [1, 2]


def test_of_two_years_the_newer_is_read_whatever_the_hash_seed():
    code = "from jaxssl.data.splits import declared_splits; "
    code += "print(*sorted(declared_splits(('train2014', 'val2014', 'train2017', 'val2017'))))"
    for seed in range(4):
        environment = os.environ | {"PYTHONHASHSEED": str(seed)}
        found = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
        assert found == "train2017 val2017\n"


def test_a_class_called_train_is_no_split(tmp_path):
    put(tmp_path, "train/1.png", "plane/2.png", "ship/3.png")
    assert len(Folder(tmp_path)) == 3
    assert Folder(tmp_path).class_names == ("plane", "ship", "train")


@pytest.mark.parametrize(
    ("train", "test", "beside"),
    [
        ("train", "valid", "test"),
        ("Training", "Testing", ""),
        ("Train", "Test", ""),
        ("train", "eval", ""),
        ("TRAIN", "DEV", "TEST"),
        ("train2017", "val2017", "test2017"),
        ("training_set", "test_set", ""),
        ("TrainingSet", "ValidationSet", ""),
        ("seg_train/seg_train", "seg_test/seg_test", "seg_pred"),
        ("pets-1/train", "pets-1/valid", ""),
        ("ILSVRC_img_train", "ILSVRC_img_val", ""),
    ],
)
def test_names_of_parts_are_no_classes(train, test, beside, tmp_path):
    put(tmp_path, f"{train}/cat/1.png", f"{train}/dog/2.png", f"{test}/dog/3.png")
    if beside:
        put(tmp_path, f"{beside}/x/4.png")
    for part, keys in {None: 2, "train": 2, "test": 1}.items():
        opened = Folder(tmp_path, part)
        expected = {"cat", "dog"} | ({"x"} if beside and not beside.endswith("pred") else set())
        assert set(opened.class_names) == expected
        assert len(opened) == keys
        assert opened[keys - 1].label == 1


@pytest.mark.parametrize(
    "names",
    [
        ("val", "test"),
        ("valid", "Testing"),
        ("train1", "train2"),
        ("train", "extra"),
        ("fold1", "fold2"),
    ],
)
def test_folders_that_look_like_parts_without_one_to_learn_from(names, tmp_path):
    put(tmp_path, *(f"{name}/{i}.png" for name in names for i in range(2)))
    for part in (None, "train", "test"):
        with pytest.raises(UserError, match="look like parts of a data set and not like classes"):
            Folder(tmp_path, part)
    assert len(Folder(tmp_path / names[0])) == 2


def test_parts_may_be_in_the_classes(tmp_path):
    put(
        tmp_path,
        *(f"{c}/{p}/{i}.png" for c in ("a", "b") for p in ("train", "test") for i in (1, 2)),
    )
    for part in ("train", "test"):
        opened = Folder(tmp_path, part)
        assert opened.keys() == [f"{c}/{part}/{i}.png" for c in ("a", "b") for i in (1, 2)]
        assert opened.class_names == ("a", "b")
        assert [opened[i].label for i in range(4)] == [0, 0, 1, 1]


def test_classes_may_be_in_the_only_folder(tmp_path):
    put(tmp_path, "PetImages/Cat/1.png", "PetImages/Dog/2.png", "PetImages/Dog/3.png")
    assert Folder(tmp_path).class_names == ("Cat", "Dog")
    put(tmp_path / "one part", "test/Cat/1.png", "test/Dog/2.png")
    assert Folder(tmp_path / "one part").class_names == ("Cat", "Dog")


def test_folders_of_images_are_no_classes(tmp_path):
    put(tmp_path, "train/n1/images/1.png", "train/n2/images/2.png", "val/images/3.png")
    assert Folder(tmp_path, "test").class_names == ("n1", "n2")
    assert Folder(tmp_path, "test")[0].label == -1


def test_classes_with_words_of_parts(tmp_path):
    put(tmp_path, "bullet train/1.png", "test tube/2.png", "cat/3.png")
    assert Folder(tmp_path).class_names == ("bullet train", "cat", "test tube")
