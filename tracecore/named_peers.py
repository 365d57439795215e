"""Whom many spans name as their peers, compiled: what ``peers.peer_of`` says of each, asked once of equal attributes.

That module is the reference; the tests hold both equal. A quarter of the spans of recorded systems are asked, and they
name a few dozen peers. Compiling is numba's, as in ``forest``.
"""

import threading
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tracecore.compiling import uncounted
from tracecore.packing import RawBytes
from tracecore.peers import KEYS, Peer, peer_of, peer_of_pairs

#: Attributes that tell of a peer, in one span; a span with more is left to plain Python.
_MAX_PAIRS = 16
_NONE, _ODD = -1, -2
_ATTRIBUTES = 9
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
#: A number longer than this, a tag or size longer than that, is left to plain Python.
_MAX_NUMBER_BYTES, _MAX_SIZE_BYTES = 9, 5

_warm = threading.Event()

Array = np.ndarray[Any, Any]


class NamedPeers(NamedTuple):
    """By span the number of the peer that it names; -1 if it names none."""

    of: Array
    peers: list[Peer]


def named_peers(asked: Array, raws: RawBytes) -> NamedPeers:
    """By place in ``asked``, which has positions in ``raws``."""
    of = np.full(len(asked), _NONE, np.int64)
    pair_first = np.zeros(len(asked) + 1, np.int64)
    pair_starts, pair_ends = (np.empty(_MAX_PAIRS * (len(asked) + 1), np.int64) for _ in range(2))
    distinct = _number(asked, *raws, _KEY_BYTES, _KEY_BOUNDS, of, pair_first, pair_starts, pair_ends)
    number: dict[Peer, int] = {}

    def numbered(peer: Peer | None) -> int:
        return _NONE if peer is None else number.setdefault(peer, len(number))

    pairs = [
        raws.buffer[start:end].tobytes()
        for start, end in zip(
            pair_starts[: pair_first[distinct]].tolist(), pair_ends[: pair_first[distinct]].tolist(), strict=True
        )
    ]
    bounds = pair_first[: distinct + 1].tolist()
    # The last is for those that name none.
    peer_numbers = [numbered(peer_of_pairs(tuple(pairs[bounds[n] : bounds[n + 1]]))) for n in range(distinct)] + [_NONE]
    odd = np.nonzero(of == _ODD)[0].tolist()
    of = np.array(peer_numbers, np.int64)[np.maximum(of, _NONE)]
    for n in odd:
        place = asked[n]
        of[n] = numbered(peer_of(raws.buffer[raws.starts[place] : raws.ends[place]].tobytes()))
    return NamedPeers(of, list(number))


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> None:
    """Compile, or load what was compiled."""
    none = np.zeros(0, np.int64)
    named_peers(none, RawBytes(np.frombuffer(b"", np.uint8), none, none))
    _warm.set()


_KEY_BYTES = np.frombuffer(b"".join(sorted(KEYS)), np.uint8)
_KEY_BOUNDS = np.cumsum([0, *map(len, sorted(KEYS))])


@njit(cache=True, nogil=True)
def _number(asked, buffer, starts, ends, keys, key_bounds, of, pair_first, pair_starts, pair_ends):
    """Number the distinct attributes that tell of peers, and say where the first of each lie. Returns how many."""
    slots = 4
    while slots < 2 * len(asked):
        slots *= 2
    mask = np.uint64(slots - 1)
    slot_of, hashes = np.full(slots, -1, np.int64), np.zeros(len(asked), np.uint64)
    distinct = 0
    for n in range(len(asked)):
        first = pair_first[distinct]
        count = _telling(
            buffer, starts[asked[n]], ends[asked[n]], keys, key_bounds, pair_starts, pair_ends, first
        )  # fmt: skip
        if count <= 0:
            of[n] = _NONE if count == 0 else _ODD
            continue
        hashed = _hash(buffer, pair_starts, pair_ends, first, count)
        slot = np.int64(hashed & mask)
        while slot_of[slot] >= 0 and not (
            hashes[slot_of[slot]] == hashed
            and pair_first[slot_of[slot] + 1] - pair_first[slot_of[slot]] == count
            and _are_equal(buffer, pair_starts, pair_ends, pair_first[slot_of[slot]], first, count)
        ):
            slot = np.int64(np.uint64(slot + 1) & mask)
        if slot_of[slot] < 0:
            slot_of[slot], hashes[distinct] = distinct, hashed
            distinct += 1
            pair_first[distinct] = first + count
        of[n] = slot_of[slot]
    return distinct


@uncounted
def _telling(buffer, start, end, keys, key_bounds, pair_starts, pair_ends, first):
    """Attributes of a Span message that tell of a peer, from ``first``; how many, or -1 if it is not for us to say."""
    count, at = 0, start
    while at < end:
        tag, at = _varint(buffer, at, end, _MAX_SIZE_BYTES)
        if at < 0 or tag < 8 or tag >= 1 << 32:
            return -1
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(buffer, at, end, _MAX_NUMBER_BYTES)
            if at < 0:
                return -1
        elif kind == _FIXED_64:
            at += 8
        elif kind == _FIXED_32:
            at += 4
        elif kind == _BYTES:
            size, at = _varint(buffer, at, end, _MAX_SIZE_BYTES)
            if at < 0 or size > end - at:
                return -1
            if tag >> 3 == _ATTRIBUTES and _is_key(buffer, at, at + size, keys, key_bounds):
                if count == _MAX_PAIRS:
                    return -1
                pair_starts[first + count], pair_ends[first + count] = at, at + size
                count += 1
            at += size
        else:
            return -1
    return count if at == end else -1


@uncounted
def _varint(buffer, at, end, max_bytes):
    """Its value, and where it ends; -1 there if it ends nowhere, or is longer than ``max_bytes``."""
    value = np.int64(0)
    for k in range(max_bytes):
        if at + k >= end:
            break
        byte = np.int64(buffer[at + k])
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            return value, at + k + 1
    return value, -1


@uncounted
def _is_key(buffer, start, end, keys, key_bounds):
    """True for a KeyValue message whose key tells of peers, as far as its first bytes say."""
    if end - start < 2:
        return False
    size = min(np.int64(buffer[start + 1]), end - start - 2)
    for number in range(len(key_bounds) - 1):
        low = key_bounds[number]
        if key_bounds[number + 1] - low != size:
            continue
        k = 0
        while k < size and buffer[start + 2 + k] == keys[low + k]:
            k += 1
        if k == size:
            return True
    return False


@uncounted
def _hash(buffer, pair_starts, pair_ends, first, count):
    """Fowler, Noll and Vo's, 64 bits, of the attributes and their lengths."""
    prime = np.uint64(0x100000001B3)
    hashed = np.uint64(0xCBF29CE484222325)
    for pair in range(first, first + count):
        hashed = (hashed ^ np.uint64(pair_ends[pair] - pair_starts[pair])) * prime
        for k in range(pair_starts[pair], pair_ends[pair]):
            hashed = (hashed ^ np.uint64(buffer[k])) * prime
    # Its lowest bits, which choose a slot, are its worst.
    return hashed ^ (hashed >> np.uint64(32))


@uncounted
def _are_equal(buffer, pair_starts, pair_ends, one, other, count):
    for pair in range(count):
        start, beside = pair_starts[one + pair], pair_starts[other + pair]
        size = pair_ends[one + pair] - start
        if pair_ends[other + pair] - beside != size:
            return False
        for k in range(size):
            if buffer[start + k] != buffer[beside + k]:
                return False
    return True
