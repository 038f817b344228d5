"""TFRecord files of tf.train.Example messages, read and written without TensorFlow.

A file is a run of records, each framed as

    u64 length | u32 crc(length) | the bytes | u32 crc(bytes)        all little-endian,

with CRC-32C, rotated and offset ("masked") as in tensorflow/core/lib/hash/crc32c.h. An Example is a
map from names to lists of bytes, float32 or int64 (tensorflow/core/example/feature.proto). The
message is declared here in a pool of its own, so it clashes with no other copy in the process.
"""

import pathlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from crc32c import crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from jaxssl.errors import UserError

Feature = list[bytes] | np.ndarray  # bytes, f32[n] or i64[n]

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


def _example_message() -> type[message.Message]:
    """The class of tf.train.Example; a map field is, on the wire, a repeated key-value message."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="jaxssl/example.proto", package="jaxssl", syntax="proto3"
    )

    def declare(name: str, *fields: tuple[str, int, str, bool]) -> None:
        """Each field is (name, number, scalar type or message, repeated)."""
        declared = file.message_type.add(name=name)
        for field_name, number, type_name, repeated in fields:
            field = declared.field.add(name=field_name, number=number)
            field.label = kind.LABEL_REPEATED if repeated else kind.LABEL_OPTIONAL
            if type_name.islower():
                field.type = kind.Type.Value(f"TYPE_{type_name.upper()}")
            else:
                field.type, field.type_name = kind.TYPE_MESSAGE, f".jaxssl.{type_name}"

    declare("BytesList", ("value", 1, "bytes", True))
    declare("FloatList", ("value", 1, "float", True))
    declare("Int64List", ("value", 1, "int64", True))
    declare(
        "Feature",
        ("bytes_list", 1, "BytesList", False),
        ("float_list", 2, "FloatList", False),
        ("int64_list", 3, "Int64List", False),
    )
    declare("Entry", ("key", 1, "string", False), ("value", 2, "Feature", False))
    declare("Features", ("feature", 1, "Entry", True))
    declare("Example", ("features", 1, "Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("jaxssl.Example"))


_ExampleMessage = _example_message()


def encode_features(features: Mapping[str, Feature]) -> bytes:
    """The bytes of a tf.train.Example; the same features always give the same bytes."""
    example = _ExampleMessage()
    for name in sorted(features):
        value = features[name]
        entry = example.features.feature.add(key=name)
        if isinstance(value, list):
            target = entry.value.bytes_list
        elif np.issubdtype(value.dtype, np.floating):
            target = entry.value.float_list
        else:
            target = entry.value.int64_list
        target.SetInParent()  # an empty list keeps its type
        target.value.extend(value if isinstance(value, list) else value.ravel().tolist())
    return example.SerializeToString(deterministic=True)


def decode_features(data: bytes) -> dict[str, Any]:
    """The inverse of `encode_features`; `UserError` if the bytes are no tf.train.Example."""
    example = _ExampleMessage()
    try:
        example.ParseFromString(data)
    except message.DecodeError as error:
        raise UserError("is no tf.train.Example") from error
    features: dict[str, Any] = {}
    for entry in example.features.feature:
        value = entry.value
        if value.HasField("float_list"):
            features[entry.key] = np.array(value.float_list.value, np.float32)
        elif value.HasField("int64_list"):
            features[entry.key] = np.array(value.int64_list.value, np.int64)
        else:
            features[entry.key] = list(value.bytes_list.value)
    return features


def take(features: Mapping[str, Any], name: str, kind: type, count: int | None = None) -> Any:
    """The values of a feature.

    Args:
      features: of `decode_features`.
      name: of the feature.
      kind: type of the values: bytes, np.float32 or np.int64.
      count: how many there must be; None: any.

    Raises:
      UserError: there is no such feature, or its values are of another type or number.
    """
    values = features.get(name)
    if values is None:
        raise UserError(f"it has no {name}")
    if not len(values):  # an empty list may have lost its type
        values = [] if kind is bytes else np.zeros(0, kind)
    is_kind = isinstance(values, list) if kind is bytes else getattr(values, "dtype", None) == kind
    if not is_kind or count not in (None, len(values)):
        wanted = kind.__name__ if count is None else f"{count} {kind.__name__}"
        raise UserError(f"its {name} holds something else than {wanted}")
    return values


def _masked_crc(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """One record as it stands in a file."""
    length = struct.pack("<Q", len(data))
    return b"".join(
        (length, _FOOTER.pack(_masked_crc(length)), data, _FOOTER.pack(_masked_crc(data)))
    )


def scan(path: pathlib.Path, count: int | None = None) -> np.ndarray:
    """Offset and length of each record's bytes: i64[n, 2], read from the headers alone.

    Raises `UserError` naming the file and the record that is damaged or cut short, or if they are
    not so many.
    """
    extents: list[tuple[int, int]] = []
    again = "export or copy the file again"
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, 2)
        start = 0
        while start < size:
            file.seek(start)
            header = file.read(_HEADER.size)
            where = f"{path}: record {len(extents)}"
            if len(header) < _HEADER.size:
                raise UserError(f"{where} is cut short; {again}")
            length, crc = _HEADER.unpack(header)
            if _masked_crc(header[:8]) != crc:
                raise UserError(f"{where} has a damaged header; {again}")
            end = start + _HEADER.size + length + _FOOTER.size
            if end > size:
                raise UserError(f"{where} is cut short; {again}")
            extents.append((start + _HEADER.size, length))
            start = end
    if count not in (None, len(extents)):
        raise UserError(f"{path} has {len(extents)} records, not {count} as described; {again}")
    return np.array(extents, np.int64).reshape(-1, 2)


def read(path: pathlib.Path, offset: int, length: int) -> bytes:
    """The bytes of the record that `scan` found there, checked against their checksum."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        data = file.read(length + _FOOTER.size)
    payload, footer = data[:length], data[length:]
    if len(footer) < _FOOTER.size or _FOOTER.unpack(footer)[0] != _masked_crc(payload):
        raise UserError(
            f"{path}: the record at byte {offset} does not match its checksum; "
            "export or copy the file again"
        )
    return payload


def read_all(path: pathlib.Path) -> Iterator[bytes]:
    """Every record of a file, in order, each checked."""
    for offset, length in scan(path).tolist():
        yield read(path, offset, length)
