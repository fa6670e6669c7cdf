"""Seeded damage to files: truncated, flipped bits, zeroed ranges, spliced, inserted garbage."""

import random
from collections.abc import Callable, Sequence

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], bytes]


def cut_off(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> bytes:
    return bytes(content[: rng.randrange(len(content))])


def flip_bits(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> bytes:
    for _flip in range(2 ** rng.randrange(10)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def zero_a_range(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(content))
    length = min(2 ** rng.randrange(4, 17), len(content) - start)
    content[start : start + length] = bytes(length)
    return bytes(content)


def splice(content: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return bytes(content[: rng.randrange(len(content))]) + other[rng.randrange(len(other)) :]


def insert_garbage(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> bytes:
    place = rng.randrange(len(content))
    return bytes(content[:place]) + rng.randbytes(2 ** rng.randrange(4, 14)) + bytes(content[place:])


def lose_a_range(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(content))
    del content[start : start + 2 ** rng.randrange(4, 15)]
    return bytes(content)


MUTATIONS: tuple[Mutation, ...] = (cut_off, flip_bits, zero_a_range, splice, insert_garbage, lose_a_range)


def mutated(originals: Sequence[bytes], i: int) -> bytes:
    """Return the i-th mutation of some files; always the same for the same `i`."""
    rng = random.Random(i)
    mutation = MUTATIONS[i % len(MUTATIONS)]
    return mutation(bytearray(originals[original_of(i, n_originals=len(originals))]), rng, originals)


def original_of(i: int, *, n_originals: int) -> int:
    """Return the index of the file that the i-th mutation is based on."""
    return i // len(MUTATIONS) % n_originals
