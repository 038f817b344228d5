"""No number of a protocol is taken that cannot be right, of whichever task."""

import dataclasses
import math

import pytest

from jaxssl.evaluation import TASKS

PROTOCOLS = {
    type(protocol).__name__: protocol
    for task in TASKS.values()
    for protocol in (*task.presets.values(), task.protocol)
}
MAY_BE_ZERO = """
    clusters components crop dilated_stages dropout end_factor flip head_convs head_dropout init_std
    milestones points tolerance warmup weight_decay Overclustering.cells PixelProbe.iterations
"""
AT_MOST_ONE = """
    area dropout end_factor flip fraction fractions head_dropout milestones warmup Health.scale
"""
MAY_BE_EMPTY = "area milestones Health.scale"  # the last has two, by its type


def named(names, protocol, field):
    return not {field, f"{protocol}.{field}"}.isdisjoint(names.split())


def wrong_values():
    """Of each field that is a number, or several: protocol, name, value."""
    for name, protocol in PROTOCOLS.items():
        for field in dataclasses.fields(protocol):
            value = getattr(protocol, field.name)
            many = isinstance(value, tuple)
            number = (*value, 1.0)[0] if many else value
            if isinstance(number, str | bool):
                continue
            wrong = [type(number)(-1), *([math.nan, math.inf] if isinstance(number, float) else [])]
            wrong += [] if named(MAY_BE_ZERO, name, field.name) else [type(number)(0)]
            wrong += [1.5] if named(AT_MOST_ONE, name, field.name) else []
            yield from ((name, field.name, (x,) * max(1, len(value)) if many else x) for x in wrong)
            if many and not named(MAY_BE_EMPTY, name, field.name):
                yield name, field.name, ()


@pytest.mark.parametrize(("name", "field", "value"), [*wrong_values()])
def test_numbers_that_cannot_be_right(name, field, value):
    with pytest.raises(ValueError, match=f"^[^\n]*{field}[^\n]*$"):
        dataclasses.replace(PROTOCOLS[name], **{field: value})


def test_every_protocol_has_numbers():
    assert {name for name, _, _ in wrong_values()} == set(PROTOCOLS)
