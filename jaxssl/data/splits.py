"""Divides the images of a source into those for training and those for testing.

Splits that a data set declares (folders or record splits named `train` and `val`, say, or
`Training` and `Testing`, or `train2017` and `val2017`) are taken as they are. Without them each
image's key decides, four to one: an image stays in its part when others are added or removed.
"""

import hashlib
import os
import re
from collections.abc import Collection, Mapping

from jaxssl.data.source import report
from jaxssl.errors import UserError

_WORDS = {
    "train": ("train", "training", "trainval", "trainset"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation", "valset"),
    "test": ("test", "testing", "testset", "holdout"),
    "other": ("extra", "labeled", "labelled", "unlabeled", "unlabelled", "fold", "split"),
}
SPLITS = ("train", "val", "test")
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def split_of(name: str) -> tuple[str, str]:
    """The split that a name says, "train", "val" or "test", and what else it says.

    Of `train2017` that is "train" and "2017", of `TestSet` "test" and "set". The first is "other"
    for a further part, such as `extra`, and "" if it says none, or two.
    """
    found = [match for match in _WORD.finditer(name) if match[0].lower() in _SPLIT_OF]
    if len(found) != 1:
        return "", name.lower()
    (word,) = found
    rest = (name[: word.start()] + name[word.end() :]).lower()
    return _SPLIT_OF[word[0].lower()], "".join(filter(str.isalnum, rest))


def declared_splits(names: Collection[str]) -> set[str]:
    """The folders, of those side by side, that are splits of one data set, "train" and another.

    Their names differ in no other word. A class that is called "train" is none. Of several such
    groups that of the shortest names is taken, of equally long ones the newest: `train2017`.
    """
    said = {name: split_of(name) for name in names}
    newest_first = sorted({rest for _, rest in said.values()}, reverse=True)
    for rest in sorted(newest_first, key=len):
        found = {name for name in names if said[name] in ((s, rest) for s in SPLITS)}
        kinds = {said[name][0] for name in found}
        if "train" in kinds and (len(kinds) > 1 or len(names) == 1):
            return found
    return set()


def choose_splits(splits: Collection[str], part: str | None) -> tuple[tuple[str, ...], str | None]:
    """The splits to read for a part, and the part that `in_part` must pick out of them, if any.

    `part` is "train", "test" or None: the images to learn from, all of them if none are declared.
    The part to test on is the split for validation if there is one: `test` often has no labels.
    """
    if part not in ("train", "test", None):
        raise UserError(f"no part {part!r} of a source; choose 'train', 'test' or None")
    named: dict[str, list[str]] = {}
    for name in sorted(splits, key=lambda name: (len(name), name)):
        named.setdefault(split_of(name)[0], []).append(name)
    train, evaluation = named.get("train"), named.get("val") or named.get("test")
    if train is None:
        return tuple(splits), part
    if evaluation is None:
        return (train[0],), part
    return ((evaluation if part == "test" else train)[0],), None


def report_unread(spec: str, counts: Mapping[str, int]) -> None:
    """Logs which splits of a source, given with their numbers of images, no part of it reads."""
    read = {name for part in ("train", "test") for name in choose_splits(counts, part)[0]}
    unread = [f"{name} ({count} images)" for name, count in counts.items() if name not in read]
    report(spec, f": splits left out: {', '.join(unread)}" if unread else "")


def in_part(key: str, part: str) -> bool:
    """Whether the image of this key is in the part, by a hash: one in five is for testing."""
    is_test = int.from_bytes(hashlib.sha256(os.fsencode(key)).digest()[:8]) % 5 == 0
    return is_test == (part == "test")
