"""Finds the folder that holds a data set's images, beside folders of annotations."""

import logging
import os
import pathlib
from collections.abc import Iterator

from jaxssl.data.folder import SUFFIXES
from jaxssl.data.name_matching import IMAGE_FOLDERS, MASK_FOLDERS

log = logging.getLogger("jaxssl.data")


def find_images(path: str) -> str | pathlib.Path:
    """The folder of a data set's images, beside folders of annotations; else the path itself."""
    for place in places(pathlib.Path(path)):
        folders = [name for name in folder_names(place) if not name.startswith(".")]
        images = next((name for name in folders if name.casefold() in IMAGE_FOLDERS), None)
        if images and any(name.casefold() in MASK_FOLDERS for name in folders):
            others = [name for name in folders if name != images]
            if any(name.lower().endswith(SUFFIXES) for name in os.listdir(place)):
                others.append("the folder above")
            log.info("%s: the images are those in %s, not in %s", path, images, ", ".join(others))
            return place / images
    return path


def places(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """The root, and the folders that stand alone in it: VOCdevkit, VOCdevkit/VOC2012."""
    for _ in range(3):
        yield root
        folders = folder_names(root)
        if len(folders) != 1:
            return
        root /= folders[0]


def folder_names(folder: pathlib.Path, ending: str = "") -> list[str]:
    """The folders in a folder, or its files of an ending without it, the shortest name first."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # which knows folders without a look at each file
        found = [e.name for e in entries if (e.name.endswith(ending) if ending else e.is_dir())]
    return sorted((name.removesuffix(ending) for name in found), key=lambda name: (len(name), name))
