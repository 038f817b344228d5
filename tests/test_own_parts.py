"""Parts that are not jaxssl's own: `--config.method.name=module:Class`, tasks, segmenters."""

import contextlib
import io
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_export import make_photos, run_export, the_error
from small_run import final_state, losses, run

import jaxssl
from jaxssl import evaluate, export, sharding
from jaxssl.config import base, build, defaults
from jaxssl.config.file import load_config
from jaxssl.config.parts import KNOWN
from jaxssl.data.records import read_info
from jaxssl.errors import UserError
from jaxssl.evaluation import TASKS
from jaxssl.evaluation.run import choose_tasks
from jaxssl.pretrained.encoder import Encoder
from mask_tools.export import _parse
from mask_tools.segmenters import SEGMENTERS

MODULE = textwrap.dedent('''
    """What a researcher may write beside their config."""

    from __future__ import annotations

    import dataclasses
    from typing import Any, ClassVar

    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxssl.evaluation.task import Task, TaskResult
    from jaxssl.losses import embedding_std
    from jaxssl.methods import SimCLR
    from jaxssl.methods.forward import State, forward, images
    from jaxssl.samplers import RandomCrop
    from jaxssl.types import Features
    from mask_tools.regions import from_mask


    @dataclasses.dataclass(frozen=True)
    class Alignment(SimCLR):
        """Wang and Isola, arXiv 2005.10242: alignment and uniformity of two views."""

        weight: float = 1.0  # of uniformity
        scales: tuple[float, ...] = ()

        def loss(self, params, state, views, *, key, t):
            projected, batch_stats = forward(
                self.network, params, state.batch_stats, images(views), True, key=key
            )
            x, y = (z / jnp.linalg.norm(z, axis=-1, keepdims=True) for z in projected)
            apart = jnp.sum((x[:, None] - x[None, :]) ** 2, axis=-1)
            uniform = jax.nn.logsumexp(-2 * apart) - jnp.log(apart.size)
            loss = jnp.mean(jnp.sum((x - y) ** 2, axis=-1)) + self.weight * uniform
            return loss, (State(batch_stats=batch_stats), {"embedding_std": embedding_std(x)})


    @dataclasses.dataclass(frozen=True)
    class Corner(RandomCrop):
        """The upper left quarter, for every view."""

        def boxes(self, key, example, memory, specs):
            height, width = example["hw"] // 2
            box = jnp.stack([0, 0, height, width]).astype(jnp.float32)
            return jnp.tile(box, (len(specs), 1)), jnp.zeros((), bool)


    class Patches(nn.Module):
        """A single layer."""

        dtype: Any
        remat: bool
        dim: int = 8

        @nn.compact
        def __call__(self, x, train=True):
            grid = nn.Conv(self.dim, (8, 8), (8, 8), dtype=self.dtype)(x.astype(self.dtype))
            return Features(grid.astype(jnp.float32), grid.mean((1, 2)).astype(jnp.float32))


    class NoMethod:
        pass


    @dataclasses.dataclass(frozen=True)
    class Half:
        needs_regions: ClassVar[bool] = False


    @dataclasses.dataclass(frozen=True)
    class Norm:
        """The protocol of a task."""

        power: float = 2.0


    def _norm(encoder, data, protocol, seed):
        features = encoder(np.stack([data.test[i].image[:16, :16] for i in range(4)]))
        norms = np.linalg.norm(features, ord=protocol.power, axis=1)
        return TaskResult({"norm": float(norms.mean())})


    NORM = Task(_norm, Norm(), "labels", seeded=False)
    MISSPELLED = Task(_norm, Norm(), "label")


    @dataclasses.dataclass(frozen=True)
    class Bright:
        """What is brighter than a threshold, as one region."""

        needs_original_size: ClassVar[bool] = False

        scale: float = 0.5  # of another type than that of `fh`
        seen: list[int] = dataclasses.field(default_factory=list, init=False)

        def __call__(self, example):
            return [from_mask(example.image.mean(-1) > 255 * self.scale)]


    @dataclasses.dataclass(frozen=True)
    class Unset(Bright):
        threshold: float | None = None


    @dataclasses.dataclass(frozen=True)
    class Taken(Bright):
        split: str = ""
''')


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The module's name; each test has one of its own, for Python keeps what it has imported."""
    name = f"parts_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for parts in (*KNOWN.values(), TASKS, SEGMENTERS):
        for part in [part for part in parts if part.startswith(name)]:
            del parts[part]


def test_own_parts_train_resume_are_evaluated_and_exported(own, tmp_path, capsys):
    changes = {
        "method__name": f"{own}:Alignment",
        "method__weight": 0.5,
        "sampler__name": f"{own}:Corner",
        "encoder__name": f"{own}:Patches",
        "sampler__min_area": None,
    }
    assert run(tmp_path / "run", variant="simclr", **changes, epochs=1) == 0
    assert run(tmp_path / "run", variant="simclr", **changes) == 0
    assert run(tmp_path / "whole", variant="simclr", **changes) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert set(final_state(tmp_path / "run")["params"]["encoder"]) == {"Conv_0"}
    argv = ["--workdir", str(tmp_path / "run"), "--tasks", "knn"]
    assert evaluate.main(argv) == 0
    out = tmp_path / "encoder.safetensors"
    assert export.main([*argv[:2], "--format", "flax", "--out", str(out)]) == 0
    assert "features differ by 0.0e+00" in capsys.readouterr().out
    with pytest.raises(
        UserError, match=f"^{out} is of {own}:Patches, which is not jaxssl's own; to imp"
    ):
        jaxssl.load_encoder(out)
    image = np.zeros((1, 16, 16, 3), np.uint8)
    assert jaxssl.load_encoder(out, f"{own}:Patches")(image).shape == (1, 8)


def test_fields_of_own_parts_are_keys(own):
    config = defaults("method", f"{own}:Alignment", dim=16)
    assert (config.weight, config.dim, config.scales) == (1.0, 16, ())
    assert build("method", config, encoder=None).weight == 1.0
    overrides = [f"--config.method.name={own}:Alignment", "--config.method.scales=(1,2.5)"]
    loaded = load_config("configs/quickstart.py", overrides)
    assert loaded.method.scales == (1.0, 2.5)
    with pytest.raises(UserError, match="takes finite numbers"):
        load_config("configs/quickstart.py", [*overrides, "--config.method.weight=much"])


@pytest.mark.parametrize(
    ("section", "name", "message"),
    [
        ("method", "no_such_module:A", "cannot be imported: No module named 'no_such_module'"),
        ("method", ":A", "cannot be imported: Empty module name"),
        ("method", "{own}:Missing", "has no dataclass of this name"),
        ("method", "{own}:NoMethod", "has no dataclass of this name"),
        ("method", "{own}:jax", "has no dataclass of this name"),
        ("method", "{own}:Half", "lacks after_step, check, encoder, encoder_variables, init, loss"),
        ("sampler", "{own}:Half", "lacks boxes, init: see jaxssl/samplers/__init__.py"),
        ("encoder", "{own}:Half", "lacks dtype, remat"),
        ("optim", "{own}:Half", "lacks lr, schedule, transform"),
        ("sampler", "random_crops", "or MODULE:CLASS of your own"),
    ],
)
def test_what_is_no_part_is_refused(own, section, name, message):
    with pytest.raises(UserError) as error:
        defaults(section, name.format(own=own))
    assert message in str(error.value)


def test_a_run_whose_part_is_gone_is_not_called_damaged(own, tmp_path, capsys):
    config = base()
    config.method = defaults("method", f"{own}:Alignment")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(config.to_json().replace(own, "gone"))
    assert evaluate.main(["--workdir", str(tmp_path / "run"), "--datasets", "objects:40"]) == 1
    said = capsys.readouterr().err
    assert "config.json: method.name is 'gone:Alignment', which cannot be imported: No mod" in said
    assert "damaged" not in said


def test_errors_inside_an_own_module_keep_their_traceback(own, tmp_path):
    (tmp_path / f"{own}_broken.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        defaults("method", f"{own}_broken:A")


def test_an_own_task_is_run_with_what_set_says(own, tiny_encoder, tmp_path):
    variables = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    encoder = Encoder(tiny_encoder, variables, "none", sharding.make_mesh(), size=16, show=False)
    task, norms = f"{own}:NORM", []
    for power in (2.0, 1.0):
        settings = f"{task}.power={power}"
        (record,) = jaxssl.evaluate_encoder(
            encoder, "objects:20", task, settings=settings, cache_dir=tmp_path
        )
        assert (record.task, record.protocol["power"]) == (task, power)
        norms.append(record.result.results["norm"])
    assert 0 < norms[0] < norms[1]  # the 2-norm of a vector is below its 1-norm


def test_an_own_segmenter_has_its_fields_as_options(own, tmp_path):
    photos, out = make_photos(tmp_path), tmp_path / "records"
    source = f"folder:{photos}"
    for _ in range(2):  # the second time, all is there
        assert (
            run_export(out, source, f"{own}:Bright", "--scale", 0.25, "--workers", 2, "--shards", 2)
            == 0
        )
    assert read_info(out).segmenter["name"] == f"{own}:Bright"
    assert read_info(out).segmenter["parameters"]["scale"] == 0.25
    for example in jaxssl.open_source(f"records:{out}"):
        bright = int((example.image.mean(-1) > 255 / 4).sum())
        assert list(example.regions.area) == ([bright] if bright else [])
    help_text = io.StringIO()
    with contextlib.redirect_stdout(help_text), pytest.raises(SystemExit):
        _parse(["--segmenter", f"{own}:Bright", "--help"])
    assert "What is brighter than a threshold" in help_text.getvalue()
    assert "--seen" not in help_text.getvalue()
    assert "--min-size" not in help_text.getvalue()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{own}:Missing", "has no dataclass of this name"),
        ("{own}:Half", "lacks __call__, needs_original_size: see mask_tools/segmenters/__init__"),
        ("{own}:Unset", "threshold needs a number, a text, a tuple of these, or False as its def"),
        ("{own}:Taken", "split is an option of the command; rename it"),
        ("nowhere:A", "--segmenter is 'nowhere:A', which cannot be imported"),
        ("brightness", "invalid choice: 'brightness'"),
    ],
)
def test_what_is_no_segmenter_is_refused(own, tmp_path, capsys, name, message):
    assert run_export(tmp_path / "out", "scenes:2", name.format(own=own)) == 1
    assert message in the_error(capsys)


@pytest.mark.parametrize("name", ["Alignment", "Missing", "np"])
def test_what_is_no_task_is_refused(own, name):
    with pytest.raises(UserError, match=f"--tasks is '{own}:{name}'; {own} has no Task of this"):
        choose_tasks([f"{own}:{name}"])


def test_a_task_that_needs_what_no_data_set_has_is_refused(own):
    with pytest.raises(UserError, match="MISSPELLED needs is 'label'; choose one of images, labe"):
        choose_tasks([f"{own}:MISSPELLED"])
