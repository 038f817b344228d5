"""Large JSON files, an element at a time."""

import json

import pytest

from jaxssl.errors import UserError
from mask_tools.json_lists import read_lists, read_spans


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_elements_and_where_they_are(tmp_path, bom, indent, ascii_only):
    content = {
        "info": {"lists": [[1], "]"]}, "empty": [], "images": [{"name": "Bär, \"[猫]\".jpg"}, 7],
        "more": None, "annotations": [{"é": [1.5, [2]]}, "x", [[]]], "end": "}",
    }  # fmt: skip
    path = tmp_path / "a.json"
    path.write_bytes(bom + json.dumps(content, indent=indent, ensure_ascii=ascii_only).encode())
    found = list(read_lists(str(path)))
    expected = [("images", v) for v in content["images"]]
    expected += [("annotations", v) for v in content["annotations"]]
    assert [(e.of, e.value) for e in found] == expected
    spans = [[e.start, e.end] for e in reversed(found)]
    assert read_spans(str(path), spans) == [value for _, value in reversed(expected)]
    path.write_bytes(bom + json.dumps(content["annotations"], ensure_ascii=ascii_only).encode())
    assert [(e.of, e.value) for e in read_lists(str(path))] == [("", v) for _, v in expected[2:]]


@pytest.mark.parametrize(
    "text",
    [
        b"", b"7", b"[1", b"[1 2]", b"[1,", b'{"a": [1', b'{"a" 1}', b'{"a": 1 "b": 2}', b"{1: 2}",
        b"not JSON", b"[1] [2]", b'{"a": 1}\n{"a": 2}',
        '["Bär"]'.encode("latin-1"), '["a"]'.encode("utf-16"), b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(UserError, match=r"a.json is no JSON file that can be read"):
        list(read_lists(str(path)))
