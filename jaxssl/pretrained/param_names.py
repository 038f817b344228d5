"""Converts weights from and to the names of other libraries, which are in `namings.py`.

Kernels have their output channels last here, as in Haiku, and first in torch. A file may hold more
than the encoder, under other names: prefixes are found, heads left out, and of several encoders in
one file the one is read that the method's authors evaluate.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import flax.traverse_util
import numpy as np

from jaxssl.errors import UserError
from jaxssl.pretrained.namings import NAMINGS, Path, torch_name
from jaxssl.types import Tree

# Words of prefixes of networks that are evaluated: DINO, BYOL, MoCo, MoCo v3, timm's average.
_PREFERRED = ("teacher", "online", "encoder_q", "query", "base_encoder", "ema")
# And of those that follow such a network, which may have no such word.
_FOLLOWING = ("momentum", "target", "encoder_k", "key", "ema", "student", "moco_encoder")
# MMEngine puts its averages into `state_dict`, and here what they are of.
_SWAPPED = "ema_state_dict.steps"
_CLASSIFIER = re.compile(r"(^|[./])(fc|head|classifier|logits)([./]|$)")
# What features do not depend on, also in layers of the encoder.
_UNUSED = re.compile(
    r"(^|[./])(num_batches_tracked|mask_token|masked_embed|\w+_ema/(counter|hidden))$"
)
_REGISTERS = re.compile(r"(embeddings\.)?(reg_token|register_tokens)$")
_QUERY = re.compile(r"^(.*[./])(query|q_proj)\.(weight|bias)$")


def to_torch(variables: Tree, naming: str = "torch") -> dict[str, np.ndarray]:
    """An encoder's variables as torchvision, timm and DINO name and lay them out.

    Or by the names of another in `NAMINGS` that lays them out so.
    """
    flat = flax.traverse_util.flatten_dict(variables)
    name = NAMINGS[naming]
    named = {name(path): _torch_axes(path, np.asarray(leaf)) for path, leaf in flat.items()}
    if "reg_token" in named:  # timm has the position of the class token in that token then
        places = named["pos_embed"]
        named |= {"cls_token": named["cls_token"] + places[:, :1], "pos_embed": places[:, 1:]}
    return named


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
    if naming not in ("flax", "haiku") and path[-1] == "kernel":
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array


@dataclasses.dataclass(frozen=True)
class Found:
    """The tensors of an encoder that were found in a file."""

    tensors: dict[str, np.ndarray]  # of the file
    naming: str  # one of `NAMINGS`
    names: dict[Path, str]  # in the file, of those that are there
    networks: tuple[str, ...]  # prefixes of the encoders in the file, the chosen one first

    def array(self, path: Path) -> np.ndarray:
        """A tensor as it is laid out here."""
        return _our_axes(path, self.tensors[self.names[path]], self.naming)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An encoder's variables out of a file, and the names of the other tensors in it."""

    variables: Tree
    naming: str  # one of `NAMINGS`
    ignored: tuple[str, ...]  # names that are no classifier's
    networks: tuple[str, ...] = ()  # prefixes of the encoders in the file, this one's first


def find_tensors(tensors: Mapping[str, np.ndarray], paths: Sequence[Path], prefix: str) -> Found:
    """Finds tensors of an encoder, under any of the `NAMINGS`; some may be missing.

    Args:
      tensors: of a file, by name.
      paths: of the variables that the encoder has.
      prefix: of names, or a part of one between dots, that the encoder's have; "" to choose it.
    """
    tensors = _join_queries(tensors)
    if word := prefix.strip("./"):
        under = re.compile(rf"(^|[./]){re.escape(word)}[./]")
        chosen = {name: array for name, array in tensors.items() if under.search(name)}
        if not chosen:
            tops = dict.fromkeys(".".join(re.split("[./]", name)[:2]) for name in tensors)
            raise UserError(f"no name in it has the prefix {prefix!r}; there are {', '.join(tops)}")
        tensors = chosen
    found = [Found(tensors, naming, *_find(tensors, paths, NAMINGS[naming])) for naming in NAMINGS]
    return max(found, key=lambda one: len(one.names))


def from_tensors(tensors: Mapping[str, np.ndarray], shapes: Tree, prefix: str = "") -> Loaded:
    """The variables of an encoder, f32, from tensors under any of the `NAMINGS`.

    Their names may have a common prefix, such as `module.encoder_q.`. `shapes` are those of the
    variables: every one of them must be there, and no further layer. `prefix` chooses one of
    several encoders; see `find_tensors`.
    """
    flat = flax.traverse_util.flatten_dict(shapes)
    found = find_tensors(tensors, list(flat), prefix)
    naming, names = found.naming, found.names
    if missing := [path for path in flat if path not in names]:
        by = f" by {naming} names" if names else ""
        raise UserError(
            f"it has {len(names)} of the {len(flat)} tensors of the encoder{by}: "
            f"{(NAMINGS[naming] if names else torch_name)(missing[0])} is missing, for one; set "
            "encoder.name, stem and the like to those of the file"
        )
    variables = {}
    for path, name in names.items():
        array = found.array(path)
        expected = flat[path].shape
        if path[-1] == "pos_embed" and array.shape == (1, expected[1] - 1, expected[2]):
            # timm's of DINOv2 with registers: that of the class token is in the token
            array = np.pad(array, ((0, 0), (1, 0), (0, 0)))
        if array.shape != expected:
            raise UserError(
                f"{name} is {found.tensors[name].shape}, which is {array.shape} here, where the "
                f"encoder has {expected}; set encoder.name, width, stem, patch and "
                "image_size to those of the file"
            )
        variables[path] = array.astype(np.float32)
        if not np.isfinite(variables[path]).all():
            raise UserError(f"{name} holds values that are not finite; did its training diverge?")
    return Loaded(
        variables={"batch_stats": {}} | flax.traverse_util.unflatten_dict(variables),
        naming=naming,
        ignored=_others(found.tensors, names, naming),
        networks=found.networks,
    )


def _join_queries(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors with queries, keys and values in one, as timm has them, where they are apart."""
    joined = dict(tensors)
    for name in tensors:
        if match := _QUERY.match(name):
            words = (
                ("query", "key", "value") if match[2] == "query" else ("q_proj", "k_proj", "v_proj")
            )
            parts = [f"{match[1]}{word}.{match[3]}" for word in words]
            if all(part in joined for part in parts):
                whole = np.concatenate([joined.pop(part) for part in parts])
                joined[f"{match[1]}qkv.{match[3]}"] = whole
    return joined


def _find(
    tensors: Mapping[str, np.ndarray], paths: Sequence[Path], name: Callable[[Path], str]
) -> tuple[dict[Path, str], tuple[str, ...]]:
    """Names of an encoder's tensors in a file, by path: those under the prefix that has most.

    Batch statistics have a prefix of their own: in Haiku's files they are in another mapping. The
    prefixes of all encoders follow, the chosen one first.
    """
    found: dict[Path, str] = {}
    networks: tuple[str, ...] = ()
    for collection in ("params", "batch_stats"):
        wanted = {name(path): path for path in paths if path[0] == collection}
        counts = collections.Counter(
            prefix for key in tensors for prefix, rest in _splits(key) if rest in wanted
        )
        most = [p for p, count in counts.items() if count == max(counts.values())]
        best = _choose(most, [w for w in _PREFERRED if w != "ema" or _SWAPPED not in tensors])
        if len(most) > 1 and len(best) > 1 and counts[most[0]] == len(wanted):
            raise UserError(
                f"it holds several such networks, {' and '.join(best)}; choose one by "
                f"encoder.init_prefix={best[0].strip('./') or best[1].strip('./')}, say"
            )
        for prefix in best[:1]:
            found |= {wanted[s]: prefix + s for s in wanted if prefix + s in tensors}
            networks = networks or (prefix, *(p for p in most if p != prefix))
    return found, networks


def _choose(prefixes: Sequence[str], words: Sequence[str]) -> list[str]:
    """The prefix of the network to evaluate, by one of the words; several if they do not tell."""

    def those_with(word: str) -> list[str]:
        return [p for p in prefixes if f"_{word}_" in "_" + re.sub("[./]", "_", p) + "_"]

    for word in words:
        if len(preferred := those_with(word)) == 1:
            return preferred
    following = {p for word in _FOLLOWING for p in those_with(word)}
    return [p for p in prefixes if p not in following] or list(prefixes)


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Each split of a name into a prefix and the rest."""
    yield "", name
    for separator in re.finditer(r"[./]", name):
        yield name[: separator.end()], name[separator.end() :]


def _others(
    tensors: Mapping[str, np.ndarray], names: Mapping[Path, str], naming: str
) -> tuple[str, ...]:
    """Names of tensors that are neither the encoder's nor a classifier's.

    One that belongs to a layer like those of the encoder is an error, whatever it is called there:
    of another architecture.
    """
    word = re.compile(r"(?:params/|batch_stats/)?([A-Za-z]+|\d+)")
    prefixes = {name.removesuffix(NAMINGS[naming](path)) for path, name in names.items()}
    layers = {word.match(NAMINGS[naming](path))[1] for path in names}  # type: ignore[index]
    others = []
    for name in sorted(set(tensors) - set(names.values())):
        if _UNUSED.search(name):
            continue
        for prefix in prefixes:
            if name.startswith(prefix) and _REGISTERS.match(name.removeprefix(prefix)):
                count = math.prod(tensors[name].shape[:-1])
                raise UserError(f"it also has {name}; set encoder.registers={count}")
            first = word.match(name.removeprefix(prefix)) if name.startswith(prefix) else None
            if first and first[1] in layers:
                raise UserError(
                    f"it also has {name}, which the encoder has not; set encoder.name, and for "
                    "DINOv2 layer_scale, to those of the file"
                )
        if not _CLASSIFIER.search(name):
            others.append(name)
    return tuple(others)
