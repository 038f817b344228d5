"""Labels in a table beside the images."""

import pytest
from PIL import Image

from jaxssl.data import open_source
from jaxssl.data.label_table import read_labels, sort_classes
from jaxssl.errors import UserError

KEYS = ["train/a1.jpg", "train/a2.jpg", "train/b.jpg", "test/c.jpg"]
LABELS = {"train/a1.jpg": "cat", "train/a2.jpg": "dog"}


@pytest.mark.parametrize(
    "table",
    [
        "image,label\na1.jpg,cat\na2.jpg,dog\n",
        "id,breed\na1,cat\na2,dog\nzz,cow\n",
        "label;file_name;width\ncat;train/a1.jpg;7\ndog;train/a2.jpg;8\n",
        "\ufefffilename\tclass\na1.jpg\tcat\na2.jpg\tdog\nb.jpg\t\n",
        "a1.jpg,cat\na2.jpg,dog",
        'id,url,Label\r\na1,"x,y",cat\r\na2,,dog\r\n',
        "Filename;Label\nA1.JPG;cat\nA2.JPG;dog\n",
        "file,label\nC:\\set\\train\\a1.jpg,cat\nC:\\set\\train\\a2.jpg,dog\n",
        "file,label\ndata/train/a1.jpg,cat\ndata/train/a2.jpg,dog\n",
        "image , label\n a1.jpg , cat\n a2.jpg , dog\n a2.jpg , dog\n",
        "train/a1.jpg cat\ntrain/a2.jpg dog\n",
        "# of 2024\nimage,label\na1.jpg,cat\na2.jpg,dog\n",
    ],
)
def test_tables(table, tmp_path):
    (tmp_path / "t.csv").write_text(table, encoding="utf-8")
    assert read_labels(tmp_path / "t.csv", KEYS) == LABELS


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "image,label\nz1.jpg,cat\n",
            "names none of the images, and not train/a1.jpg; a row .* is z1.jpg,cat",
        ),
        (
            "image,x,y\na1.jpg,1,2\n",
            "has the columns image, x, y: call the one of the classes label",
        ),
        ("a1.jpg,cat\na2.jpg,dog\na1.jpg,dog\n", "has two classes for a1.jpg, cat and dog"),
        ("image,label\na1.jpg,\na2.jpg,\n", "has no class for any image"),
        ("", "names none of the images"),
        (
            "id,label\nz1,a1\nz2,x\nz3,y\nz4,z\n",
            "names 1 of 4 of the images, and not .*; a row .* is z4,z",
        ),
        (None, "t.csv does not exist"),
    ],
)
def test_tables_that_say_nothing(table, said, tmp_path):
    if table is not None:
        (tmp_path / "t.csv").write_text(table)
    with pytest.raises(UserError, match=said):
        read_labels(tmp_path / "t.csv", KEYS)


def test_rows_that_name_no_image_are_counted(tmp_path, caplog):
    (tmp_path / "t.csv").write_text("image,label\na1.jpg,cat\ngone.jpg,cow\na2.jpg,dog\nx.jpg,y\n")
    for _ in range(2):
        assert read_labels(tmp_path / "t.csv", KEYS) == LABELS
    (record,) = caplog.records
    assert record.message.endswith("t.csv: 2 of 4 rows name no image, such as gone.jpg,cow")
    (tmp_path / "all.csv").write_text("image,label\na1.jpg,cat\na2.jpg,dog\n")
    assert read_labels(tmp_path / "all.csv", KEYS) == LABELS
    assert len(caplog.records) == 1


def test_a_folder_with_a_table(tmp_path):
    for i in range(40):
        path = tmp_path / ("train" if i < 30 else "test") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (3, 2), (i,) * 3).save(path)
    rows = [f"{i},{i % 11}" for i in range(30)]
    (tmp_path / "train.csv").write_text("\n".join(["id,target", *rows]))
    spec = f"folder:{tmp_path}?labels=train.csv"
    train, test = open_source(spec, "train"), open_source(spec, "test")
    assert train.class_names == test.class_names == tuple(str(i) for i in range(11))
    assert len(train) + len(test) == 30  # the images of test/ have no label: a fifth of the others
    assert 2 <= len(test) <= 12
    for source in (train, test):
        assert [e.label for e in source] == [int(e.key[6:-4]) % 11 for e in source]
    before = train.fingerprint()
    (tmp_path / "train.csv").write_text("\n".join(["id,target", *rows[:-1], "29,0"]))
    assert open_source(spec, "train").fingerprint() != before
    assert len(open_source(spec)) == 30  # what to learn from is the part train/


def test_images_without_a_class_are_counted_and_the_table_is_not_left_out(tmp_path, caplog):
    for i in range(10):
        Image.new("RGB", (3, 2)).save(tmp_path / f"{i}.png")
    (tmp_path / "t.csv").write_text("id,label\n0,a\n1,b\n2,a\n3,b\n4,a\n5,\n")
    (tmp_path / "more.csv").write_text("")
    with caplog.at_level("INFO", "jaxssl.data"):
        for part in (None, "train"):
            source = open_source(f"folder:{tmp_path}?labels=t.csv", part)
            assert source.left_out == {".csv": 1}
    said = "t.csv: 5 of 10 images have no row with a class, such as 5.png; they have no label and"
    assert [said in message for message in caplog.messages] == [False, True]
    assert caplog.messages[0].endswith("files left out: 1 .csv")


def test_classes_that_are_numbers_are_sorted_by_value():
    assert sort_classes({"10", "9", "b", "a"}) == ("9", "10", "a", "b")
