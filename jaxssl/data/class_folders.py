"""Finds the folders of a tree of images that are its splits, and those that are its classes."""

import collections
import os
from collections.abc import Collection, Sequence

from jaxssl.data.name_matching import IMAGE_FOLDERS
from jaxssl.data.splits import declared_splits, split_of
from jaxssl.errors import UserError


def folder_at(key: str, depth: int) -> str:
    """The folder of that depth on the way to an image, "" if the image is not so deep."""
    folders = key.split("/")[:-1]
    return folders[depth] if len(folders) > depth else ""


def find_splits(keys: list[str]) -> tuple[int, set[str], int]:
    """Depth and names of the folders that are splits, and the depth of those that are classes.

    Splits are at the top, or in the only folder there; or in each class.
    """
    depth = 0
    while True:
        names = {folder_at(key, depth) for key in keys}
        splits = declared_splits(names)
        if splits:
            return depth, splits, depth + 1
        if len(names) != 1 or "" in names:
            below = {folder_at(key, depth + 1) for key in keys}
            splits = declared_splits(below)
            return (depth + 1, splits, depth) if splits == below else (depth, set(), depth)
        depth += 1


def find_classes(keys: list[str], depth: int) -> tuple[int, tuple[str, ...]]:
    """Depth and names of the folders that are classes: at that depth, or below splits again.

    Over all splits, so that a label means the same class in each.
    """
    names = set(filter(_may_be_class, {folder_at(key, depth) for key in keys}))
    if depth and names and all(split_of(name)[0] for name in names):  # seg_train/seg_train/forest
        return find_classes(keys, depth + 1)
    return depth, tuple(sorted(names)) if len(names) > 1 else ()


def _may_be_class(folder: str) -> bool:
    return folder.casefold() not in ("", *IMAGE_FOLDERS)


def check_classes(names: tuple[str, ...], path: str | os.PathLike[str]) -> None:
    """Raises UserError if all of them look like splits, of which none is to learn from."""
    if names and all(split_of(name)[0] for name in names):
        raise UserError(
            f"{path} holds {', '.join(names)}, which look like parts of a data set and not like "
            "classes: name those to learn from and to test on train and val, or give one of them, "
            f"folder:{path}/{names[0]}"
        )


def describe_unread(keys: Sequence[str], depth: int, splits: Collection[str]) -> str:
    """A remark that names the folders beside the splits from which no image is read; else ""."""
    kinds = {
        split_of(name)[0]: name for name in sorted(splits, key=lambda n: (len(n), n), reverse=True)
    }
    unread = sorted({folder_at(key, depth) for key in keys} - {*kinds.values()})
    named = ", ".join(name or "the top folder" for name in unread)
    return f": images left out, in {named}" if unread else ""


def describe_classes(keys: Sequence[str], depth: int, classes: Collection[str]) -> str:
    """A remark where folders of one name are in several classes and may be the classes; else ""."""
    pairs = {(folder_at(key, depth), folder_at(key, depth + 1)) for key in keys}
    counts = collections.Counter(inner for outer, inner in pairs if outer in classes)
    shared = [name for name in sorted(counts) if counts[name] > 1 and _may_be_class(name)]
    if not shared:
        return ""
    some = ", ".join(sorted(classes)[:3])
    return f": its classes are the folders {some}, not those in them, such as {shared[0]}"
