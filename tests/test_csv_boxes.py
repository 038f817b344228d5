"""Tables of boxes: their columns, what rows say, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from jaxssl.data.folder import Folder
from jaxssl.data.records import Records
from jaxssl.data.rle import decode_mask
from jaxssl.errors import UserError
from mask_tools import export
from mask_tools.csv_boxes import open_csv
from mask_tools.segmenters.proposals import Proposals

SIZE = (10, 20)
MASK = np.zeros(SIZE, bool)
MASK[3:7, 8:12] = True


def example(tmp_path):
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "7.png")
    return Folder(tmp_path)[0]


def regions_of(text, tmp_path):
    """The regions that a table has of the image 7.png, boxes taken."""
    (tmp_path / "b.csv").write_text(text, "utf-8-sig")
    return Proposals(str(tmp_path / "b.csv"), boxes=True)(example(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax\n7.jpg,20,10,cat,8,3,12,7\n",
        'ImageID;LabelName;XMin;XMax;YMin;YMax;IsOccluded\n7;"/m/a;b";0.4;0.6;0.3;0.7;1\n',
        "X,Y,Width,Height,path\n8,3,4,4,C:\\set\\7.png\n",
        "image\tx\ty\tw\th\twidth_of_box\n7\t8.0\t3\t4\t4\t\n",
        "image_name,bbox_x,bbox_y,bbox_width,bbox_height,width,height\n7,8,3,4,4,20,10\n",
        "y2,x2,y1,x1,file\r\n7,12,3,8,7.png\r\n\r\n",
    ],
)
def test_columns_are_found_by_their_names(tmp_path, text):
    (region,) = regions_of(text, tmp_path)
    assert (region.fault, region.score) == ("", 1.0)
    np.testing.assert_array_equal(decode_mask(region.rle, region.size), MASK)


def test_that_boxes_are_taken_as_shares_is_said(tmp_path):
    (tmp_path / "b.csv").write_text("file,x1,y1,x2,y2\n7,0.4,0.3,0.6,1\n")
    (note,) = open_csv(str(tmp_path / "b.csv")).notes
    assert note == "no number of a box is above 1.5: they are shares of the image's sides"
    (tmp_path / "b.csv").write_text("file,x1,y1,x2,y2\n7,0.4,0.3,0.6,2\n")
    assert open_csv(str(tmp_path / "b.csv")).notes == ()


HEADER = "file,xmin,ymin,xmax,ymax,confidence,IsGroupOf,image_height,image_width\n"


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        ("7,8,3,12,7", [""]),
        ("8,8,3,12,7\n7,,,,", []),
        ("8,8,3,12,7", []),  # as in COCO results, an image that is not named has none
        ("7,8,3,12", ["has a box that is not x, y, width and height"]),
        ("7,8,3,12,seven", ["has a box that is not x, y, width and height"]),
        ("7,8,3,30,7", ["reaches far out of its image of 10 x 20 pixels"]),
        ("7,8,3,21,7", [""]),
        ("7,25,3,30,7", ["has a mask that covers no pixel"]),
        (
            "7,0.4,0.3,0.6,0.7\n7,8,3,12,7",
            ["", "has points from 0 to 1: they must be in pixels, not shares of the sides"],
        ),
        ("7,8,3,12,7,high", ["has a score that is no number"]),
        ("7,8,3,12,7,0.5,1", ["is a group of objects"]),
        ("7,8,3,12,7,0.5,False", [""]),
        ("7,8,3,12,7,0.5,0,20,20", ["is not of its image's size: 20 x 20"]),
        ("7,8,3,12,7,0.5,0,-3,x", [""]),
    ],
)
def test_rows_that_are_no_boxes_are_at_fault(tmp_path, rows, faults):
    assert [region.fault for region in regions_of(HEADER + rows, tmp_path)] == faults


def test_scores_choose_boxes(tmp_path):
    rows = "7,8,3,12,7,0.5\n7,0,0,4,4,0.9\n7,1,1,5,5\n"
    (tmp_path / "b.csv").write_text(HEADER + rows)
    best, without = Proposals(str(tmp_path / "b.csv"), top=1, boxes=True)(example(tmp_path))
    assert (best.score, best.fault) == (np.float32(0.9), "")
    assert (without.name, without.fault) == ("line 4", "has no score")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7.png,8,3,12,7\n", "begins with '7.png,8,3,12,7': its first line must name one column"),
        ("file,xmin,ymin,xmax\n7,8,3,12\n", "its first line must name one column of the images"),
        ("file,path,x,y,w,h\n", "its first line must name one column of the images"),
        ("file,x,y,w,h,width,height\n", "the four of one box: xmin, ymin, xmax, ymax; x1"),
        ("file,x,x,y,w,h\n", "its first line must name one column"),
        ("", "begins with '': its first line must name"),
        ("file,x,y,w,h\n", "holds no box below its first line"),
        ("file,x,y,w,h\n7,,,,\n", "holds no box below its first line"),
        ("file,x,y,w,h\n7,1,1,2,2\n,1,1,2,2\n", "line 3: its column of images is empty"),
    ],
)
def test_tables_that_do_not_say_what_is_wanted_are_refused(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        regions_of(text, tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_table_is_damaged(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"file,x,y,w,h\n\xff\xfe,1,1,2,2\n")
    with pytest.raises(UserError, match=r"b\.csv is damaged: .*; save it anew, as a table"):
        Proposals(str(tmp_path / "b.csv"))(example(tmp_path))
    with pytest.raises(UserError, match=r"--images is for a file of COCO results, which --path"):
        Proposals(str(tmp_path / "b.csv"), images="b.json")


def test_an_export_counts_rows_without_an_image_and_images_without_a_box(tmp_path, capsys):
    for name in "1234":
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / f"{name}.jpg")
    rows = ["1,8,3,12,7", "1,0,0,5,5", "2,8,3,12,7", "3,8,3,12", "9,8,3,12,7", "8,8,3,12,7"]
    (tmp_path / "b.csv").write_text("\n".join(["ImageID,xmin,ymin,xmax,ymax", *rows]))
    words = ["--source", f"folder:{tmp_path / 'images'}", "--segmenter", "proposals"]
    words += ["--path", str(tmp_path / "b.csv"), "--out", str(tmp_path / "out"), "--workers", "0"]
    assert export.main([*words, "--dry-run"]) == 1
    assert "--boxes, with another --out, makes rectangles of boxes" in capsys.readouterr().err
    for extra in (["--dry-run"], []):
        assert export.main([*words, "--boxes", *extra]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "boxes 6 in" in text
        assert "(a table of boxes), 4 of them of images in the source" in text
        assert "images without 1; first: 4.jpg; they are kept, with no region" in text
        assert "annotated, but no image 2; first: 9" in text
        assert "has a box that is not x, y, width and height: 1 (first: line 5 of 3.jpg)" in text
    records = Records(tmp_path / "out")
    assert [len(records[i].regions) for i in range(4)] == [2, 1, 0, 0]
    assert export.main([*words, "--boxes"]) == 0
    (tmp_path / "b.csv").write_text((tmp_path / "b.csv").read_text().replace("8", "7"))
    assert export.main([*words, "--boxes"]) == 1
    assert "was exported with another path_sha256" in capsys.readouterr().err
