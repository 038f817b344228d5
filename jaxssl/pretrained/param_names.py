"""The same weights under other names: torchvision's, timm's and DINO's, and Haiku's.

| here | torchvision, timm, facebookresearch/dino | google-deepmind: BYOL, DetCon |
| --- | --- | --- |
| `layer1_0/conv1/kernel` | `layer1.0.conv1.weight` | `block_group_0/~/block_0/~/conv_0/w` |
| `layer1_0/bn1/bias` | `layer1.0.bn1.bias` | `block_group_0/~/block_0/~/batchnorm_0/offset` |
| `layer1_0/bn1/mean` | `layer1.0.bn1.running_mean` | `.../batchnorm_0/~/mean_ema/average` |
| `layer1_0/downsample_conv` | `layer1.0.downsample.0` | `.../shortcut_conv` |
| `blocks_0/attn/qkv/kernel` | `blocks.0.attn.qkv.weight` | |
| `patch_embed/kernel` | `patch_embed.proj.weight` | |

Kernels have their output channels last here, as in Haiku, and first in torch. A file may hold more
than the encoder, under other names: prefixes are found, heads left out.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import flax.traverse_util
import numpy as np

from jaxssl.errors import UserError
from jaxssl.types import Tree

Path = tuple[str, ...]  # collection, modules, leaf: ("params", "layer1_0", "conv1", "kernel")

_TORCH_LEAVES = {"kernel": "weight", "scale": "weight"}
_TORCH_LEAVES |= {"mean": "running_mean", "var": "running_var"}
_HAIKU_LEAVES = {"kernel": "w", "bias": "offset"}
_HAIKU_LEAVES |= {"mean": "~/mean_ema/average", "var": "~/var_ema/average"}
# Of several networks in one file the one that the method's authors evaluate is read.
_PREFERRED = ("teacher", "online", "encoder_q")
_CLASSIFIER = re.compile(r"(^|[./])(fc|head|classifier|logits|num_batches_tracked)([./]|$)")


def torch_name(path: Path) -> str:
    """The name in torchvision's ResNet, and in timm's and DINO's ResNet and Vision Transformer."""
    _, *modules, leaf = path
    name = ".".join([*modules, _TORCH_LEAVES.get(leaf, leaf)])
    name = name.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
    name = re.sub(r"^(layer\d|blocks)_", r"\1.", name)
    return name.replace("patch_embed", "patch_embed.proj")


def haiku_name(path: Path) -> str:
    """The name in Haiku's ResNet."""
    _, *modules, leaf = path
    names = []
    for module in modules:
        if block := re.fullmatch(r"layer(\d)_(\d+)", module):
            names += [f"block_group_{int(block[1]) - 1}", "~", f"block_{block[2]}", "~"]
        elif layer := re.fullmatch(r"(conv|bn)(\d)", module):
            kind = layer[1].replace("bn", "batchnorm")
            names.append(f"{kind}_{int(layer[2]) - 1}" if names else f"initial_{kind}")
        else:
            names.append(module.replace("downsample", "shortcut").replace("_bn", "_batchnorm"))
    return "/".join([*names, _HAIKU_LEAVES.get(leaf, leaf)])


NAMINGS: dict[str, Callable[[Path], str]] = {
    "flax": "/".join,
    "torch": torch_name,
    "haiku": haiku_name,
}


def to_torch(variables: Tree) -> dict[str, np.ndarray]:
    """An encoder's variables as torchvision, timm and DINO name and lay them out."""
    flat = flax.traverse_util.flatten_dict(variables)
    return {torch_name(path): _torch_axes(path, np.asarray(leaf)) for path, leaf in flat.items()}


def to_flax(variables: Tree) -> dict[str, np.ndarray]:
    """An encoder's variables by their paths."""
    flat = flax.traverse_util.flatten_dict(variables)
    return {"/".join(path): np.asarray(leaf) for path, leaf in flat.items()}


def _torch_axes(path: Path, array: np.ndarray) -> np.ndarray:
    if path[-1] != "kernel":
        return array
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _our_axes(path: Path, array: np.ndarray, naming: str) -> np.ndarray:
    if naming == "haiku" and path[-1] != "kernel":
        return array.reshape(-1)  # [1, 1, 1, d] there
    if naming == "torch" and path[-1] == "kernel":
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An encoder's variables out of a file, and the names of the other tensors in it."""

    variables: Tree
    naming: str  # one of `NAMINGS`
    ignored: tuple[str, ...]  # names that are no classifier's


def from_tensors(tensors: Mapping[str, np.ndarray], shapes: Tree) -> Loaded:
    """The variables of an encoder, f32, from tensors under any of the `NAMINGS`.

    Their names may have a common prefix, such as `module.encoder_q.`. `shapes` are those of the
    variables: every one of them must be there, and no further layer.
    """
    flat = flax.traverse_util.flatten_dict(shapes)
    found = {naming: _find(tensors, list(flat), name) for naming, name in NAMINGS.items()}
    naming = max(found, key=lambda n: len(found[n]))
    names = found[naming]
    if missing := [path for path in flat if path not in names]:
        raise UserError(
            f"it has {len(names)} of the {len(flat)} tensors of the encoder: "
            f"{NAMINGS['torch' if not names else naming](missing[0])} is missing, for one; set "
            "encoder.name, stem and the like to those of the file"
        )
    variables = {}
    for path, name in names.items():
        array = _our_axes(path, tensors[name], naming)
        if array.shape != flat[path].shape:
            raise UserError(
                f"{name} is {tensors[name].shape}, which is {array.shape} here, where the encoder "
                f"has {flat[path].shape}; set encoder.name, width, stem, patch and image_size to "
                "those of the file"
            )
        variables[path] = array.astype(np.float32)
    return Loaded(
        variables={"batch_stats": {}} | flax.traverse_util.unflatten_dict(variables),
        naming=naming,
        ignored=_others(tensors, names, naming),
    )


def _find(
    tensors: Mapping[str, np.ndarray], paths: Sequence[Path], name: Callable[[Path], str]
) -> dict[Path, str]:
    """Names of an encoder's tensors in a file, by path: those under the prefix that has most.

    Batch statistics have a prefix of their own: in Haiku's files they are in another mapping.
    """
    found: dict[Path, str] = {}
    for collection in ("params", "batch_stats"):
        wanted = {name(path): path for path in paths if path[0] == collection}
        counts = collections.Counter(
            prefix for key in tensors for prefix, rest in _splits(key) if rest in wanted
        )
        most = [p for p, count in counts.items() if count == max(counts.values())]
        preferred = [p for word in _PREFERRED for p in most if word in p]
        if len(most) > 1 and not preferred and counts[most[0]] == len(wanted):
            raise UserError(f"it holds several such networks, {' and '.join(most)}; keep one")
        for prefix in (preferred or most)[:1]:
            found |= {wanted[s]: prefix + s for s in wanted if prefix + s in tensors}
    return found


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Each split of a name into a prefix and the rest."""
    yield "", name
    for separator in re.finditer(r"[./]", name):
        yield name[: separator.end()], name[separator.end() :]


def _others(
    tensors: Mapping[str, np.ndarray], names: Mapping[Path, str], naming: str
) -> tuple[str, ...]:
    """Names of tensors that are neither the encoder's nor a classifier's.

    One that belongs to a layer like those of the encoder is an error: of another architecture.
    """
    word = re.compile(r"(?:params/|batch_stats/)?([a-z]+)")
    prefixes = {name.removesuffix(NAMINGS[naming](path)) for path, name in names.items()}
    layers = {word.match(NAMINGS[naming](path))[1] for path in names}  # type: ignore[index]
    others = []
    for name in sorted(set(tensors) - set(names.values())):
        if _CLASSIFIER.search(name) or re.search(r"_ema/(counter|hidden)$", name):
            continue
        for prefix in prefixes:
            first = word.match(name.removeprefix(prefix)) if name.startswith(prefix) else None
            if first and first[1] in layers:
                raise UserError(
                    f"it also has {name}, which the encoder has not; set encoder.name to that of "
                    "the file"
                )
        others.append(name)
    return tuple(others)
