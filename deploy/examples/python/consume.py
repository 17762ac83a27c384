"""A durable consumer: prints a line of JSON for every change, and acknowledges what it has printed.

Beside it stand the modules that grpc_tools makes of proto/; see the README of the folder above.
"""

import argparse
import base64
import datetime
import json
import queue
import random
import sys
import time
import uuid

import grpc
from walbrook.v1 import stream_pb2, stream_pb2_grpc, types_pb2

EPOCH = datetime.datetime(1970, 1, 1)
# What is no value of a column: neither is NULL, and neither belongs into a row that is written over.
ABSENT = (types_pb2.SPECIAL_UNCHANGED, types_pb2.SPECIAL_MISSING)
SPECIALS = {types_pb2.SPECIAL_INFINITY: "infinity", types_pb2.SPECIAL_NEGATIVE_INFINITY: "-infinity"}


def value(cell):
    """A cell as JSON has it. A program would keep decimals as decimal.Decimal, and dates as dates."""
    kind = cell.WhichOneof("kind")
    if kind == "special":
        return SPECIALS.get(cell.special)
    if kind == "array":
        return [value(element) for element in cell.array.elements]
    if kind == "bytes":
        return base64.b64encode(cell.bytes).decode()
    if kind == "uuid":
        return str(uuid.UUID(bytes=cell.uuid))
    if kind == "json":
        return json.loads(cell.json)
    try:
        if kind == "date":
            return (EPOCH + datetime.timedelta(days=cell.date)).date().isoformat()
        if kind in ("timestamp", "timestamptz"):
            zone = "Z" if kind == "timestamptz" else ""
            return (EPOCH + datetime.timedelta(microseconds=getattr(cell, kind))).isoformat() + zone
    except OverflowError:  # Python's years end at 1 and 9999.
        return getattr(cell, kind)
    return getattr(cell, kind)  # boolean, integer, unsigned, floats, decimal, text


def row(columns, values):
    """Column by column, without what did not come."""
    return {
        column.name: value(cell)
        for column, cell in zip(columns, values)
        if not (cell.WhichOneof("kind") == "special" and cell.special in ABSENT)
    }


class Consumer:
    def __init__(self, options):
        self.options = options
        self.last = (b"", 0)  # The order key of the last change printed: what comes again is not behind it.
        self.printed = 0

    def opening(self):
        otherwise = stream_pb2.START_SNAPSHOT if self.options.snapshot else stream_pb2.START_LATEST
        return stream_pb2.Open(
            consumer=self.options.consumer,
            start=stream_pb2.START_STORED,
            otherwise=otherwise,
            filter=stream_pb2.Filter(tables=self.options.tables),
        )

    def subscribe(self, stub, metadata):
        """One call, until it ends. True when the limit is reached."""
        requests = queue.SimpleQueue()
        requests.put(stream_pb2.SubscribeRequest(open=self.opening()))
        schemas = {}
        responses = stub.Subscribe(iter(requests.get, None), metadata=metadata)
        done = False
        for response in responses:
            if response.HasField("opened"):
                print(f"open, epoch {response.opened.epoch}", file=sys.stderr)
            if not response.HasField("batch"):
                continue
            batch = response.batch
            for schema in batch.schemas:
                schemas[schema.reference] = schema
            for transaction in batch.transactions:
                for change in transaction.changes:
                    self.print(batch.origin, transaction, change, schemas)
            sys.stdout.flush()
            # Here the work is durable; now the batch may be acknowledged, and not before.
            requests.put(stream_pb2.SubscribeRequest(ack=stream_pb2.Ack(number=batch.number)))
            if self.options.limit and self.printed >= self.options.limit and not done:
                done = True
                requests.put(None)  # Nothing more from us: the server takes the last Ack and ends the call.
        return done

    def print(self, origin, transaction, change, schemas):
        if origin == stream_pb2.ORIGIN_STREAM:
            if (transaction.order, change.ordinal) <= self.last:
                return
            self.last = (transaction.order, change.ordinal)
        schema = schemas.get(change.schema)
        line = {"op": stream_pb2.Operation.Name(change.operation).removeprefix("OPERATION_").lower()}
        if schema:
            line["table"] = f"{schema.namespace}.{schema.name}"
            for image in ("before", "after"):
                if change.HasField(image):
                    line[image] = row(schema.columns, getattr(change, image).values)
        print(json.dumps(line, ensure_ascii=False))
        self.printed += 1

    def run(self):
        metadata = [("authorization", f"Bearer {self.options.token}")] if self.options.token else None
        wait_s = 0.1
        with grpc.insecure_channel(self.options.address) as channel:
            stub = stream_pb2_grpc.ChangeStreamStub(channel)
            while True:
                before = self.printed
                try:
                    if self.subscribe(stub, metadata):
                        return 0
                except grpc.RpcError as error:
                    print(f"{error.code().name}: {error.details()}", file=sys.stderr)
                    if error.code() != grpc.StatusCode.UNAVAILABLE:
                        return 1  # Somebody must decide: see the comments of Subscribe.
                wait_s = 0.1 if self.printed > before else min(2 * wait_s, 10)
                time.sleep(wait_s * random.uniform(0.5, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="HOST:PORT of the sidecar")
    parser.add_argument("--consumer", required=True, help="the name under which the position is stored")
    parser.add_argument("--snapshot", action="store_true", help="begin with the rows when nothing is stored yet")
    parser.add_argument("--tables", action="append", default=[], help="a pattern of wanted tables")
    parser.add_argument("--token", help="a bearer token")
    parser.add_argument("--limit", type=int, default=0, help="end after so many changes")
    sys.exit(Consumer(parser.parse_args()).run())


if __name__ == "__main__":
    main()
