"""How well regions match annotations, against plain loops over pixels, also by `inspect`."""

import dataclasses
import functools
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jaxssl.data import open_source
from mask_tools import boundaries, export, inspect
from mask_tools.dataset_export import segment_dataset
from mask_tools.region_report import inspect_regions
from mask_tools.region_statistics import average, compare, compare_levels
from mask_tools.regions import collect, from_labels, from_mask
from mask_tools.segmenters.annotation import Annotation
from mask_tools.segmenters.grid import Grid

SIZE = (12, 18)


def partition(rng, count, levels=1):
    """Noise cut into as many regions, once for each level."""
    maps = [rng.integers(0, count, SIZE) for _ in range(levels)]
    return collect([r for n, ids in enumerate(maps) for r in from_labels(ids, level=n)], SIZE)


def best(mask, masks):
    return max((mask & other).sum() / (mask | other).sum() for other in masks)


@pytest.mark.parametrize("seed", range(5))
def test_compare_equals_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    annotated, regions = partition(rng, 4, levels=3), partition(rng, 6, levels=2)
    overlaps = [best(mask, regions.masks()) for mask in annotated.masks()]
    coverings = []
    for level in range(3):
        chosen = np.flatnonzero(annotated.level == level)
        total = sum(annotated.area[i] for i in chosen)
        coverings.append(sum(annotated.area[i] * overlaps[i] for i in chosen) / total)
    found = compare(annotated, regions)
    assert found.masks == len(annotated)
    assert found.overlap == pytest.approx(sum(overlaps))
    assert found.covering == pytest.approx(np.mean(coverings))


def test_levels_are_compared_with_each_other():
    regions = partition(np.random.default_rng(0), 4, levels=3)
    masks, level, area = regions.masks(), regions.level, regions.area
    overlap, coverings = 0.0, []
    for mine in range(3):
        overlap += sum(best(mask, masks[level != mine]) for mask in masks[level == mine])
        for other in {0, 1, 2} - {mine}:
            found = [best(mask, masks[level == other]) for mask in masks[level == mine]]
            coverings.append(np.dot(found, area[level == mine]) / np.prod(SIZE))
    found = compare_levels(regions)
    assert found.overlap == pytest.approx(overlap)
    assert found.covering == pytest.approx(np.mean(coverings))


def test_the_same_regions_meet_themselves_and_none_meet_nothing():
    regions = partition(np.random.default_rng(0), 5)
    same, nothing = compare(regions, regions), compare(regions, collect([], SIZE))
    assert (same.overlap, same.covering) == (len(regions), 1.0)
    assert (nothing.masks, nothing.overlap, nothing.covering) == (len(regions), 0.0, 0.0)
    empty = compare(collect([], SIZE), regions)
    assert average([same, nothing, empty]).texts() == {
        "annotated masks": "10 in 2 images",
        "average best overlap": "0.500",
        "covering": "0.500",
        "boundary recall": "0.500",
    }
    whole = collect([from_mask(np.ones(SIZE, bool))], SIZE)  # its frame is no boundary
    assert average([compare(whole, regions)]).texts()["boundary recall"] == "-"


def plain_boundary(masks):
    """Pixels whose right or lower neighbor is on the other side of an outline."""
    height, width = SIZE
    return {
        (y, x)
        for mask in masks
        for y in range(height)
        for x in range(width)
        for v, u in ((y + 1, x), (y, x + 1))
        if v < height and u < width and mask[y, x] != mask[v, u]
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reach", [0, 1, 2])
def test_boundary_recall_equals_a_plain_loop(seed, reach, monkeypatch):
    monkeypatch.setattr(boundaries, "REACH", reach / np.hypot(*SIZE))
    rng = np.random.default_rng(seed)
    annotated, regions = (
        collect([from_mask(ndimage.binary_opening(rng.random(SIZE) < 0.8)) for _ in "ab"], SIZE)
        for _ in "ar"
    )
    truth = [plain_boundary([mask]) for mask in annotated.masks()]
    found = plain_boundary(regions.masks())
    near = {
        (y + i, x + j)
        for y, x in found
        for i in range(-reach, reach + 1)
        for j in range(-reach, reach + 1)
    }
    annotated = dataclasses.replace(annotated, level=np.arange(2))
    expected = np.mean([len(edges & near) / len(edges) for edges in truth])
    assert reach or 0 < expected < 1
    assert compare(annotated, regions).boundary_recall == pytest.approx(expected)
    pair = compare_levels(annotated).boundary_recall
    assert reach or pair == pytest.approx(
        np.mean([len(truth[0] & truth[1]) / len(edges) for edges in truth])
    )


@pytest.fixture
def annotated(tmp_path):
    """Three synthetic scenes as files, and the left half and the whole of each as annotations."""
    scenes = open_source("scenes:3")
    for i in range(3):
        drawn = scenes[i].image
        path = tmp_path / "images" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(drawn).save(path)
        labels = np.zeros((2, *drawn.shape[:2]), np.uint8)
        labels[0, :, : drawn.shape[1] // 2] = 1
        (tmp_path / "labels").mkdir(exist_ok=True)
        for k in range(2 if i < 2 else 0):  # the last has none
            Image.fromarray(labels[k]).save(tmp_path / "labels" / f"{i}_{k}.png")
    return tmp_path


def export_to(folder, *words):
    given = ["--source", f"folder:{folder / 'images'}", "--out", str(folder / "out"), *words]
    assert export.main([*given, "--workers", "0", "--max-broken", "0.5"]) == 0


def test_inspect_compares_with_annotations(annotated, capsys):
    export_to(annotated, "--segmenter", "grid", "--rows", "1", "--cols", "2")
    words = [str(annotated / "out"), "--annotations"]
    assert inspect.main([*words, f"bsds:{annotated / 'labels'}"]) == 0
    text = capsys.readouterr().out
    # Halves are met in full, the whole by a half: overlaps 1, 1, 0.5; coverings 1 and 0.5.
    assert "annotated masks            6 in 2 images\n" in text
    assert "average best overlap       0.833\n" in text
    assert "covering                   0.750\n" in text
    # The cut between halves is the whole of the boundary; the other annotation has none.
    assert "boundary recall            1.000\n" in text
    assert "images without annotation  1\n" in text
    assert inspect.main([*words, "bsdss:x"]) == 1
    assert "no annotation format 'bsdss'" in capsys.readouterr().err


def test_ignored_values_are_no_annotations(tmp_path):
    for folder, values in (("train", (80, 120)), ("trainannot", (3, 11))):
        (tmp_path / folder).mkdir()
        pixels = np.repeat(np.array(values, np.uint8), 8)[None].repeat(8, axis=0)
        Image.fromarray(pixels).save(tmp_path / folder / "1.png")
    source, maps = f"folder:{tmp_path}", f"semantic:{tmp_path / 'trainannot'}"
    halves = Annotation("semantic", str(tmp_path / "trainannot"), ignore=(11,))
    segment_dataset(source, halves, tmp_path / "left", workers=1)
    segment_dataset(source, Grid(rows=1, cols=2), tmp_path / "both", workers=1)
    for annotations in (None, maps):
        find = functools.partial(inspect_regions, annotations=annotations)
        assert find(tmp_path / "left").match.masks == 1
        assert find(tmp_path / "left", ignore=(255,)).match.average_best_overlap == 0.5
        assert find(tmp_path / "both").match.masks == 2
        assert find(tmp_path / "both", ignore=(11,)).match.masks == 1


def test_annotations_that_are_left_out_are_counted(annotated, capsys):
    export_to(annotated, "--segmenter", "grid")
    words = [str(annotated / "out"), "--annotations", f"bsds:{annotated / 'labels'}"]
    half = Image.new("L", (96, 96))
    half.save(annotated / "labels" / "0_0.png")
    half.save(annotated / "labels" / "0_1.png")
    capsys.readouterr()
    assert inspect.main(words) == 0
    text = capsys.readouterr().out
    assert "annotated masks               3 in 1 images\n" in text
    assert "is not of its image's size: 96 x 96: 2 (first: a mask of 0.png)\n" in text
    half.save(annotated / "labels" / "1_0.png")
    half.save(annotated / "labels" / "1_1.png")
    assert inspect.main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert f"no image of {annotated / 'out'} has an annotated mask in bsds:" in line
    for path in (annotated / "labels").iterdir():
        path.rename(path.with_stem("x" + path.stem))
    assert inspect.main(words) == 1
    assert "0.png: has no annotation in" in capsys.readouterr().err


def test_inspect_gives_an_annotation_to_the_image_that_the_export_gives_it_to(annotated, capsys):
    images, labels = annotated / "images", annotated / "labels"
    (images / "far").mkdir()
    shutil.copy(images / "0.png", images / "far")
    export_to(annotated, "--segmenter", "grid")
    words = [str(annotated / "out"), "--annotations", f"bsds:{labels}"]
    capsys.readouterr()
    assert inspect.main(words) == 0
    text = capsys.readouterr().out
    assert "annotated masks            6 in 2 images\n" in text
    assert "images without annotation  2\n" in text  # 2.png and far/0.png
    (images / "near").mkdir()
    (images / "0.png").rename(images / "near" / "0.png")
    shutil.rmtree(annotated / "out")
    export_to(annotated, "--segmenter", "grid")
    assert inspect.main(words) == 1
    assert "fits the images 'far/0.png' and 'near/0.png' equally" in capsys.readouterr().err


def test_inspect_compares_annotators_with_each_other(annotated, capsys):
    words = ("--segmenter", "annotation", "--format", "bsds", "--path", str(annotated / "labels"))
    export_to(annotated, *words)
    capsys.readouterr()
    assert inspect.main([str(annotated / "out"), "--verify"]) == 0
    text = capsys.readouterr().out
    assert "annotators, each against the others\n" in text
    assert "average best overlap       0.500\n" in text
    assert "covering                   0.500\n" in text


def test_inspect_of_two_folders_has_a_column_for_each(annotated, capsys):
    export_to(annotated, "--segmenter", "grid", "--rows", "1", "--cols", "2")
    (annotated / "out").rename(annotated / "halves")
    export_to(annotated, "--segmenter", "grid", "--rows", "6", "--cols", "6")
    folders = [str(annotated / "halves"), str(annotated / "out")]
    capsys.readouterr()
    words = ["--annotations", f"bsds:{annotated / 'labels'}", "--min-area", "2000"]
    assert inspect.main([folders[0], *words, folders[1]]) == 0
    text = capsys.readouterr().out
    assert "A: halves, split train: grid, rows 1, cols 2" in text
    rows = {line[:25].strip(): line[25:].split() for line in text.splitlines()}
    assert rows["of 2000 px or more"] == ["2.0", "(2", "to", "2)", "0.0", "(0", "to", "0)"]
    assert rows["boundary recall"] == ["1.000", "1.000"]
    assert rows["average best overlap"] == ["0.833", "0.046"]
    assert inspect.main([*folders, "--preview", str(annotated / "a.png")]) == 1
    assert "--preview draws the regions of one folder" in capsys.readouterr().err
