"""Mutations of valid samples. The same random stream makes the same input, so a seed and a number name a case."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

MAX_BYTES = 1 << 20

Mutation = Callable[[bytearray, Sequence[bytes], random.Random], None]

_LENGTHS = (
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
    b"\xff\xff\xff\x7f",
    b"\x80\x80\x80\x80\x08",
    b"\x00",
    b"\x7f",
)
_WORDS = (b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00")
_TOKENS = (
    b"{", b"}", b"[", b"]", b"<", b">", b'"', b"'", b"\\", b"\\xff", b"\\377", b":", b",", b"#", b"\0", b"\xff",
    b"\xef\xbb\xbf", b"-", b"1e999", b"-1e999", b"nan", b"inf", b"-1", b"0", b"99999999999999999999", b"0x", b"1.5",
    b"2147483647", b"-2147483648", b"4294967296", b"true", b"null", b"\r\n", b"&amp;", b"&x;", b"<![CDATA[", b"]]>",
    b"<!DOCTYPE a [<!ENTITY x 'xxxxxxxxxx'>]>", b"<?xml version='1.0' encoding='utf-16'?>", b"%s", b"../../etc/passwd",
)  # fmt: skip
_NESTED = (b"{", b"[", b"<a>", b"layer {", b"layer <", b"item {", b'{"a":', b"\x0b", b"\x1a\x7f", b"(", b"'", b"[[")
_NUMBER = re.compile(rb"-?\d+\.?\d*")


def _place(data: bytearray, rng: random.Random) -> int:
    # Half of all changes go to the first bytes, where headers and lengths are.
    return rng.randrange(min(len(data), 64) if rng.random() < 0.5 and data else len(data) + 1) if data else 0


def _flip(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    for _i in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[min(_place(data, rng), len(data) - 1)] ^= 1 << rng.randrange(8)


def _random_bytes(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    at, size = _place(data, rng), rng.choice((1, 2, 4, 16))
    data[at : at + size * rng.randrange(2)] = rng.randbytes(size)


def _truncate(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _delete(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 4, 64, 1024))]


def _repeat(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    at, size = _place(data, rng), rng.choice((1, 8, 64, 512))
    span = bytes(data[at : at + size])
    count = min(rng.choice((1, 3, 100, 5000)), (MAX_BYTES - len(data)) // max(1, len(span)))
    data[at:at] = span * max(0, count)


def _splice(data: bytearray, samples: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(samples)
    start = rng.randrange(len(other) + 1)
    at = _place(data, rng)
    data[at : at + rng.randrange(2) * 1024] = other[start : start + rng.choice((4, 64, 1024, len(other)))]


def _length(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    at, value = _place(data, rng), rng.choice(_LENGTHS)
    data[at : at + rng.choice((1, len(value)))] = value


def _word(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    at, value = _place(data, rng), rng.choice(_WORDS) * rng.choice((1, 2))
    data[at : at + len(value)] = value


def _token(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    at = _place(data, rng)
    data[at : at + rng.randrange(2)] = rng.choice(_TOKENS)


def _number(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    """Another number in place of one in the text."""
    found = [match.span() for match in _NUMBER.finditer(data[:65536])]
    if found:
        start, end = rng.choice(found)
        numbers = (
            b"-1",
            b"0",
            b"1e999",
            b"nan",
            b"inf",
            b"1e-50",
            b"65536",
            b"2147483648",
            b"-9223372036854775809",
            b"7.5",
        )
        data[start:end] = rng.choice(numbers)


def _nest(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    at = _place(data, rng)
    data[at:at] = rng.choice(_NESTED) * rng.choice((10, 1000, 50_000))


MUTATIONS: tuple[Mutation, ...] = (
    _flip, _flip, _random_bytes, _truncate, _delete, _repeat, _splice, _length, _length, _word, _token, _token, _number, _nest,
)  # fmt: skip


def mutated(samples: Sequence[bytes], rng: random.Random) -> bytes:
    """One of `samples` after one to four mutations; at most a megabyte."""
    data = bytearray(rng.choice(samples))
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(MUTATIONS)(data, samples, rng)
    return bytes(data[:MAX_BYTES])
