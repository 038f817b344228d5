"""Sources of images. One string names a source, for every command that reads images.

    folder:PATH            any tree of images; class sub-folders give labels, folders beside them
                           label maps (`label_maps.py`)
    folder:PATH?labels=CSV the same with labels in a table (`label_table.py`)
    records:PATH           what mask_tools.export wrote
    tfds:NAME/SPLIT        a tensorflow-datasets data set (needs the extra `tfds`)
    scenes:N, objects:N    embedded, drawn from a seed: N scenes, N labeled single objects

`jaxssl.data.pipeline` turns a source into batches; it is not imported here, for it needs grain,
and the tools that only read images should start at once.
"""

import os
import re

from jaxssl.data.folder import Folder
from jaxssl.data.image_folders import find_images
from jaxssl.data.label_maps import open_label_maps
from jaxssl.data.records import Records
from jaxssl.data.source import BrokenImage, Example, Regions, Source
from jaxssl.data.synthetic.scenes import Objects, Scenes
from jaxssl.data.tfds import Tfds
from jaxssl.errors import UserError

__all__ = ["BrokenImage", "Example", "Regions", "Source", "open_source", "split_sources"]

_BEGINS = r"\s*(?:folder|records|tfds|scenes|objects):"


def split_sources(text: str) -> tuple[str, ...]:
    """Names of sources that commas separate; a comma in a path separates nothing.

    Texts that are no sources are separated by each comma.
    """
    is_one = re.match(_BEGINS, text)
    return tuple(part.strip() for part in re.split(f",(?={_BEGINS})" if is_one else ",", text))


def open_source(spec: str | os.PathLike[str], part: str | None = None, *, seed: int = 0) -> Source:
    """The source that a string names.

    Args:
      spec: such as `folder:photos`; see the head of this file.
      part: "train" or "test", for evaluation: the splits that the data set declares, else four
        fifths and one fifth of it; of `scenes:N` and `objects:N`, N images and N / 4 others.
        None: the images to learn from, the declared "train" split or else everything.
      seed: of the embedded sources.

    Raises:
      UserError: there is no such source, or nothing in it.
    """
    if not isinstance(spec, str | os.PathLike):
        raise UserError(f"a source is a text such as folder:photos, not {spec!r}")
    spec = os.fspath(spec)
    scheme, _, rest = spec.partition(":")
    if scheme == "records" and rest:
        return Records(os.path.expanduser(rest), part)
    if scheme == "folder" and rest:
        path, _, labels = os.path.expanduser(rest).partition("?labels=")
        if labels:
            return Folder(path, part, labels)
        return open_label_maps(path, part) or Folder(find_images(path), part)
    if scheme == "tfds" and rest:
        return Tfds(rest, part)
    if scheme in ("scenes", "objects"):
        if not (rest.isascii() and rest.isdigit() and int(rest) > 0):
            raise UserError(f"{spec!r} needs a number of images, such as {scheme}:10000")
        count = int(rest) if part != "test" else max(int(rest) // 4, 1)
        kind = Scenes if scheme == "scenes" else Objects
        return kind(count, seed=seed, part=part or "train")
    if os.path.isdir(spec):
        scheme = "records" if os.path.isfile(os.path.join(spec, "info.json")) else "folder"
        raise UserError(f"{spec!r} is a folder; say what is in it: {scheme}:{spec}")
    raise UserError(
        f"unknown source {spec!r}; give one such as folder:photos, records:data/ade20k, "
        "tfds:cifar10/train, scenes:10000 or objects:10000"
    )
