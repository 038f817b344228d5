"""Self-supervised pre-training of vision encoders on scene images, from regions, in JAX.

    import jaxssl

    config = jaxssl.load_config("configs/quickstart.py:simclr", ["--config.epochs=4"])
    views = jaxssl.draw_views(config)                 # what it would learn from
    jaxssl.pretrain(config, "runs/try")               # continues if it was begun
    jaxssl.export_encoder("runs/try", "timm", "encoder.safetensors")
    encoder = jaxssl.load_encoder("encoder.safetensors")
    features = encoder(images)                        # u8[b, h, w, 3] to f32[b, d]
    jaxssl.evaluate_encoder(encoder, ["folder:photos"], ["knn", "linear"])

The commands do the same and more: `python -m jaxssl.train`, `evaluate`, `export`, `report`. Parts
to build with are in the modules: `jaxssl.methods`, `samplers`, `views`, `losses`, `models`, `data`.

What is named here is imported when it is first used, so that `import jaxssl` and `jaxssl.data` need
no JAX. Training is called `pretrain` for `jaxssl.train` is the module of the command: a function of
that name would give way to it as soon as anyone imports that.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxssl.config.file import load_config as load_config
    from jaxssl.data import open_source as open_source
    from jaxssl.evaluation.run import evaluate_encoder as evaluate_encoder
    from jaxssl.export import export_encoder as export_encoder
    from jaxssl.pretrained.encoder import load_encoder as load_encoder
    from jaxssl.preview import draw_views as draw_views
    from jaxssl.training.pretrain import pretrain as pretrain

__version__ = "0.1.0"
_PLACES = {
    "draw_views": "preview",
    "evaluate_encoder": "evaluation.run",
    "export_encoder": "export",
    "load_config": "config.file",
    "load_encoder": "pretrained.encoder",
    "open_source": "data",
    "pretrain": "training.pretrain",
}
__all__ = list(_PLACES)


if not TYPE_CHECKING:  # who checks types should find a name that does not exist

    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
