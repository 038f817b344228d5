"""Exports the encoder of a run: `python -m jaxssl.export --workdir runs/quickstart`.

The method chooses the variables, the same as for evaluation: DINO's teacher, BYOL's online network.
`torchvision` and `timm` name and lay out a ResNet alike; a Vision Transformer has timm's names,
which are DINO's too. As `.pth` the file is one of `torch.save`, for mmseg and mmdet, which name
their ResNet as torchvision does, and for detectron2, which has other names. `jaxssl.load_encoder`
reads every format.
"""

import dataclasses
import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, cast

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxssl import sharding
from jaxssl.config.parts import BESIDE
from jaxssl.data import open_source
from jaxssl.data.loading import stack_arrays
from jaxssl.data.squares import SquareSpec
from jaxssl.errors import UserError, check_choice
from jaxssl.files import naming, write_text
from jaxssl.models.vit import ViT
from jaxssl.pretrained import param_names
from jaxssl.pretrained.encoder import Encoder, load_encoder
from jaxssl.pretrained.metadata import Metadata, preprocessing_of
from jaxssl.pretrained.model_card import model_card, torch_code, use_in_torch
from jaxssl.pretrained.weight_files import write_weights
from jaxssl.terminal import Parser, given_path, one_line_errors
from jaxssl.training.results import read_results, restore_encoder
from jaxssl.training.workdir import environment, read_config
from jaxssl.types import Named, Tree

FORMATS = ("torchvision", "timm", "flax", "detectron2")
CHECKED = 4  # images on which outputs are compared
TOLERANCE = 1e-3  # of the largest feature

# Follows `torch_code`: the largest difference between its features and those given.
_COMPARE = """
import sys
import numpy
given = numpy.load(sys.argv[1])
with torch.no_grad():
    features = net(torch.from_numpy(given["pixels"]).permute(0, 3, 1, 2)).numpy()
print(abs(features - given["features"]).max())
"""


def export_encoder(
    workdir: str | os.PathLike[str], format: str, out: str | os.PathLike[str]
) -> Encoder:
    """Writes the encoder of the newest checkpoint of a run, and a model card beside it.

    Prints how far features of the file are from those of the run, and from those that torch
    computes with it where the library of the format, one of `FORMATS`, is installed. Returns the
    encoder as `load_encoder` reads it from the file `out`, `.safetensors` or `.pth`.
    """
    workdir, out = pathlib.Path(workdir), pathlib.Path(out)
    check_choice("the format", format, FORMATS)
    endings = {"flax": (".safetensors",), "detectron2": (".pth",)}
    if out.suffix not in (allowed := endings.get(format, (".safetensors", ".pth"))):
        raise UserError(f"--out {out} of --format {format} must end in {' or '.join(allowed)}")
    config = read_config(workdir)
    encoder, step = restore_encoder(config, workdir, sharding.make_mesh())
    network = encoder.network
    if format in ("torchvision", "detectron2") and isinstance(network, ViT):
        raise UserError(f"{format} names a Vision Transformer otherwise; give --format timm")
    variables = jax.device_get(encoder.variables)
    naming = "detectron2" if format == "detectron2" else "torch"
    tensors = (
        param_names.to_flax(variables)
        if format == "flax"
        else param_names.to_torch(variables, naming)
    )
    metadata = file_metadata(config, format, step)
    code = torch_code(network, format, out.name)
    content: dict[str, Any] = dict(tensors)
    if format == "detectron2":  # which then finds the backbone's names in those of its detectors
        content = {"model": tensors, "matching_heuristics": True}
    write_weights(out, content, metadata.texts())
    card, results = out.with_suffix(".md"), read_results(workdir, step)
    if card.exists() and out.name not in card.read_text(errors="replace"):  # another's, or notes
        card = out.with_name(f"{out.name}.md")
    in_torch = use_in_torch(metadata, out.name, code)
    write_text(card, model_card(config, results, metadata, out.name, in_torch))
    print(f"{out}: {len(tensors)} of {len(jax.tree.leaves(variables))} tensors, of step {step}")
    print(f"{card}: the model card")
    if not in_torch:
        print(f"{format} has no encoder like this one: only jaxssl.load_encoder reads the file")
    loaded = load_encoder(out, config.encoder.name)
    compare_features(loaded, variables, metadata, out, code)
    return loaded


def file_metadata(config: ConfigDict, format: str, step: int) -> Metadata:
    """The metadata of the file: the encoder's config and the preprocessing of its images."""
    encoder = {k: v for k, v in config.encoder.to_dict().items() if k not in BESIDE["encoder"]}
    size = config.eval.size or config.views.size
    return Metadata(
        format=format,
        encoder=cast(Named, encoder),
        preprocessing=preprocessing_of(config.views.normalize, size),
        method=config.method.name,
        step=step,
        jaxssl=str(environment()["versions"]["jaxssl"]),
    )


def compare_features(
    loaded: Encoder, variables: Tree, metadata: Metadata, out: pathlib.Path, code: str
) -> None:
    """Prints how far features from the file are from those of the run, here and in torch.

    Devices that round the factors of products do not here: that is not the file's.

    Args:
      loaded: from the file.
      variables: of the run.
      metadata: of the file.
      out: the file.
      code: of `torch_code`; "": torch has no such encoder.

    Raises:
      UserError: torch cannot load the file, or features differ by more than rounding.
    """
    size = loaded.size
    if code and isinstance(loaded.network, ViT):  # timm takes no other
        size = loaded.network.image_size
    scenes = open_source(f"scenes:{CHECKED}")
    images = stack_arrays(scenes, np.arange(CHECKED), SquareSpec(size))["image"]
    with jax.default_matmul_precision("highest"):
        features = dataclasses.replace(loaded, variables=variables)(images)
        difference = float(abs(loaded(images) - features).max())
    largest, library = float(abs(features).max()), metadata.format
    print(f"largest feature {largest:.3g}; read from the file, features differ by {difference:.1e}")
    if code and not all(importlib.util.find_spec(name) for name in ("torch", library)):
        print(f"{library} is not installed, so features were not compared with it")
    elif code:
        preprocessing = metadata.preprocessing
        mean, std = (np.array(preprocessing[k], np.float32) for k in ("mean", "std"))
        pixels = (images.astype(np.float32) / 255 - mean) / std
        in_torch = float(_run_torch(code, out, pixels=pixels, features=np.asarray(features)))
        print(f"in {library}, features differ by {in_torch:.1e}")
        difference = float(np.maximum(difference, in_torch))  # NaN if one of them is
    if not difference <= TOLERANCE * largest:
        raise UserError(
            f"{out} gives other features: they differ by {difference:.1e}, the largest is "
            f"{largest:.3g}; load it by jaxssl.load_encoder only, and report this"
        )


def _run_torch(code: str, out: pathlib.Path, **arrays: np.ndarray) -> str:
    """The output of `code` and `_COMPARE`, in another process: jaxssl imports no torch."""
    with tempfile.TemporaryDirectory() as folder:
        given = pathlib.Path(folder, "given.npz")
        with naming(given):
            np.savez(given, allow_pickle=False, **arrays)
        run = subprocess.run(
            [sys.executable, "-c", code + _COMPARE, given],
            cwd=out.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode:
        said = run.stderr.strip().splitlines() or [
            f"its process ended with status {run.returncode}; is there too little memory?"
        ]
        raise UserError(f"torch cannot load {out}: {said[-1]}")
    return run.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one line that says what to do."""
    parser = Parser(
        prog="python -m jaxssl.export",
        description="Writes the encoder of a run's newest checkpoint, and beside it a model card.",
        epilog="example: python -m jaxssl.export --workdir runs/quickstart --format torchvision "
        "--out resnet18.safetensors",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--workdir", type=given_path, required=True, metavar="DIR", help="folder of the run"
    )
    parser.add_argument(
        "--format", choices=FORMATS, required=True, help="names and layout of the parameters"
    )
    parser.add_argument(
        "--out",
        type=given_path,
        required=True,
        metavar="FILE",
        help="file to write: FILE.safetensors, or FILE.pth for torch.load",
    )
    with one_line_errors() as status:
        args = parser.parse_args(argv)
        export_encoder(args.workdir, args.format, args.out)
    return status.code


if __name__ == "__main__":
    sys.exit(main())
