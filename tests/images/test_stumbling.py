"""One image that a decoder stumbles over is that image's failure: its neighbours go on, whatever was raised."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srdist.cli.main import main
from srdist.degradations.kernel import KernelDegradation
from srdist.images.decode import UnreadableImageError, decode_into, decode_rgb, image_size
from srdist.images.photo import decode_photo, probe_size
from srdist.networks.config import SRCNNConfig
from srdist.networks.weightfile import WeightsInfo, save_weights
from srdist.shards.pack import pack
from srdist.shards.reader import ShardIndex
from srdist.shards.recipe import Recipe
from srdist.stream.pairs import EvalStream
from srdist.stream.share import Share
from tests.upscaling.test_job import go, outputs

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)


def encoded(kind: str, mode: str = "RGB", **options: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def stumbling() -> dict[str, bytes]:
    """Files over which Pillow's decoders raise what they do not promise (12.0: in the order of the names)."""
    flags_unknown = bytearray(encoded("DDS"))
    flags_unknown[80:84] = bytes(4)
    fax = bytearray(encoded("TIFF", "1", compression="group4"))
    directory = struct.unpack("<I", fax[4:8])[0]
    end = directory + 2 + 12 * struct.unpack("<H", fax[directory : directory + 2])[0]
    fax[end : end + 4] = struct.pack("<I", directory + 2 + 12 * 4)  # the second frame is no directory
    return {
        "NotImplementedError.jpg": bytes(flags_unknown),
        "RuntimeError.png": encoded("AVIF").replace(b"iinf", b"none"),
        "TypeError.tif": bytes(fax),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good images among those that no decoder takes."""
    source = tmp_path / "src"
    source.mkdir()
    for name, data in stumbling().items():
        (source / name).write_bytes(data)
    for name in ("Good.png", "zebra.png"):
        (source / name).write_bytes(encoded("PNG"))
    return source


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    config = SRCNNConfig(kernels=(3, 3), widths=(4,))
    path = tmp_path / "w.safetensors"
    save_weights(path, config.build(seed=0).state_dict(), WeightsInfo(config, "bicubic", "", 0))
    return path


@pytest.mark.parametrize("error", [RuntimeError, IndexError, TypeError, MemoryError, struct.error, KeyError])
@pytest.mark.parametrize("decode", [decode_rgb, decode_photo, image_size])
def test_whatever_a_decoder_raises_is_the_one_error_and_names_it(
    decode: Callable[[bytes], object], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise error("some table")

    data = encoded("PNG")
    monkeypatch.setattr(Image, "open", stumble)
    with pytest.raises(UnreadableImageError, match=r"some table|memory"):
        decode(data)


@pytest.mark.parametrize("name", stumbling())
def test_no_way_of_decoding_lets_an_odd_error_out(name: str, tmp_path: Path) -> None:
    data = stumbling()[name]
    with pytest.raises(UnreadableImageError):
        decode_photo(data)
    for decode in (decode_rgb, image_size, lambda data: decode_into(data, np.empty((40, 48, 3), np.uint8))):
        with contextlib.suppress(UnreadableImageError):
            decode(data)
    (tmp_path / name).write_bytes(data)
    probe_size(tmp_path / name)


def test_upscaling_goes_on_beside_them(folder: Path, tmp_path: Path, weights: Path) -> None:
    report = go(folder, tmp_path / "dst", weights)
    assert (report.done, report.failed) == (2, 3)
    assert outputs(tmp_path / "dst").keys() == {"Good.png", "zebra.png"}


def test_packing_leaves_them_out_and_streaming_never_meets_them(folder: Path, tmp_path: Path) -> None:
    report = pack(Recipe(name="odd", fractions={"train": 1.0}), folder, out=tmp_path / "set")
    assert report.samples["train"] + sum(report.left_out.values()) == 5
    assert report.left_out["unreadable"] >= 2
    index = ShardIndex.open(str(tmp_path / "set"), "train")
    stream = EvalStream(index, KernelDegradation(2, "bicubic"), Share(), batch=1, workers=1)
    assert sum(len(pair.ids) for pair in stream) == report.samples["train"]


def test_evaluating_lists_them_and_comparing_one_is_one_line(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["evaluate", "--hr", str(folder), "--scale", "2"])
    assert done.exit_code == 1
    assert "RuntimeError.png: cannot be" in done.output
    for name in ("NotImplementedError.jpg", "RuntimeError.png"):
        figure = tmp_path / "f.png"
        call = [
            "compare",
            str(folder / name),
            "--methods",
            "bicubic,nearest",
            "--scale",
            "2",
            "--out",
            str(figure),
        ]
        done = CliRunner().invoke(main, call)
        assert done.exit_code == 1, done.output
        assert not figure.exists()
