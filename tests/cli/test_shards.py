"""srdist shards order and info, and the index as a value that travels."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from srdist.cli.main import main
from srdist.machine.errors import WorkError
from srdist.shards.pack import pack
from srdist.shards.reader import ShardIndex
from srdist.shards.recipe import Recipe
from srdist.stream.order import make_order
from tests.packed_sets import Images, Packed
from tests.stream.test_pairs import BATCH, global_batches


@pytest.mark.parametrize("mode", ["global", "window"])
def test_order_prints_the_keys_that_the_stream_delivers(packed: Packed, mode: str) -> None:
    index = packed(50)
    steps = global_batches(index, steps=4, order=mode)
    streamed = [index.key(sample_id) for step in steps for sample_id in step["ids"].tolist()]
    command = ["shards", "order", index.folder, "--seed", "5", "--order", mode, "--window-shards", "2"]
    done = CliRunner().invoke(main, [*command, "--from", "7", "--count", str(4 * BATCH - 7)])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == streamed[7:]


def test_order_knows_the_last_positions_and_refuses_those_beyond_them(packed: Packed) -> None:
    index = packed(50)

    def printed(start: int, count: int) -> tuple[int, list[str]]:
        command = [
            "shards",
            "order",
            index.folder,
            "--seed",
            "5",
            "--from",
            str(start),
            "--count",
            str(count),
        ]
        done = CliRunner().invoke(main, command)
        return done.exit_code, done.output.splitlines()

    last = (1 << 63) - 1
    chosen = make_order("global", shard_samples=index.shard_samples, window_shards=8, seed=5)
    ids = chosen.ids(np.array([last - 2, last - 1]))
    assert printed(last - 2, 2) == (0, [index.key(sample_id) for sample_id in ids.tolist()])
    for start, count in ((last - 2, 3), (last, 1), (10**21, 1), (0, 10**21)):
        code, lines = printed(start, count)
        assert code == 2
        assert lines == [f"srdist: --from {start} --count {count}: positions are below 2^63 - 1 = {last}"]


def test_info_says_what_is_in_a_set(images: Images, tmp_path: Path) -> None:
    pack(Recipe(name="mine"), images(60, sizes="vary"), out=tmp_path / "set")
    done = CliRunner().invoke(main, ["shards", "info", str(tmp_path / "set")])
    assert done.exit_code == 0
    assert "mine, 60 images, packed by srdist" in done.stdout
    for split in ("train", "val", "test"):
        assert f"{len(ShardIndex.open(str(tmp_path / 'set'), split))} samples" in done.stdout.replace(
            "  ", " "
        )
    assert "35x40 to 59x52" in done.stdout


def test_a_set_that_is_not_there_is_one_line_and_exit_2(tmp_path: Path) -> None:
    for command in (["info"], ["verify"], ["index"], ["order", "--seed", "0", "--count", "1"]):
        done = CliRunner().invoke(main, ["shards", command[0], str(tmp_path / "none"), *command[1:]])
        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1
        assert str(tmp_path / "none") in done.stderr


def test_an_index_travels_as_a_few_bytes_and_notices_a_set_packed_anew(
    packed: Packed, images: Images
) -> None:
    index = packed(200)
    travelled = pickle.dumps(index)
    assert len(travelled) < 1000
    assert pickle.loads(travelled).read(7) == index.read(7)
    pack(Recipe(name="test", fractions={"train": 1.0}), images(9, name="new"), out=Path(index.folder))
    with pytest.raises(WorkError, match="packed anew while it was in use"):
        pickle.loads(travelled)
