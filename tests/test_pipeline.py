"""The three input modes give the same batches, and which one is taken is said."""

import itertools
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxssl.data.batch_order import Order
from jaxssl.data.canvas import CanvasSpec, choose_pixels
from jaxssl.data.folder import Folder
from jaxssl.data.loading import load_arrays, warn_broken
from jaxssl.data.packing import Packing, pack
from jaxssl.data.pipeline import Pipeline, example_batch, open_pipeline
from jaxssl.data.rle import encode_mask
from jaxssl.data.source import Example, Regions
from jaxssl.errors import UserError

SPEC = CanvasSpec(60, (4, 4), objects=2, planes=1)


class Drawn:
    """Images of noise, each with three regions."""

    class_names, has_regions = (), True

    def __init__(self, count: int) -> None:
        self.spec = f"drawn:{count}"
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng(index)
        height, width = rng.integers(4, 30, 2).tolist()
        masks = rng.random((3, height, width)) < 0.5
        regions = Regions(
            size=(height, width),
            box=rng.random((3, 4)).astype(np.float32),
            area=masks.sum((1, 2)),
            object=np.array([0, 1, 1]),
            score=np.ones(3, np.float32),
            level=np.zeros(3, np.int64),
            rle=tuple(encode_mask(mask) for mask in masks),
        )
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Example(f"{index}.png", image, label=index % 3, regions=regions)

    def fingerprint(self) -> str:
        return self.spec


def opened(source, folder, mode: str, spec=SPEC, **options) -> Pipeline:
    options = {"batch_size": 4, "seed": 1, "device_bytes": 10**9, "progress": False} | options
    return open_pipeline(source, spec, mode=mode, cache_dir=folder, **options)


def first(pipeline: Pipeline, start: int, count: int) -> list[dict[str, np.ndarray]]:
    """Batches as the step sees them: in mode "device" it looks the images up."""
    batches = list(itertools.islice(pipeline.batches(start), count))
    resident = {n: unpacked(a) for n, a in pipeline.resident.items()}
    return [{n: a[b["index"]] for n, a in resident.items()} | b for b in batches]


def unpacked(values):
    """The rows that went into a packing."""
    if not isinstance(values, Packing):
        return values
    pages, rows = list(values.pages()), np.zeros_like(values.rows)
    for i, (page, start, used) in enumerate(
        zip(values.page, values.start, values.used, strict=True)
    ):
        rows[i, :used] = pages[page][start : start + used]
    return rows


def assert_same(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]]) -> None:
    for a, b in zip(one, other, strict=True):
        assert set(a) == set(b)
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name], name)


def test_every_epoch_has_every_image_at_most_once_in_an_order_of_its_own():
    order = Order(num_examples=22, batch_size=5, seed=3)
    assert order.steps_per_epoch == 4
    epochs = [np.concatenate([order.indices(4 * e + s) for s in range(4)]) for e in range(50)]
    assert all(len(set(epoch.tolist())) == 20 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 50
    assert set(np.concatenate(epochs).tolist()) == set(range(22))  # another remainder each time
    assert order.indices(0).dtype == np.int32


def test_no_seed_repeats_the_epochs_of_another():
    epochs = {
        tuple(Order(30, 30, seed).indices(epoch)) for seed in range(10) for epoch in range(10)
    }
    assert len(epochs) == 100


def test_without_shuffling_images_come_in_their_order():
    order = Order(7, 3, seed=0, shuffle=False)
    assert [order.indices(step).tolist() for step in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 0, 1]]


def test_a_sweep_has_every_image_in_every_mode(tmp_path):
    source = Drawn(11)
    pipelines = [opened(source, tmp_path, mode) for mode in ("device", "host", "stream")]
    assert [p.sweep_steps for p in pipelines] == [3, 3, 3]
    device, host, stream = ([*p.sweep()] for p in pipelines)
    assert [b["index"].tolist() for b in device] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 0]]
    assert_same(host, stream)
    for batch in host:
        for row, index in enumerate(batch["index"].tolist()):
            for name, array in load_arrays(source, index, SPEC).items():
                np.testing.assert_array_equal(batch[name][row], array)


def test_modes_give_the_same_batches(tmp_path):
    """From within the first epoch into the third; 11 images make 2 batches of 4."""
    source = Drawn(11)
    batches = {m: first(opened(source, tmp_path, m), 1, 4) for m in ("device", "host", "stream")}
    assert_same(batches["device"], batches["stream"])
    assert_same(batches["device"], batches["host"])
    for batch in batches["host"]:
        for row, index in enumerate(batch["index"].tolist()):
            for name, array in load_arrays(source, index, SPEC).items():
                np.testing.assert_array_equal(batch[name][row], array)


@pytest.mark.parametrize("mode", ["device", "host", "stream"])
def test_shares_of_a_batch_make_it_up(mode, tmp_path):
    whole = opened(Drawn(11), tmp_path, mode)
    shares = [opened(Drawn(11), tmp_path, mode, share=(i, 2)) for i in range(2)]
    for batches in (lambda p: first(p, 1, 4), lambda p: [*p.sweep()]):
        joined = [
            {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
            for halves in zip(*map(batches, shares), strict=True)
        ]
        assert_same(joined, batches(whole))


def test_processes_give_the_same_batches(tmp_path):
    for number in range(5):
        Image.new("RGB", (9, 7), (number, 0, 0)).save(tmp_path / f"{number}.png")
    source, spec = Folder(tmp_path), CanvasSpec(50, (4, 4))
    processes = opened(source, None, "stream", spec, batch_size=2, workers=2)
    threads = opened(source, None, "stream", spec, batch_size=2)
    batches = processes.batches(1)
    assert_same(list(itertools.islice(batches, 5)), first(threads, 1, 5))
    batches.close()


@pytest.mark.parametrize("mode", ["device", "host", "stream"])
def test_a_resumed_run_sees_the_batches_of_an_undisturbed_one(mode, tmp_path):
    whole = first(opened(Drawn(9), tmp_path, mode), 0, 7)
    assert_same(whole[5:], first(opened(Drawn(9), tmp_path, mode), 5, 2))
    assert any((a["index"] != b["index"]).any() for a, b in itertools.pairwise(whole))


def test_shapes_are_known_before_the_first_batch(tmp_path):
    for mode in ("device", "host", "stream"):
        pipeline = opened(Drawn(9), tmp_path, mode)
        example, (batch,) = example_batch(pipeline.spec, 4), first(pipeline, 0, 1)
        assert {n: (a.shape, a.dtype) for n, a in example.items()} == {
            n: (a.shape, a.dtype) for n, a in batch.items()
        }
        assert pipeline.num_examples == 9
        assert pipeline.steps_per_epoch == 2


def test_auto_chooses_by_size_and_says_why(tmp_path, monkeypatch):
    source, spec = Drawn(9), CanvasSpec(60, (4, 4))
    size = round(9 * spec.expected_bytes([source[i].image.shape[:2] for i in range(9)]))

    def choose(device_bytes: int, free: int) -> tuple[str, str]:
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        pipeline = opened(source, tmp_path / "cache", "auto", spec, device_bytes=device_bytes)
        return pipeline.mode, pipeline.reason

    mode, reason = choose(int(size / 0.3) - 10, free=2 * size - 10)
    assert mode == "stream"
    assert f"{size / 1e9:.3g} GB" in reason
    assert "data.pixels 60 keeps 0% of them at full resolution" in reason
    assert "\n" not in reason
    assert choose(int(size / 0.3) - 10, free=2 * size)[0] == "host"
    mode, reason = choose(int(size / 0.3) - 10, free=0)
    assert mode == "host"
    assert "and are in" in reason
    mode, reason = choose(int(size / 0.3) + 10, free=0)
    assert mode == "device"
    assert "30% of the devices'" in reason
    shutil.rmtree(tmp_path / "cache")
    mode, reason = choose(int(size / 0.3) + 10, free=2 * size - 10)
    assert mode == "stream"
    assert f"exceed 50% of the {(2 * size - 10) / 1e9:.3g} GB free for" in reason


def test_what_cannot_be_is_refused_in_one_line(tmp_path):
    Image.new("RGB", (9, 7)).save(tmp_path / "1.png")
    for source, options, said in (
        (Drawn(3), {"batch_size": 4}, "set --config.batch_size=3 or less"),
        (Drawn(3), {"batch_size": 0}, "set --config.batch_size=3 or less"),
        (Drawn(9), {"mode": "gpu"}, "choose auto, device, host or stream"),
        (Folder(tmp_path), {"batch_size": 1}, r"mask_tools\.export --source folder:"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            opened(source, tmp_path, **{"mode": "stream"} | options)
        assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"], "and nothing is written"


@pytest.mark.parametrize("mode", ["host", "stream"])
def test_files_that_go_are_replaced_alike_in_every_mode(mode, tmp_path, caplog):
    for number in range(120):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(tmp_path / f"{number:03}.png")
    source = Folder(tmp_path)
    (tmp_path / "050.png").unlink()
    warn_broken.cache_clear()
    pipeline = opened(source, tmp_path / "cache", mode, CanvasSpec(4, (2, 2)), batch_size=60)
    reds = np.concatenate([batch["image"][:, 0] for batch in pipeline.sweep()])
    assert reds.tolist() == [*range(50), 51, *range(51, 120)]
    assert sum("050.png" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_counted_while_they_are_read(workers, tmp_path, caplog):
    for number in range(200):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(tmp_path / f"{number:03}.png")
    source, spec = Folder(tmp_path), CanvasSpec(4, (2, 2))
    for number in (3, 4):
        (tmp_path / f"{number:03}.png").write_bytes(b"torn")
    pipeline = opened(source, None, "stream", spec, batch_size=50, workers=workers)
    for _ in range(2):
        assert all("skipped" not in batch for batch in pipeline.sweep())
    said = [message.split(" cannot be read, ")[1] for message in caplog.messages]
    assert [m[: m.index(".png")] for m in said] == ["1 of 200 so far: 003", "2 of 200 so far: 004"]
    (tmp_path / "199.png").write_bytes(b"torn")
    with pytest.raises(UserError, match="3 of 200 images cannot be read: .*; at most 1% may be"):
        list(pipeline.sweep())


def test_packed_rows_are_where_it_says_and_take_what_is_used():
    rng = np.random.default_rng(0)
    used = rng.integers(1, 50, 200)
    rows = rng.integers(0, 255, (200, 50, 2), dtype=np.uint8)
    for row, length in zip(rows, used, strict=True):
        row[length:] = 0
    for page_bytes in (1, 300, 10_000, 10**6):
        packing = pack(rows, used, page_bytes)
        np.testing.assert_array_equal(unpacked(packing), rows)
        assert (packing.start + used <= packing.page_length).all()
        full = packing.num_pages if packing.num_pages > 1 else 0  # all but the last
        lost = packing.nbytes - 2 * used.sum()
        assert 0 <= lost <= full * 2 * used.max() + 2 * packing.page_length * (full > 0)


@pytest.mark.parametrize(("count", "whole"), [(20, True), (80, True), (1000, False)])
def test_a_few_large_photographs_keep_every_pixel(count, whole):
    """83 of 12 megapixels take 4 GB; of more, each has a budget as large as a street's."""
    pixels = choose_pixels([(3000, 4000)] * count, count)
    assert pixels == (3000 * 4000 if whole else 2048 * 1024)


@pytest.mark.parametrize("count", [3, 40, 90, 400])
def test_at_most_a_seventh_of_what_is_packed_is_empty(count):
    """Of images as ADE20K has them: most of 683 x 512, some of up to 2,400 pixels."""
    rng = np.random.default_rng(0)
    sides = rng.integers(1200, 2401, (count, 2)) * [[0.75, 1]]
    sides[rng.random(count) < 0.95] = 512, 683
    sizes = [(int(h), int(w)) for h, w in sides]
    spec = CanvasSpec(choose_pixels(sizes, 20_000), (128, 128), objects=64)
    made = {"levels": np.array([spec._layout(spec.fit(size)) for size in sizes])}
    used = spec.used(made)["image"]
    rows = np.broadcast_to(np.uint8(0), (count, *spec.arrays()["image"][0]))  # takes no memory
    for page_bytes in (2**26, 2**28):
        assert pack(rows, used, page_bytes).nbytes < used.sum() / 0.85
