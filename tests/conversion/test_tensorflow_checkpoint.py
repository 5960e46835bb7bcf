"""TensorFlow's V2 checkpoints: read to the last bit without it, and what is cut, altered or missing is one sentence.

The fixtures were saved by TensorFlow itself: `tests/fixtures/make_srn.py`. Others are written here, by the format's
description.
"""

import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from deblur_hub.conversion import convert
from deblur_hub.conversion.tensorflow_checkpoint import crc32c, is_checkpoint, load, masked
from deblur_hub.errors import ModelError

DATA = Path(__file__).parents[1] / "data" / "tensorflow"
FLOAT, TEXT = 1, 7


@pytest.fixture
def saved(tmp_path) -> Path:
    """The prefix of a copy of a checkpoint."""
    for file in DATA.glob("srn-color.*"):
        shutil.copy(file, tmp_path)
    return tmp_path / "srn-color"


def data_of(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.data-00000-of-00001")


def index_of(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


# --- a checkpoint by the format's description --------------------------------------------------------------------


def varint(value: int) -> bytes:
    low, value = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(value) if value else bytes([low])


def numbered(key: int, value: int) -> bytes:
    return varint(key << 3) + varint(value)


def nested(key: int, content: bytes) -> bytes:
    return varint(key << 3 | 2) + varint(len(content)) + content


def entry(content: bytes, shape, *, offset=0, kind=FLOAT, shard=0, more=b"") -> bytes:
    dimensions = b"".join(nested(2, numbered(1, side)) for side in shape)
    checksum = varint(6 << 3 | 5) + struct.pack("<I", masked(crc32c(content)))
    places = numbered(3, shard) + numbered(4, offset) + numbered(5, len(content))
    return numbered(1, kind) + nested(2, dimensions) + places + checksum + more


def block(pairs, *, compressed=False) -> bytes:
    content = b"".join(
        varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in pairs
    ) + struct.pack("<II", 0, 1)
    content += bytes([compressed])
    return content + struct.pack("<I", masked(crc32c(content)))


def table(blocks, *, times=1) -> bytes:
    content, places = b"", []
    for made in blocks:
        places.append((b"~", varint(len(content)) + varint(len(made) - 5)))
        content += made
    empty, of_blocks = block([]), block(places * times)
    footer = varint(len(content)) + varint(len(empty) - 5) + varint(len(content + empty)) + varint(len(of_blocks) - 5)
    return content + empty + of_blocks + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def write(folder: Path, entries: dict[str, bytes], data: bytes = b"", *, header: bytes | None = None, **how) -> Path:
    """A checkpoint of one file of data; returns its prefix."""
    prefix = folder / "net"
    header = numbered(1, 1) if header is None else header
    pairs = [(b"", header), *((name.encode(), value) for name, value in entries.items())]
    index_of(prefix).write_bytes(table([block(pairs[:1]), block(pairs[1:], **how)]))
    data_of(prefix).write_bytes(data)
    return prefix


# --- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001", ".meta"])
def test_a_checkpoint_is_read_from_its_prefix_or_any_of_its_files(saved, ending):
    source = saved.with_name(saved.name + ending)
    assert is_checkpoint(source)
    tensors, passed_over = load(source)
    assert not passed_over and len(tensors) == 2 * 18 + 7  # convolutions, and what the training keeps
    assert tuple(tensors["g_net/dec1_2/weights"].shape) == (4, 4, 3, 6)
    assert tensors["Variable"].dtype == torch.int32 and tensors["Variable"].shape == ()


def test_other_files_and_folders_are_not_taken_for_one(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"")
    assert not any(is_checkpoint(path) for path in (tmp_path / "net.pth", tmp_path, tmp_path / "none.pth"))


def test_tensors_in_several_files_are_read():
    tensors, _ = load(DATA / "srn-lstm")
    assert tuple(tensors["g_net/convLSTM/LSTM_conv/weights"].shape) == (3, 3, 16, 32)
    assert tuple(tensors["g_net/enc1_1/weights"].shape) == (5, 5, 2, 2)


@pytest.mark.parametrize(
    ("number", "stored", "kind"),
    [
        (1, "<f4", torch.float32),
        (2, "<f8", torch.float64),
        (3, "<i4", torch.int32),
        (4, "u1", torch.uint8),
        (5, "<i2", torch.int16),
        (6, "i1", torch.int8),
        (9, "<i8", torch.int64),
        (10, "u1", torch.bool),
        (19, "<f2", torch.float16),
    ],
)
def test_every_type_that_pytorch_has_comes_back_to_the_last_bit(tmp_path, number, stored, kind):
    values = np.array([[1, 0, 1], [0, 1, 1]], stored)
    tensor = load(write(tmp_path, {"a": entry(values.tobytes(), (2, 3), kind=number)}, values.tobytes()))[0]["a"]
    assert tensor.dtype == kind and tensor.tolist() == values.tolist()


def test_bfloat16_scalars_empty_tensors_and_text(tmp_path):
    wide = struct.pack("<f", -1.5)
    data = wide[2:] + wide
    entries = {
        "half": entry(wide[2:], (1,), kind=14),
        "nothing": entry(b"", (0, 3), offset=2),
        "scalar": entry(wide, (), offset=2),
        "words": entry(b"whatever", (1,), kind=TEXT),
    }
    tensors, passed_over = load(write(tmp_path, entries, data))
    assert tensors["half"].dtype == torch.bfloat16 and tensors["half"].item() == tensors["scalar"].item() == -1.5
    assert tensors["nothing"].shape == (0, 3) and passed_over == {"words": "text"}


# --- checksums ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),  # RFC 3720, appendix B.4, and the usual check value
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_the_checksum_is_crc_32c(content, expected):
    assert crc32c(content) == expected


def test_the_checksum_of_any_length_is_that_of_the_definition():
    def bit_by_bit(content):
        found = 0xFFFFFFFF
        for byte in content:
            found ^= byte
            for _ in range(8):
                found = found >> 1 ^ (0x82F63B78 if found & 1 else 0)
        return found ^ 0xFFFFFFFF

    content = np.random.default_rng(0).bytes(5000)
    for length in (1, 2, 3, 4, 5, 7, 8, 63, 64, 65, 255, 1023, 1024, 4097, 5000):
        assert crc32c(content[:length]) == bit_by_bit(content[:length])


@pytest.mark.slow
def test_the_checksum_of_27_megabytes_takes_no_three_seconds():
    content = bytes(27_525_004)
    started = time.process_time()
    crc32c(content)
    assert time.process_time() - started < 3


# --- what can be wrong -------------------------------------------------------------------------------------------


def refusal(prefix: Path) -> str:
    with pytest.raises(ModelError) as error:
        convert(prefix, prefix.with_name("model"))
    assert "\n" not in str(error.value) and not prefix.with_name("model").exists()
    return str(error.value)


@pytest.mark.slow
def test_a_byte_altered_anywhere_is_noticed(saved):
    for path, step in ((data_of(saved), 9973), (index_of(saved), 7)):
        whole = path.read_bytes()
        for at in range(3, len(whole), step):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
            if path == index_of(saved) and padding(whole, at):
                continue
            assert str(path) in refusal(saved), at
        path.write_bytes(whole)


def padding(index: bytes, at: int) -> bool:
    """Whether a byte stands for nothing: what fills an index's footer up, behind the places of two blocks."""
    return len(index) - 42 <= at < len(index) - 8


def test_an_altered_tensor_is_named(saved):
    whole = bytearray(data_of(saved).read_bytes())
    whole[-1] ^= 1
    data_of(saved).write_bytes(whole)
    assert "srn-color.data-00000-of-00001: the checksum of 'g_net/enc3_2/conv2/weights' does not fit it" in refusal(
        saved
    )


@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_a_truncated_shard_is_one_sentence(saved, share):
    whole = data_of(saved).read_bytes()
    data_of(saved).write_bytes(whole[: int(len(whole) * share)])
    assert f"has {int(len(whole) * share)} bytes of {len(whole)} that its index names, so it was cut" in refusal(saved)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_index_is_one_sentence(saved, share):
    whole = index_of(saved).read_bytes()
    index_of(saved).write_bytes(whole[: int(len(whole) * share)])
    assert "srn-color.index: is no index of a TensorFlow checkpoint, or cut" in refusal(saved)


def test_a_missing_file_is_named(saved):
    data_of(saved).unlink()
    assert refusal(saved).startswith(f"{data_of(saved)}: no such file; a checkpoint of TensorFlow needs it")
    index_of(saved).unlink()
    data_of(saved).write_bytes(b"")
    assert refusal(saved).startswith(f"{index_of(saved)}: no such file; a checkpoint of TensorFlow needs it")


def test_a_missing_file_of_two_is_named(tmp_path):
    for file in DATA.glob("srn-lstm.*"):
        shutil.copy(file, tmp_path)
    (tmp_path / "srn-lstm.data-00001-of-00002").unlink()
    assert "srn-lstm.data-00001-of-00002: no such file" in refusal(tmp_path / "srn-lstm")


def test_a_file_of_another_kind_under_such_a_name_is_one_sentence(tmp_path):
    torch.save({"a": torch.zeros(9)}, tmp_path / "net.index")
    assert "net.index: is no index of a TensorFlow checkpoint" in refusal(tmp_path / "net")


def test_another_networks_checkpoint_is_one_sentence(tmp_path):
    prefix = write(tmp_path, {"vgg/conv1": entry(bytes(8), (2,))}, bytes(8))
    assert "1 tensors ('vgg/conv1' [2] ...) of a layout that is not known" in refusal(prefix)


@pytest.mark.slow
def test_a_block_named_without_end_is_read_no_further(tmp_path):
    prefix = write(tmp_path, {})
    index_of(prefix).write_bytes(table([block([(b"", numbered(1, 1))])], times=1000))
    with pytest.raises(ModelError, match="its parts do not fit together"):
        load(prefix)


@pytest.mark.parametrize(
    ("entries", "how", "message"),
    [
        ({"a": entry(bytes(8), (2,), kind=8)}, {}, "'a' is of TensorFlow's type 8, which convert does not know"),
        ({"a": entry(bytes(8), (3,))}, {}, r"'a' has 8 bytes, which its shape \[3\] does not need"),
        ({"a": entry(bytes(8), (2**64 - 1, 2))}, {}, "'a' has 8 bytes, which its shape"),
        ({"a": entry(bytes(8), (2,), more=nested(7, b""))}, {}, "'a' is kept in slices"),
        ({"a": entry(bytes(8), (2,), shard=1)}, {}, "it has 'a' in a file beyond the last"),
        ({"a": entry(bytes(8), (2,), offset=2**63)}, {}, "so it was cut"),
        ({name: entry(bytes(8), (2,)) for name in "ab"}, {}, "tensors lie one over another"),
        ({"a": entry(bytes(8), (2,))}, {"compressed": True}, "is compressed, which convert does not read"),
        (
            {"a": entry(bytes(8), (2,))},
            {"header": numbered(1, 1) + numbered(2, 1)},
            "is big-endian, which convert does not read",
        ),
        ({"a": entry(bytes(8), (2,))}, {"header": b""}, "does not say of how many files"),
        ({"a": b"\xff" * 20}, {}, "its parts do not fit together"),
        ({"a" * 2000: entry(bytes(8), (2,))}, {}, "its parts do not fit together"),
        ({"a": b"\x12"}, {}, "its parts do not fit together"),
    ],
)
def test_an_index_that_cannot_be_is_one_sentence(tmp_path, entries, how, message):
    prefix = write(tmp_path, entries, bytes(8), **how)
    with pytest.raises(ModelError, match=message) as error:
        load(prefix)
    assert str(error.value).startswith(str(prefix)) and "; " in str(error.value)
