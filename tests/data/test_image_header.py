"""What is decided from an image's header, for every format that OpenCV decodes."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe.cli.flags import FlagParser
from caffe.data.image_header import is_decodable, max_pixels
from caffe.data.images import decode, decode_datum
from caffe.errors import CaffeError, DataError
from caffe.io import load_image
from caffe.proto import caffe_pb2

HEIGHT, WIDTH = 12, 16
COLOR = (".jpg", ".png", ".bmp", ".webp", ".tiff", ".gif", ".ppm", ".pam", ".pfm", ".hdr", ".sr", ".avif")
GRAY = (".pgm", ".pbm")


def encoded(suffix: str, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    if suffix in GRAY:
        image = image[:, :, 0]
    pixels = image.astype(np.float32) / 255 if suffix in (".pfm", ".hdr") else image
    done, buffer = cv2.imencode(suffix, pixels)
    assert done
    return buffer.tobytes()


@pytest.mark.parametrize("suffix", COLOR + GRAY)
def test_every_format_is_decoded_up_to_the_limit_exactly(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(suffix)
    monkeypatch.setenv("CAFFE_MAX_PIXELS", str(HEIGHT * WIDTH))
    image = decode(data, cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (HEIGHT, WIDTH, 3)
    monkeypatch.setenv("CAFFE_MAX_PIXELS", str(HEIGHT * WIDTH - 1))
    with pytest.raises(DataError, match="16 × 12 pixels, 192; up to 191 are decoded.*-max_pixels"):
        decode(data, cv2.IMREAD_COLOR)


def _png(side: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", side, side) + bytes(9)


BOMBS = {
    "png": _png(20_000),
    "jpeg": b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc2\x00\x0b\x08" + struct.pack(">HH", 20_000, 20_000) + bytes(9),
    "jpeg with bytes between its segments": b"\xff\xd8abc\xff\xff\xc0\x00\x0b\x08" + b"\x4e\x20" * 2 + bytes(9),
    "gif": b"GIF89a" + struct.pack("<HH", 20_000, 20_000) + bytes(9),
    "bmp": b"BM" + bytes(12) + struct.pack("<Iii", 40, 20_000, -20_000) + bytes(9),
    "bmp of OS/2": b"BM" + bytes(12) + struct.pack("<IHH", 12, 20_000, 20_000) + bytes(9),
    "webp": b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + b"\xff\x7f" * 2,  # 16,383, the format's largest
    "lossless webp": b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0/" + b"\xff" * 4,
    "extended webp": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\x20\x4e\0" * 2,
    "tiff": b"II*\0\x08\0\0\0\2\0" + b"".join(struct.pack("<HHII", tag, 4, 1, 20_000) for tag in (256, 257)),
    "tiff, the other way round": b"MM\0*\0\0\0\x08\0\2"
    + b"".join(struct.pack(">HHIHH", tag, 3, 1, 20_000, 0) for tag in (256, 257)),
    "tiff of large tiles": b"II*\0\x08\0\0\0\4\0"
    + b"".join(
        struct.pack("<HHII", tag, 4, 1, side) for tag, side in ((256, 8), (257, 8), (322, 20_000), (323, 20_000))
    ),
    "big tiff": b"II+\0\x08\0\0\0"
    + struct.pack("<QQ", 16, 2)
    + b"".join(struct.pack("<HHQQ", tag, 16, 1, 20_000) for tag in (256, 257)),
    "ppm": b"P6\n# a comment of 5 6\n20000 20000\n255\n",
    "pbm": b"P4 20000\t20000\n",
    "pfm": b"PF\n20000 20000\n-1\n",
    "pam": b"P7\nWIDTH 20000\nHEIGHT 20000\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
    "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 20000 +X 20000\n",
    "sun raster": b"\x59\xa6\x6a\x95" + struct.pack(">II", 20_000, 20_000) + bytes(20),
    "jpeg 2000": b"\xff\x4f\xff\x51\0\x2f\0\0" + struct.pack(">8IH", 20_000, 20_000, 0, 0, 20_000, 20_000, 0, 0, 3),
    "avif": b"\0\0\0\x20ftypavif" + bytes(20) + b"\0\0\0\x14ispe\0\0\0\0" + struct.pack(">II", 20_000, 20_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_claim_of_too_many_pixels_is_refused_before_decoding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)  # a decoder must not be called
    with pytest.raises(DataError, match=r"the image claims .* pixels.* up to 200,000,000 are decoded"):
        decode(BOMBS[name], cv2.IMREAD_COLOR)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF8",
        b"BM",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\xd8" + b"\xff\x00" * 100_000,  # segments without an end
        b"P6\n",
        b"P6\n" + b"9" * 400,
        b"P7\nWIDTH 4",
        b"II*\0\xff\xff\xff\xff",
        b"II+\0\x08\0\0\0" + b"\xff" * 8,  # a place beyond 64-bit integers
        b"RIFF\0\0\0\0WEBPABCD" + bytes(30),
        b"\xff\x4f\xff\x51\0\x2f\0\0" + struct.pack(">8IH", 9, 9, 0, 0, 1, 1, 0, 0, 16_384),  # a table of tiles
        b"\xff\x4f\xff\x51\0\x2f\0\0" + struct.pack(">8IH", 9999, 9999, 0, 0, 1, 1, 0, 0, 3),
        b"\0\0\0\x20ftypavif",
        b"%PDF-1.4",
        _png(10) + struct.pack(">I4s", 1 << 31, b"tEXt"),  # a chunk of two gigabytes
    ],
)
def test_what_is_no_image_is_not_given_to_a_decoder(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    assert decode(data, cv2.IMREAD_COLOR) is None


def test_a_photograph_of_69_megapixels_is_read(tmp_path: Path) -> None:
    pixels = np.full((8_300, 8_320), 77, np.uint8)
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    image = decode(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_REDUCED_GRAYSCALE_8)  # its header is checked all the same
    assert image is not None
    assert is_decodable(data)


def test_the_error_of_a_record_and_of_a_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="record 'a': the image claims"):
        decode_datum(caffe_pb2.Datum(encoded=True, data=BOMBS["gif"]), "record 'a'")
    path = tmp_path / "bomb.gif"
    path.write_bytes(BOMBS["gif"])
    with pytest.raises(DataError, match="bomb.gif: the image claims"):
        load_image(path)


def test_the_flag_sets_the_limit_for_this_process_and_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE_MAX_PIXELS", "5")
    parser = FlagParser("x")
    parser.max_pixels()
    parser.parse_args(["-max_pixels", "1000"])
    assert max_pixels() == 1000
    monkeypatch.setenv("CAFFE_MAX_PIXELS", "1e9")
    with pytest.raises(CaffeError, match="CAFFE_MAX_PIXELS is '1e9'"):
        max_pixels()
