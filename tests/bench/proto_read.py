"""Reads the messages that `cargo bench --bench proto` wrote; see tests/bench/proto-python."""

import json
import statistics
import struct
import sys
import time

import google.protobuf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import api_implementation

folder, rounds = sys.argv[1], int(sys.argv[2])


def message(name):
    with open(f"{folder}/{name}", "rb") as file:
        return file.read()


pool = descriptor_pool.DescriptorPool()
for file in descriptor_pb2.FileDescriptorSet.FromString(message("descriptors.bin")).file:
    pool.Add(file)
Response = message_factory.GetMessageClass(pool.FindMessageTypeByName("walbrook.v1.SubscribeResponse"))


def cells_batch():
    """The messages of the other form, as `tests/bench/proto.rs` has them."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="cells.proto", package="cells", syntax="proto3")

    def add(name, *fields):
        kind = file.message_type.add(name=name)
        for number, field_name, label, field_type, type_name in fields:
            kind.field.add(number=number, name=field_name, label=label, type=field_type, type_name=type_name)

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    add("Row", (1, "cells", one, field.TYPE_BYTES, None))
    add(
        "Change",
        (1, "operation", one, field.TYPE_UINT32, None),
        (2, "schema", one, field.TYPE_UINT32, None),
        (3, "ordinal", one, field.TYPE_UINT64, None),
        (5, "after", one, field.TYPE_MESSAGE, ".cells.Row"),
    )
    add("Batch", (5, "changes", many, field.TYPE_MESSAGE, ".cells.Change"))
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("cells.Batch"))


Cells = cells_batch()


def read_typed(data):
    rows = []
    for transaction in Response.FromString(data).batch.transactions:
        for change in transaction.changes:
            rows.append([getattr(value, value.WhichOneof("kind")) for value in change.after.values])
    return rows


def read_cells(data):
    rows = []
    micros = struct.Struct("<q").unpack_from
    for change in Cells.FromString(data).changes:
        cells, at, row = change.after.cells, 0, []
        end = len(cells)
        while at < end:
            kind = cells[at]
            at += 1
            if kind == 12:
                row.append(micros(cells, at)[0])
                at += 8
                continue
            number = shift = 0
            while True:
                byte = cells[at]
                at += 1
                number |= (byte & 127) << shift
                if byte < 128:
                    break
                shift += 7
            if kind == 3:
                row.append(number >> 1 ^ -(number & 1))
            else:
                row.append(cells[at : at + number].decode())
                at += number
        rows.append(row)
    return rows


def read_json(data):
    lines = Response.FromString(data).batch.lines.splitlines()
    return [list(json.loads(line)["after"].values()) for line in lines]


print(f"protobuf {google.protobuf.__version__} ({api_implementation.Type()}), Python {sys.version.split()[0]}")
forms = [("typed", read_typed), ("cells", read_cells), ("json", read_json)]
loaded = {name: message(name) for name, _ in forms}
assert read_typed(loaded["typed"]) == read_cells(loaded["cells"])
times = {name: [] for name, _ in forms}
for _ in range(rounds):
    for name, read in forms:
        start = time.process_time()
        rows = len(read(loaded[name]))
        times[name].append(rows / (time.process_time() - start))
for name, _ in forms:
    print(f"{name}: {statistics.median(times[name]):,.0f} rows/s, {len(loaded[name]) / rows:.1f} bytes a row")
