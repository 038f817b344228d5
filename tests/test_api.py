"""What `import jaxssl` offers, and that it costs nothing."""

import pathlib
import subprocess
import sys
import tomllib

import numpy as np
import pytest

import jaxssl
from jaxssl import train

ROOT = pathlib.Path(__file__).parents[1]


def test_importing_starts_neither_jax_nor_a_device():
    code = """if True:
        import jaxssl, sys
        jaxssl.open_source("scenes:4"), dir(jaxssl), jaxssl.__version__
        assert "jax" not in sys.modules
        jaxssl.pretrain, jaxssl.draw_views, jaxssl.load_config
        import jax
        jax.config.update("jax_num_cpu_devices", 3)  # an error once there are devices
        assert jax.local_device_count() == 3
        """
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "name",
    ["draw_views", "evaluate_encoder", "export_encoder", "load_config", "open_source", "pretrain"],
)
def test_names_are_documented(name):
    assert name in jaxssl.__all__
    assert name in dir(jaxssl)
    assert getattr(jaxssl, name).__doc__
    assert f"jaxssl.{name}" in jaxssl.__doc__ or name == "open_source"


def test_the_command_hides_no_function():
    assert jaxssl.train is train
    assert jaxssl.pretrain is train.pretrain
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        jaxssl.trian  # noqa: B018


def test_typed_and_of_one_version():
    assert (ROOT / "jaxssl" / "py.typed").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "jaxssl" in wheel["packages"]  # with all that is in the folder
    assert not {"exclude", "only-include"} & set(wheel)
    assert project["tool"]["hatch"]["version"]["path"] == "jaxssl/__init__.py"


@pytest.fixture
def config(small_encoders):
    words = ["encoder.name=tiny", "data.pixels=1024", "data.source=scenes:9", "views.size=16"]
    words += ["views.num_local=1", "views.local_size=8", "views.recipe=none"]
    return jaxssl.load_config(
        str(ROOT / "configs" / "quickstart.py"), [f"--config.{word}" for word in words]
    )


def test_views_of_some_images(config):
    first, second, local = jaxssl.draw_views(config, [0, 7])
    assert first.shape == second.shape == (2, 16, 16, 3)
    assert local.shape == (2, 8, 8, 3)
    for view in (first, second, local):
        assert 0 <= view.min() < 0.3
        assert 0.7 < view.max() <= 1
    assert np.abs(first - second).max() > 0.1
    assert np.abs(first[0] - first[1]).max() > 0.1
