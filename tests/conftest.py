"""Eight simulated devices, strict arithmetic, checked shapes: set before anything is computed."""

import collections
import functools
import os
import pathlib
import re
import signal

import flax.linen as nn
import jax
import jaxlib.version
import numpy as np
import optax
import pytest
from jaxtyping import install_import_hook

# What is started in the background or by nohup ignores these, and tests send them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# What tests wait for is compiling: it takes half the time without LLVM's optimizations, and what
# is compiled is kept, however small: to load it takes a tenth of the time. The processes that tests
# start find it, too.
FLAGS = "--xla_backend_optimization_level=0"
if jaxlib.version.__version_info__ < (0, 11):
    # Its older way to generate code takes half of what is left; later versions have it no more. By
    # it, whether numbers are rounded between product and sum depends on the program around them,
    # so that programs whose results shall be equal to the last bit differ: AVX has no such sums.
    FLAGS += " --xla_cpu_use_fusion_emitters=false --xla_cpu_max_isa=AVX"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
PROGRAMS = str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / f"xla{WORKER}")
os.environ["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
jax.config.update("jax_compilation_cache_dir", PROGRAMS)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
install_import_hook(["jaxssl", "mask_tools"], "beartype.beartype")

from tiny_encoder import TinyEncoder  # noqa: E402 - after the hook that checks shapes

from jaxssl.config.parts import KNOWN  # noqa: E402
from jaxssl.data.canvas import CanvasSpec  # noqa: E402
from jaxssl.data.source import Example  # noqa: E402
from jaxssl.methods import SimCLR  # noqa: E402
from jaxssl.models import variable_shapes  # noqa: E402
from jaxssl.models.resnet import BLOCKS, ResNet  # noqa: E402
from jaxssl.models.vit import ViT  # noqa: E402
from jaxssl.training.step import TrainStep  # noqa: E402
from jaxssl.training.trainer import Trainer  # noqa: E402
from jaxssl.types import Features, View  # noqa: E402

GOLDEN = pathlib.Path(__file__).parent / "golden"
# Files of over a minute come first: one that is begun last is waited for by one process alone.
LONGEST = ("test_notebooks", "test_documentation", "test_train", "test_distributed", "test_kill")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture
def golden():
    """Loads one file of outputs of other people's code: `golden("detcon_loss")["pred1"]`."""
    return lambda name: np.load(GOLDEN / f"{name}.npz", allow_pickle=False)


@pytest.fixture(scope="session")
def tiny_encoder():
    return TinyEncoder()


def canvas_batch(images, sides=(8, 16), hw=None):
    """Images u8[b, h, w, 3] as canvases for views of these sides, of originals of size `hw`."""
    size = images.shape[1:3]
    spec = CanvasSpec(size[0] * size[1], sides)
    made = [spec.make(Example("", np.asarray(image)), size) for image in images]
    batch = {name: np.stack([canvas[name] for canvas in made]) for name in spec.arrays()}
    return batch if hw is None else batch | {"hw": np.array(hw, np.int32)}


def collectives(program):
    """How often devices exchange something in the text of a compiled program, by kind."""
    kinds = r"all-\w+|collective-\w+|reduce-scatter|ragged-all-to-all"
    return dict(collections.Counter(re.findall(rf" ({kinds})(?:-start)?\(", program)))


@pytest.fixture(scope="session")
def views():
    """Three views of four images, as features."""
    rng = np.random.default_rng(0)
    return [View(image=rng.standard_normal((4, 1, 1, 5), np.float32)) for _ in range(3)]


class GivenFeatures(nn.Module):
    """The images are the features: for numbers that concern heads and losses alone."""

    def __call__(self, images, train):
        return Features(grid=images, pooled=images[:, 0, 0])


@pytest.fixture(scope="session")
def given_features():
    return GivenFeatures()


class EncoderAlone(SimCLR):
    """Not to be trained: the parameters are the encoder's variables."""

    def encoder_variables(self, params, state):
        return params


@pytest.fixture(scope="session")
def make_trainer(tiny_encoder):
    """`make_trainer(sampler, views, pipeline, mesh)`: for what works with an encoder as it is."""

    def make(sampler, views, pipeline, mesh):
        method = EncoderAlone(tiny_encoder)
        step = TrainStep(method, sampler, views, optax.identity(), lambda step: 0.1, total_steps=1)
        return Trainer(step, pipeline, mesh, seed=0)

    return make


@pytest.fixture(scope="module")
def small_encoders(tiny_encoder, tmp_path_factory):
    """`encoder.name` may be tiny or vit; and all tests share a cache folder."""
    vit = functools.partial(ViT, dim=16, depth=1, heads=2)
    known = KNOWN["encoder"] | {"tiny": type(tiny_encoder), "vit": vit}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KNOWN, "encoder", known)
        patch.setenv("JAXSSL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture
def small_resnet(monkeypatch):
    """Shapes of an encoder with one bottleneck in each stage, and some tensors of it in torch."""
    monkeypatch.setitem(BLOCKS, 50, (1, 1, 1, 1))
    shapes = variable_shapes(ResNet(depth=50, width=1 / 16), 64)
    rng = np.random.default_rng(0)
    return shapes, jax.tree.map(lambda s: rng.random(s.shape, np.float32), shapes)
