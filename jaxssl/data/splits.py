"""Which images of a source are for learning and which for testing.

Splits that a data set declares (folders or record splits named `train` and `val`, `validation` or
`test`) are taken as they are. Without them each image's key decides, four to one: an image stays
in its part when others are added or removed.
"""

import hashlib
import os
from collections.abc import Collection

from jaxssl.errors import UserError

EVALUATION_SPLITS = ("val", "validation", "test")  # in this order: `test` often has no labels


def choose_splits(splits: Collection[str], part: str | None) -> tuple[tuple[str, ...], str | None]:
    """The splits to read for a part, and the part that `in_part` must pick out of them, if any.

    `part` is "train", "test" or None: the images to learn from, all of them if none are declared.
    """
    if part not in ("train", "test", None):
        raise UserError(f"no part {part!r} of a source; choose 'train', 'test' or None")
    evaluation = next((name for name in EVALUATION_SPLITS if name in splits), None)
    if "train" not in splits:
        return tuple(splits), part
    if evaluation is None:
        return ("train",), part
    return (evaluation if part == "test" else "train",), None


def in_part(key: str, part: str) -> bool:
    """Whether the image of this name falls in the part: one in five is for testing."""
    is_test = int.from_bytes(hashlib.sha256(os.fsencode(key)).digest()[:8]) % 5 == 0
    return is_test == (part == "test")
