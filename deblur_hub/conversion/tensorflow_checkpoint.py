"""Checkpoints of TensorFlow's V2 format, as its Saver writes them, read without TensorFlow.

`<prefix>.index` is a sorted table in blocks (LevelDB's format): the name of each tensor, and where in
`<prefix>.data-00000-of-00001` and its fellows its bytes lie. A `.meta` file beside them, which holds a graph, is not
looked at. Blocks and tensors carry checksums (CRC-32C), and all of them are verified.
"""

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ModelError, shown

FOOTER, MAGIC = 48, 0xDB4775248B80FB57
TRAILER = 5  # behind each block: its kind of compression and its checksum
LARGEST_INDEX = 2**24  # bytes: less than a hundred for each tensor
LONGEST_NAME = 2**10  # bytes; names share their beginnings, so that few bytes could stand for endless ones
PART = re.compile(r"(?P<prefix>.+)\.(?:index|meta|data-\d{5}-of-\d{5})")
STRING = 7
UNFIT = "is damaged: its parts do not fit together; download it again"
TYPES: dict[int, tuple[str, torch.dtype]] = {  # TensorFlow's number: as stored, ours
    1: ("<f4", torch.float32),
    2: ("<f8", torch.float64),
    3: ("<i4", torch.int32),
    4: ("u1", torch.uint8),
    5: ("<i2", torch.int16),
    6: ("i1", torch.int8),
    9: ("<i8", torch.int64),
    10: ("u1", torch.bool),
    14: ("<i2", torch.bfloat16),
    19: ("<f2", torch.float16),
}

Words = NDArray[np.uint32]
BYTES: Words = np.arange(256, dtype=np.uint32)  # what each byte makes of a checksum of nothing
for _ in range(8):
    BYTES = np.where(BYTES & 1, BYTES >> 1 ^ np.uint32(0x82F63B78), BYTES >> 1)
Fields = dict[int, list[Any]]  # of a message: integers and bytes


class Refused(Exception):
    """What is wrong with a file, and what to do."""


class Entry(NamedTuple):
    """Where a tensor is, and what of."""

    type: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    slices: bool


def is_checkpoint(source: Path) -> bool:
    """Whether a path is the prefix of a checkpoint or one of its files."""
    parts = (beside(source, ".index"), shard(source, 0, 1))
    return bool(PART.fullmatch(source.name)) or (not source.is_file() and any(part.is_file() for part in parts))


def load(source: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a checkpoint by name, and what is passed over and why; `source` is its prefix or one of its files.

    Raises:
        ModelError: if a file is missing, cut, altered or of another kind, or a tensor of a type that PyTorch lacks.
    """
    part = PART.fullmatch(source.name)
    prefix = source.with_name(part["prefix"]) if part else source
    index = beside(prefix, ".index")
    with told_of(index):
        shards, entries = read_index(index)
    passed_over = {name: "text" for name, entry in entries.items() if entry.type == STRING}
    wanted = {name: entry for name, entry in entries.items() if name not in passed_over}
    tensors: dict[str, Tensor] = {}
    for number in range(shards):
        data = shard(prefix, number, shards)
        with told_of(data), data.open("rb") as file:
            tensors |= read_shard(file, {name: entry for name, entry in wanted.items() if entry.shard == number})
    return {name: tensors[name] for name in wanted}, passed_over


def beside(prefix: Path, ending: str) -> Path:
    return prefix.with_name(prefix.name + ending)


def shard(prefix: Path, number: int, count: int) -> Path:
    return beside(prefix, f".data-{number:05d}-of-{count:05d}")


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file that is read here becomes a sentence that names it."""
    try:
        yield
    except Refused as reason:
        raise ModelError(f"{path}: {reason}") from None
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a checkpoint of TensorFlow needs it beside its other files") from None
    except OSError as reason:
        raise ModelError(f"{path}: cannot be read ({reason.strerror or reason})") from None


def read_index(path: Path) -> tuple[int, dict[str, Entry]]:
    """How many shards there are, and what is in them; `Refused` if it is not such a file, or not as it was written."""
    if path.stat().st_size > LARGEST_INDEX:
        raise Refused(f"is no index of a TensorFlow checkpoint: it has more than {LARGEST_INDEX >> 20} MiB; give one")
    content = path.read_bytes()
    if len(content) < FOOTER or struct.unpack("<Q", content[-8:])[0] != MAGIC:
        raise Refused("is no index of a TensorFlow checkpoint, or cut: its last bytes are others; download it again")
    try:
        return understood(content)
    except (IndexError, struct.error, TypeError, OverflowError, ValueError):
        raise Refused(UNFIT) from None


def understood(content: bytes) -> tuple[int, dict[str, Entry]]:
    _, at = block(content, content[-FOOTER:], 0)  # of what LevelDB notes besides; TensorFlow leaves it empty
    blocks, _ = block(content, content[-FOOTER:], at)
    shards, entries, taken = 0, dict[str, Entry](), 0
    for _, place in pairs(blocks):
        part, _ = block(content, place, 0)
        taken += len(part)
        if taken > len(content):  # some block is named more than once
            raise Refused(UNFIT)
        for name, value in pairs(part):
            if name:
                entries[name.decode()] = entry_of(fields(value))
                continue
            header = fields(value)
            shards = number(header, 1)
            if number(header, 2):
                raise Refused("is big-endian, which convert does not read; save it on a machine that is not")
    if not 1 <= shards <= 99_999:
        raise Refused("is damaged: it does not say of how many files the checkpoint is; download it again")
    strange = next((name for name, entry in entries.items() if entry.shard >= shards), None)
    if strange is not None:
        raise Refused(f"is damaged: it has {shown(strange)} in a file beyond the last; download it again")
    return shards, entries


def block(content: bytes, place: bytes, at: int) -> tuple[bytes, int]:
    """A block of the table, its checksum verified; `place` says at `at` where it is, and next what is returned."""
    start, at = varint(place, at)
    size, at = varint(place, at)
    end = start + size
    if end + TRAILER > len(content) - FOOTER:
        raise Refused("is damaged: a block of it lies beyond its end; download it again")
    if masked(crc32c(content[start : end + 1])) != struct.unpack_from("<I", content, end + 1)[0]:
        raise Refused("is damaged: the checksum of a block does not fit it; download it again")
    if content[end]:
        raise Refused(
            "is compressed, which convert does not read; save it with TensorFlow's own Saver, which does not compress"
        )
    return content[start:end], at


def pairs(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; a key tells how many bytes it shares with the one before."""
    restarts = struct.unpack("<I", content[-4:])[0]
    end = len(content) - 4 * (restarts + 1)
    key, at = b"", 0
    while at < end:
        shared, at = varint(content, at)
        own, at = varint(content, at)
        length, at = varint(content, at)
        if shared > len(key) or at + own + length > end or shared + own > LONGEST_NAME:
            raise Refused(UNFIT)
        key = key[:shared] + content[at : at + own]
        at += own
        yield key, content[at : at + length]
        at += length


def entry_of(found: Fields) -> Entry:
    dimensions = fields(found.get(2, [b""])[-1]).get(2, [])
    shape = tuple(number(fields(dimension), 1) for dimension in dimensions)
    shard, offset, size, checksum = (number(found, key) for key in (3, 4, 5, 6))
    return Entry(number(found, 1), shape, shard, offset, size, checksum, 7 in found)


def fields(message: bytes) -> Fields:
    """The values of a message in protocol buffers by the number of the field."""
    found: Fields = {}
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        kind = tag & 7
        value: Any
        if kind == 0:
            value, at = varint(message, at)
        elif kind == 2:
            length, at = varint(message, at)
            if at + length > len(message):
                raise Refused(UNFIT)
            value, at = message[at : at + length], at + length
        elif kind in (1, 5):
            layout = "<Q" if kind == 1 else "<I"
            value, at = struct.unpack_from(layout, message, at)[0], at + struct.calcsize(layout)
        else:
            raise Refused(UNFIT)
        found.setdefault(tag >> 3, []).append(value)
    return found


def varint(content: bytes, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Refused(UNFIT)


def number(found: Fields, key: int) -> int:
    value = found.get(key, [0])[-1]
    if not isinstance(value, int):
        raise Refused(UNFIT)
    return value


def read_shard(file: BinaryIO, entries: dict[str, Entry]) -> dict[str, Tensor]:
    """The tensors of one file."""
    length = file.seek(0, os.SEEK_END)
    end = max((entry.offset + entry.size for entry in entries.values()), default=0)
    if end > length:
        raise Refused(f"has {length} bytes of {end} that its index names, so it was cut; download it again")
    if sum(entry.size for entry in entries.values()) > length:
        raise Refused("its index has tensors lie one over another, as no checkpoint does; download it again")
    return {name: read_tensor(file, shown(name), entry) for name, entry in entries.items()}


def read_tensor(file: BinaryIO, name: str, entry: Entry) -> Tensor:
    if entry.slices:
        raise Refused(f"{name} is kept in slices, which convert does not read; save it as one tensor")
    if entry.type not in TYPES:
        raise Refused(f"{name} is of TensorFlow's type {entry.type}, which convert does not know; save it as float32")
    stored, kind = TYPES[entry.type]
    if len(entry.shape) > 16 or prod(entry.shape) * np.dtype(stored).itemsize != entry.size:
        shape = list(entry.shape[:16])
        raise Refused(f"{name} has {entry.size} bytes, which its shape {shape} does not need; download it again")
    file.seek(entry.offset)
    content = file.read(entry.size)
    if len(content) < entry.size:
        raise Refused(f"ends within {name}, so it was cut; download it again")
    if masked(crc32c(content)) != entry.checksum:
        raise Refused(f"the checksum of {name} does not fit it, so it was altered; download it again")
    values = np.frombuffer(content, stored).astype(np.dtype(stored).newbyteorder("="))  # a copy that is ours
    tensor = torch.from_numpy(values.reshape(entry.shape))
    return tensor.view(kind) if kind == torch.bfloat16 else tensor.to(kind)


def masked(checksum: int) -> int:
    """As it is stored: a checksum over bytes that hold checksums would be weak."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli) of bytes; 27 MB in half a second.

    Of long content, many lanes of one length are summed side by side, each from nothing but the first, and then joined
    two by two: the sum of A and B is that of A, taken over as many zeros as B has bytes, XOR that of B. What each bit
    of a sum becomes over a lane of zeros is found in 32 lanes more.
    """
    lanes = 1 << len(content).bit_length() // 2
    length = len(content) // lanes
    head = len(content) - lanes * length  # shorter than the lanes are many
    first = 0xFFFFFFFF
    for byte in content[:head]:
        first = int(BYTES[(first ^ byte) & 0xFF]) ^ first >> 8
    sums = np.concatenate([np.zeros(lanes, np.uint32), np.uint32(1) << np.arange(32, dtype=np.uint32)])
    sums[0] = first
    columns = np.zeros((length, lanes + 32), np.uint8)
    columns[:, :lanes] = np.frombuffer(content, np.uint8, offset=head).reshape(lanes, length).T
    for column in columns:
        sums = BYTES[(sums ^ column) & 0xFF] ^ sums >> 8
    sums, over = sums[:lanes], sums[lanes:]
    while len(sums) > 1:
        sums = applied(over, sums[0::2]) ^ sums[1::2]
        over = applied(over, over)
    return int(sums[0]) ^ 0xFFFFFFFF


def applied(matrix: Words, sums: Words) -> Words:
    """Sums with each bit replaced by what it becomes."""
    made = np.zeros_like(sums)
    for bit, column in enumerate(matrix):
        made ^= column * (sums >> np.uint32(bit) & np.uint32(1))
    return made
