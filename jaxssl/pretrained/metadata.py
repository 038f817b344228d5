"""The metadata in the file of an encoder: which encoder it is, and how its images are prepared."""

import dataclasses
import json
import pathlib
import typing
from collections.abc import Mapping

from jaxssl.checked_files import parse_json
from jaxssl.errors import UserError
from jaxssl.image.augment import NORMALIZE
from jaxssl.types import Named

AGAIN = "export it again"  # what to do about a damaged file
_NEEDED = {"encoder", "preprocessing", "step"}


class Preprocessing(typing.TypedDict):
    """The preprocessing of an encoder's images; `size` is the side at which it was evaluated."""

    normalize: str
    mean: list[float]
    std: list[float]
    size: int


def preprocessing_of(normalization: str, size: int) -> Preprocessing:
    """The preprocessing with a normalization of `augment.NORMALIZE`."""
    mean, std = map(list, NORMALIZE[normalization])
    return {"normalize": normalization, "mean": mean, "std": std, "size": size}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """Metadata of an encoder; of files that others wrote, the texts are empty and `step` is 0."""

    format: str = ""  # one of `export.FORMATS`
    encoder: Named  # as in configs
    preprocessing: Preprocessing
    method: str = ""  # as `method.name` in configs
    step: int = 0  # of the run, at which it was saved
    jaxssl: str = ""  # the version that wrote it

    def texts(self) -> dict[str, str]:
        """The metadata as a file holds it: texts are kept, the rest is JSON."""
        fields = vars(self).items()
        return {k: v if isinstance(v, str) else json.dumps(v) for k, v in fields}


def parse_metadata(texts: Mapping[str, str], path: pathlib.Path) -> Metadata:
    """The metadata that `jaxssl.export` wrote into the file at `path`."""
    if missing := _NEEDED - set(texts):
        raise UserError(f"{path} is damaged: it does not say its {min(missing)}; {AGAIN}")
    kinds = {k: kind for k, kind in typing.get_type_hints(Metadata).items() if k in texts}
    read: dict[str, typing.Any] = {
        name: texts[name] if kind is str else parse_json(texts[name], kind, path, advice=AGAIN)
        for name, kind in kinds.items()
    }
    if (name := read["preprocessing"]["normalize"]) not in NORMALIZE:
        raise UserError(f"{path} is damaged: it has no normalization {name!r}; {AGAIN}")
    return Metadata(**read)
