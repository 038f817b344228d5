"""`benchmarks/memory_traffic.py` on a small program, of which every byte is counted by hand."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))

from memory_traffic import Program, size_of

# Arrays with S(1) lie in the fast memory. An f32[1000] has 4,000 bytes, an f32[10] 40.
TEXT = """HloModule example

%fused_read (param_0: f32[1000], param_1: s32[]) -> f32[10] {
  %param_0 = f32[1000]{0} parameter(0)
  %param_1 = s32[] parameter(1)
  %bitcast.1 = f32[1000]{0} bitcast(%param_0)
  ROOT %slice.1 = f32[10]{0:T(128)S(1)} dynamic-slice(%bitcast.1, %param_1)
}

%fused_outer (param_0.1: f32[1000], param_1.1: s32[]) -> f32[10] {
  %param_1.1 = s32[] parameter(1)
  %param_0.1 = f32[1000]{0} parameter(0)
  %inner = f32[10]{0} fusion(%param_0.1, %param_1.1), kind=kLoop, calls=%fused_read
  ROOT %negate.1 = f32[10]{0} negate(%inner)
}

%fused_update (param_0.2: f32[1000], param_1.2: f32[10], param_2.2: s32[]) -> f32[1000] {
  %param_0.2 = f32[1000]{0} parameter(0)
  %param_1.2 = f32[10]{0} parameter(1)
  %param_2.2 = s32[] parameter(2)
  ROOT %update.1 = f32[1000]{0} dynamic-update-slice(%param_0.2, %param_1.2, %param_2.2)
}

ENTRY %main (a: f32[1000], i: s32[]) -> f32[1000] {
  %a = f32[1000]{0:T(1024)} parameter(0)
  %i = s32[]{:T(128)S(1)} parameter(1)
  %copy.1 = f32[1000]{0:T(1024)S(1)} copy(%a)
  %copy.2 = f32[1000]{0:T(1024)} copy(%a), metadata={op_name="views/copy"}
  %stays = f32[1000]{0:T(1024)S(1)} negate(%copy.1)
  %start.1 = (f32[1000]{0:S(1)}, f32[1000]{0}, u32[]{:S(2)}) copy-start(%copy.2)
  %done.1 = f32[1000]{0:S(1)} copy-done(%start.1)
  %start.2 = ((f32[1000]{0}), f32[10]{0:S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:10]}
  %room = f32[1000]{0} custom-call(), custom_call_target="AllocateBuffer"
  %outer = f32[10]{0:T(128)} fusion(%a, %i), kind=kLoop, calls=%fused_outer
  %pick = f32[10]{0:S(1)} gather(%a, %i), slice_sizes={10}
  %both = f32[1000]{0} add(%a, %copy.1)
  %updated = f32[1000]{0} fusion(%room, %outer, %i), kind=kLoop, calls=%fused_update
  ROOT %plain = f32[1000]{0} dynamic-update-slice(%room, %pick, %i)
}
"""


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("a", 0),
        ("copy.1", 4000),  # reads, and keeps what it read
        ("copy.2", 8000),
        ("stays", 0),
        ("start.1", 4000),  # and its end is no second copy
        ("done.1", 0),
        ("start.2", 40),
        ("room", 0),
        ("outer", 80),  # of a large array it reads what it slices, two fusions down
        ("pick", 40),
        ("both", 8000),
        ("updated", 80),  # reads the new part and writes it
        ("plain", 40),
    ],
)
def test_bytes_that_an_instruction_moves(name, moved):
    assert Program(TEXT).moved("main", name) == moved


def test_bytes_of_a_shape():
    shape = "(bf16[2,3]{1,0:T(8,128)(2,1)}, u8[5]{0:S(1)}, pred[], f32[0])"
    assert size_of(shape) == 12 + 5 + 1
    assert size_of(shape, outside=True) == 12 + 1
