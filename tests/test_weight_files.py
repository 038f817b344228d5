"""Files of weights: what is read is what was written, and nothing in them is run."""

import argparse
import collections
import datetime
import os
import pathlib
import pickle
import sys
import types
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxssl.pretrained.safe_pickle import Storage, Tensor
from jaxssl.pretrained.weight_files import read_weights, write_weights

RNG = np.random.default_rng(0)
ARRAYS = {
    "conv1.weight": RNG.standard_normal((4, 3, 2, 2)).astype(np.float32),
    "bn1.running_mean": RNG.standard_normal(4).astype(np.float32),
    "scalar": np.array(3, np.float32),
    "empty": np.zeros((0, 3), np.float32),
}


def save_torch(path, tree, zipped):
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)


def in_torch():
    return collections.OrderedDict((k, torch.tensor(v)) for k, v in ARRAYS.items())


def assert_arrays(read, expected=ARRAYS):
    assert set(read) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(read[name], array)


def test_safetensors_come_back_with_their_metadata(tmp_path):
    arrays = ARRAYS | {"transposed": ARRAYS["conv1.weight"].transpose(2, 3, 1, 0)}
    write_weights(tmp_path / "new" / "a.safetensors", arrays, {"format": "timm"})
    read = read_weights(tmp_path / "new" / "a.safetensors")
    assert_arrays(read.tensors, arrays)
    assert read.metadata == {"format": "timm"}
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.safetensors"]


def test_torch_reads_what_is_written_for_it(tmp_path):
    arrays = ARRAYS | {"transposed": ARRAYS["conv1.weight"].transpose(2, 3, 1, 0)}
    write_weights(tmp_path / "a.pth", {"model": arrays, "author": "ä", "flag": True}, {"step": "7"})
    for mapped in (False, True):
        saved = torch.load(tmp_path / "a.pth", mmap=mapped)
        assert_arrays({name: tensor.numpy() for name, tensor in saved.pop("model").items()}, arrays)
        assert saved == {"author": "ä", "flag": True}
    read = read_weights(tmp_path / "a.pth")
    assert_arrays(read.tensors, {f"model.{name}": array for name, array in arrays.items()})
    assert read.metadata == {"step": "7"}


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_are_read_as_torch_reads_them(tmp_path, zipped):
    whole = torch.arange(24.0).reshape(4, 6)
    net = torch.nn.BatchNorm1d(3)
    tree = {
        "state_dict": in_torch(),
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
        "views": [whole],
        "part": {"row": whole[2], "column": whole[:, 1], "transposed": whole.T, "whole": whole},
        "net": net.state_dict(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "half": torch.ones(3, dtype=torch.bfloat16) / 3,
        "long": torch.arange(3),
    }
    save_torch(tmp_path / "a.pth", tree, zipped)
    read = read_weights(tmp_path / "a.pth").tensors
    expected = {f"state_dict.{k}": v for k, v in ARRAYS.items()}
    expected |= {f"part.{k}": v.numpy() for k, v in tree["part"].items()}
    expected |= {f"net.{k}": v.numpy() for k, v in net.state_dict().items()}
    expected |= {"parameter": np.ones(2), "long": np.arange(3)}
    expected["half"] = np.asarray(jnp.full(3, 1 / 3, jnp.bfloat16))
    assert_arrays(read, expected)


def test_npz_files_hold_arrays_by_flat_names(tmp_path):
    arrays = ARRAYS | {"params/res_net50/~/initial_conv/w": ARRAYS["conv1.weight"]}
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    for name in ("a.npz", "b.npz"):
        read = read_weights(tmp_path / name)
        assert_arrays(read.tensors, arrays)
        assert read.metadata == {}
    np.savez(tmp_path / "text.npz", w=np.array(["a"]))
    assert_refused(tmp_path / "text.npz", "not numbers")


class FlatMapping(dict):
    """As Haiku's, which the parameters of BYOL's authors are saved in."""


FlatMapping.__module__ = "haiku._src.data_structures"


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_of_numpy_and_haiku_are_refused_with_the_way_to_convert_them(
    tmp_path, protocol, monkeypatch
):
    for name in ("haiku", "haiku._src", FlatMapping.__module__):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[FlatMapping.__module__].FlatMapping = FlatMapping
    tree = {"experiment_state": {"params": FlatMapping(conv={"w": ARRAYS["conv1.weight"]})}}
    (tmp_path / "haiku.pkl").write_bytes(pickle.dumps(tree, protocol=protocol))
    (tmp_path / "numpy.pkl").write_bytes(pickle.dumps(ARRAYS, protocol=protocol))
    np.save(tmp_path / "a.npy", tree)
    for path in sorted(tmp_path.iterdir()):
        assert_refused(path, "save its arrays under the same names, flat, to .safetensors or")
    assert_refused(tmp_path / "haiku.pkl", "it asks for haiku._src.data_structures.FlatMapping")


class Harmful:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def harmful_files(folder, marker):
    """A pickle with code in it, in every format that has pickles."""
    tree = {"a": torch.ones(3), "b": Harmful(marker)}
    save_torch(folder / "zipped.pth", tree, True)
    save_torch(folder / "legacy.pth", tree, False)
    np.save(folder / "a.npy", {"a": np.ones(3), "b": Harmful(marker)})
    np.savez(folder / "a.npz", a=np.ones(3), b=np.array(Harmful(marker), object))
    (folder / "bare.pth").write_bytes(pickle.dumps(Harmful(marker), protocol=2))
    return sorted(folder.iterdir())


def assert_refused(path, message):
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        read_weights(path)
    assert message in str(error.value), error.value
    assert str(path) in str(error.value)


def test_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "marker"
    (tmp_path / "files").mkdir()
    paths = harmful_files(tmp_path / "files", marker)
    assert len(paths) == 5
    refused_as = {"a.npy": "a pickle in it", "a.npz": "b.npy holds object, not numbers"}
    for path in paths:
        assert_refused(path, refused_as.get(path.name, "asks for posix.mkdir"))
    assert not marker.exists()


class Option(dict):
    """As Lightning's AttributeDict, with an object for an attribute."""

    def __init__(self, **options):
        super().__init__(options)
        self.where = pathlib.Path("data")


class Log:
    """As mmengine's HistoryBuffer."""

    def __init__(self):
        self.values, self.names = np.arange(3.0), {"a", "b"}
        self.last = torch.ones(2)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_lies_beside_the_weights_is_passed_over(tmp_path, zipped, protocol, monkeypatch):
    module = types.ModuleType("mmengine")
    for kind in (Option, Log):
        monkeypatch.setattr(kind, "__module__", "mmengine")
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "mmengine", module)
    tree = {
        "args": argparse.Namespace(lr=np.float32(0.1), out=pathlib.PurePosixPath("runs"), t=Log()),
        "log": collections.defaultdict(list, a=[Log(), Log()]),
        "options": Option(lr=1, net=torch.nn.Linear(2, 2)),
        "state_dict": in_torch(),
        "optimizer": {"state": {0: {"step": torch.ones(())}}, "groups": [{"w": torch.ones(5)}]},
        "when": [datetime.datetime(2024, 1, 1), np.random.default_rng(0), slice(3), {1, 2}],
        "type": [torch.float32, torch.device("cpu"), torch.Size([2]), np.dtype("f4"), 1j],
        "counter": collections.Counter("ab"),
        "wrapped": torch.nn.Parameter(torch.ones(2)),
        "small": torch.ones(2).to(torch.float8_e4m3fn) if zipped else 0,
    }
    for key in ("options", "when"):
        _ = pickle.dumps(tree[key])  # or the case would not be one
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    torch.save(tree, tmp_path / "a.pth", **options)
    monkeypatch.delitem(sys.modules, "mmengine")
    read = read_weights(tmp_path / "a.pth").tensors
    expected = {f"state_dict.{k}": v for k, v in ARRAYS.items()}
    expected |= {"optimizer.state.0.step": np.ones(()), "wrapped": np.ones(2)}
    assert_arrays(read, expected)


def test_a_whole_model_is_refused_with_what_to_save_instead(tmp_path):
    for zipped in (True, False):
        save_torch(tmp_path / "model.pth", torch.nn.Linear(2, 2), zipped)
        assert_refused(tmp_path / "model.pth", "torch.nn.modules.linear.Linear")
        assert_refused(tmp_path / "model.pth", "save the state_dict() of the model")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_truncated_files_are_refused(tmp_path, share):
    paths = [tmp_path / name for name in ("a.safetensors", "zipped.pth", "legacy.pth", "a.npz")]
    large = {"w": RNG.standard_normal((64, 64)).astype(np.float32)}
    write_weights(paths[0], large, {})
    save_torch(paths[1], {"w": torch.from_numpy(large["w"])}, True)
    save_torch(paths[2], {"w": torch.from_numpy(large["w"])}, False)
    np.savez(paths[3], **large)
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        assert_refused(path, "")


def test_what_is_no_file_of_weights(tmp_path):
    assert_refused(tmp_path / "nothing.pth", "no file of weights")
    assert_refused(tmp_path, "no file of weights")
    (tmp_path / "a.txt").write_text("hello, I am a text")
    assert_refused(tmp_path / "a.txt", "give one that is .safetensors")
    np.save(tmp_path / "a.npy", np.ones(3))
    assert_refused(tmp_path / "a.npy", "it is one array")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "b")
    assert_refused(tmp_path / "a.zip", "cannot be read")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (5,), (1,)),
        (4, (1,), (1,)),
        (-1, (2,), (1,)),
        (0, (2, 2), (3, 1)),
        (3, (2,), (-1,)),
        (0, (100, 100), (0, 0)),
        (0, (2,), (2**62,)),
    ],
)
def test_tensors_stay_inside_their_storage(offset, shape, strides):
    numbers = np.arange(4, dtype=np.float32)
    storage = Storage("0", "<f4")
    np.testing.assert_array_equal(Tensor(storage, 2, (2,), (1,)).read(numbers), [2, 3])
    with pytest.raises(ValueError, match="it holds a tensor of"):
        Tensor(storage, offset, shape, strides).read(numbers)


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_weights(path, ARRAYS, {})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_weights(path, {"other": np.ones(3)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
