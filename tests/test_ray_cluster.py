"""Shards made by several jobs, or by a Ray cluster of two nodes, are those of a single run."""

import dataclasses
import pickle
import re
import warnings

import pytest
import tiny_masks
from PIL import Image
from small_export import contents

from jaxssl.data import open_source
from mask_tools import Transformers, export, segment_dataset
from mask_tools.backends.ray_cluster import share
from mask_tools.segmenters.grid import Grid
from mask_tools.segmenters.sam import Sam
from mask_tools.shards import Job

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ray
    from ray.cluster_utils import Cluster

ARGUMENTS = ("--source", "folder:images", "--segmenter", "fh", "--scale", "20,50", "--shards", "6")


def run_export(out, *options):
    return export.main([*ARGUMENTS, "--out", str(out), *map(str, options)])


@pytest.fixture(scope="module", autouse=True)
def images(tmp_path_factory):
    """A folder `images` in the current one, so that paths are relative."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "images").mkdir()
    scenes = open_source("scenes:24")
    for i in range(24):
        Image.fromarray(scenes[i].image).save(folder / "images" / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, images):
    """What one process makes, without help."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert run_export(folder, "--workers", 0) == 0
    return contents(folder)


@pytest.fixture(scope="module")
def cluster():
    """Two nodes, with a folder in common, as on any machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        nodes.add_node(num_cpus=1, num_gpus=1)  # a GPU in name
        yield nodes
        ray.shutdown()
        nodes.shutdown()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_jobs_of_an_array_share_the_files(tmp_path, whole, capsys, order):
    out = tmp_path / "out"
    for done, index in enumerate(order):
        assert not (out / "info.json").exists()
        assert run_export(out, "--workers", 0, "--num-shards", 3, "--shard-index", index) == 0
        made = {int(path.name.split("-")[1]) for path in out.glob("*.tfrecord")}
        assert made == {n for n in range(6) if n % 3 in order[: done + 1]}
        says = "2 of 6 files are complete" in capsys.readouterr().out
        assert says == (done == 0)
    assert contents(out) == whole


def test_a_job_that_is_none_of_the_array(tmp_path, capsys):
    assert run_export(tmp_path / "out", "--num-shards", 3, "--shard-index", 3) == 1
    assert "--shard-index 3 of --num-shards 3: give one from 0 to 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("is_sam", "resources", "actors"),
    [
        (True, {"CPU": 8.0, "GPU": 2.0}, (2, 1)),
        (True, {"CPU": 8.0, "GPU": 6.0}, (5, 1)),
        (True, {"CPU": 3.0}, (3, 0)),
        (False, {"CPU": 3.0, "GPU": 2.0}, (3, 0)),
        (False, {}, (1, 0)),
    ],
)
def test_sam_has_an_actor_on_each_gpu(tmp_path, is_sam, resources, actors):
    weights = tmp_path / "weights.pth"
    weights.touch()
    segmenter = Sam(checkpoint=str(weights)) if is_sam else Grid()
    job = Job(open_source("scenes:5"), segmenter, None, tmp_path, "train", 5)
    assert share(resources, job, 5) == actors


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cluster_of_two_nodes(tmp_path, whole, cluster, capsys):
    assert run_export(tmp_path / "out", "--ray", cluster.address) == 0
    assert "exporting: 24/24 images" in capsys.readouterr().err
    assert contents(tmp_path / "out") == whole


@pytest.mark.filterwarnings("ignore")
def test_what_an_actor_raises_ends_the_run_in_one_line(tmp_path, cluster, capsys):
    masks = tmp_path / "masks.json"
    masks.write_text("{}")
    words = ["--source", "scenes:4", "--segmenter", "proposals", "--path", str(masks)]
    words += ["--out", str(tmp_path / "out"), "--ray", cluster.address]
    assert export.main(words) == 1
    assert f"{masks} is no list of COCO results" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.filterwarnings("ignore")
def test_a_bug_in_an_actor_keeps_its_traceback(tmp_path, cluster):
    @dataclasses.dataclass(frozen=True)
    class Buggy(Grid):
        def __call__(self, example):
            _, _ = example.image.shape  # three values
            return []

    with pytest.raises(ValueError, match="too many values") as error:
        segment_dataset("folder:images", Buggy(), tmp_path / "out", ray=cluster.address)
    assert re.match("Raised for the image .*png of folder:images", error.value.__notes__[0])
    assert "test_ray_cluster.py" in str(error.value.__cause__)


@pytest.mark.filterwarnings("ignore")
def test_no_cluster_there(tmp_path, capsys):
    assert run_export(tmp_path / "out", "--ray", "127.0.0.1:1") == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert "--ray 127.0.0.1:1: no cluster there" in message
    assert "give local" in message


def test_a_model_of_transformers_has_an_actor_on_each_gpu_and_goes_there(tmp_path):
    segmenter = Transformers(tiny_masks.save("sam", tmp_path / "sam"), device="cpu")
    assert pickle.loads(pickle.dumps(segmenter)) == segmenter
    job = Job(open_source("scenes:5"), segmenter, None, tmp_path, "train", 5)
    assert share({"CPU": 8.0, "GPU": 2.0}, job, 5) == (2, 1)
