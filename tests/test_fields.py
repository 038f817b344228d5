"""Fields of segmenters as Python gives them: of the types that records note, or refused."""

import dataclasses
import math
import pathlib
import re

import numpy as np
import pytest

from jaxssl.errors import UserError
from mask_tools.segmenters.fields import take_fields


@dataclasses.dataclass(frozen=True)
class Fields:
    """One of each type; what it is given is checked by nothing else."""

    scale: tuple[float | int, ...] = (1000,)
    names: tuple[str, ...] = ()
    path: str = ""
    rows: int = 5
    min_score: float = 0.0
    boxes: bool = False

    def __post_init__(self):
        take_fields(self)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        *[({"scale": s}, {"scale": (500,)}) for s in (500, [500], {500}, np.array([500]))],
        ({"scale": np.array([0.5, 2])}, {"scale": (0.5, 2.0)}),
        ({"scale": np.int64(500)}, {"scale": (500,)}),
        ({"names": "rgb"}, {"names": ("rgb",)}),
        ({"names": ["a", "b"]}, {"names": ("a", "b")}),
        ({"path": pathlib.Path("a/b")}, {"path": "a/b"}),
        ({"rows": np.int32(3)}, {"rows": 3}),
        ({"min_score": 1}, {"min_score": 1.0}),
        ({"min_score": np.float32(0.5)}, {"min_score": 0.5}),
    ],
)
def test_what_stands_for_a_value_is_taken_as_it(given, taken):
    def typed(fields):
        return [(value, type(value), [*map(type, fields.scale)]) for value in vars(fields).values()]

    assert typed(Fields(**given)) == typed(Fields(**taken))
    assert type(Fields(**given).scale[0]) in (int, float)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": "500"}, "--scale '500': give a list, such as (500, 1000) for numbers"),
        ({"scale": None}, "--scale None: give a list"),
        ({"scale": (1, True)}, "--scale (1, True): give a list"),
        ({"names": (1,)}, "--names (1,): give a list"),
        ({"path": None}, "--path None: give a text"),
        ({"rows": 2.5}, "--rows 2.5: give a whole number"),
        ({"rows": True}, "--rows True: give a whole number"),
        ({"min_score": math.nan}, "--min-score nan: give a finite number"),
        ({"min_score": -math.inf}, "--min-score -inf: give a finite number"),
        ({"min_score": "0.5"}, "--min-score '0.5': give a finite number"),
        ({"boxes": 1}, "--boxes 1: give True or False"),
    ],
)
def test_what_is_of_another_type_is_refused(given, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Fields(**given)
