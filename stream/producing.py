"""aiokafka's producer, changed in two places that were measured.

- A request is written by its schema, and every level of it joins what the level below joined: nine copies of every
  byte, most of them into memory that the system must give first. Here it is joined once.
- Batches are written by compiled code (``record_batches``).
"""

from functools import partial
from typing import Any

import aiokafka
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.producer.sender import Sender, SendProduceReqHandler
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.types import Array, Bytes, Int32, Schema

from stream.outgoing import OutgoingRun

try:
    from stream import record_batches
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    record_batches = None  # type: ignore[assignment]


class Producer(aiokafka.AIOKafkaProducer):
    """An ``AIOKafkaProducer`` of which ``create_batch`` and ``send_batch`` take a third of the CPU."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        theirs = self._sender
        self._sender = _Sender(
            theirs.client,
            acks=theirs._acks,
            txn_manager=theirs._txn_manager,
            message_accumulator=theirs._message_accumulator,
            retry_backoff_ms=theirs._retry_backoff * 1000,
            request_timeout_ms=theirs._request_timeout_ms,
        )

    def create_batch(self) -> Any:
        """An empty batch, for ``send_batch``."""
        is_plain = self._compression_type is None and self._txn_manager is None
        if is_plain and record_batches is not None and record_batches.is_warm():
            return record_batches.RecordBatch(self._message_accumulator._batch_size)
        batch: BatchBuilder = super().create_batch()
        return batch


def append_run(batch: Any, run: OutgoingRun, first: int, timestamp: int) -> int:
    """Add records of a run from ``first`` on, of a time in Unix ms, to a batch; returns how many it took."""
    if not isinstance(batch, BatchBuilder):
        return int(batch.append_run(run, first, timestamp))
    taken = 0
    for record in run.records(first):
        value = bytes(record.value)
        headers = list(record.headers)
        if batch.append(timestamp=timestamp, key=record.key or None, value=value, headers=headers) is None:
            break
        taken += 1
    return taken


class _Sender(Sender):
    async def _send_produce_req(self, node_id: int, batches: Any) -> None:
        await _Handler(self, batches).do(node_id)
        self._in_flight.remove(node_id)
        self._muted_partitions.difference_update(batches)


class _Handler(SendProduceReqHandler):
    def create_request(self) -> ProduceRequest:
        theirs = super().create_request()
        return _ProduceRequest(theirs._transactional_id, theirs._required_acks, theirs._timeout, theirs._topics)


class _ProduceRequest(ProduceRequest):
    def build(self, request_struct_class: Any) -> Any:
        request = super().build(request_struct_class)
        values = [request.__dict__[name] for name in request.SCHEMA.names]
        # Does not hold the request: the collector, which frees what holds itself, hardly ever runs in a worker.
        request.encode = partial(_Body, pieces(request.SCHEMA, values))
        return request


class _Body:
    """What is added to it in front, the header and then the size of both, is joined with it in one go."""

    def __init__(self, its: list[bytes]) -> None:
        self._pieces = its

    def __radd__(self, header: bytes) -> "_Message":
        return _Message([header, *self._pieces])


class _Message(_Body):
    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def __radd__(self, size: bytes) -> bytes:  # type: ignore[override]
        return b"".join((size, *self._pieces))


def pieces(field: Any, value: Any) -> list[bytes]:
    """What ``field.encode(value)`` joins, for a field of aiokafka's schemas."""
    if isinstance(field, Schema):
        return [piece for part, its in zip(field.fields, value, strict=True) for piece in pieces(part, its)]
    if type(field) is Array and value is not None:
        return [Int32.encode(len(value)), *(piece for item in value for piece in pieces(field.array_of, item))]
    if field is Bytes and value is not None:
        return [Int32.encode(len(value)), value]
    return [field.encode(value)]
