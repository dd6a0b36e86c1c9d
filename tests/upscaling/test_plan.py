"""What a directory job knows of its images: which there are, in which order, and what has become of each."""

from __future__ import annotations

import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srdist.images.photo import OutputFormat, probe_size
from srdist.machine.files import write_bytes
from srdist.upscaling.job import Job, Output
from srdist.upscaling.jobstate import Tally
from srdist.upscaling.outputs import unusual_outputs, usual_output
from srdist.upscaling.plan import MAX_UNIT_IMAGES, MAX_UNIT_PIXELS, Inputs, Paths, Plan, cut_units
from srdist.upscaling.receipts import Receipts


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not an image")
    return folder


def job_of(source: Path, **output: Any) -> Job:
    return Job(source, source.parent / "dst", Output(**output), "s")


def test_the_order_is_that_of_the_paths_as_bytes_whatever_the_names(tmp_path: Path) -> None:
    names = ["a.png", "a-b.png", "a/z.png", "a b/c.png", "a/b/c.png", "a0/x.png", "A.png", "ä.png", "z.png"]
    names += ["a/\udcff.png", "\U0001f408.png", "￿.png"]
    inputs = Inputs(job_of(touch(tmp_path / "src", *names)))
    found = [inputs.paths[i] for i in range(len(inputs))]
    assert found == sorted(names, key=os.fsencode)
    assert [inputs.paths.find(name) for name in found] == list(range(len(names)))
    assert [inputs.paths.find(name) for name in ("", "a", "a/", "a.pn", "a.pngg", "zz")] == [None] * 6


@pytest.mark.parametrize("output_format", [None, "png", "jpg"])
def test_no_two_images_share_an_output_and_whoever_has_its_name_keeps_it(
    output_format: OutputFormat | None,
) -> None:
    chance = random.Random(0)
    suffixes = [".jpg", ".JPG", ".png", ".gif", ".jpeg", ".jpg.png", ".jpg_.png", ".gif.png", ".b.png"]
    possible = [stem + suffix for stem in "ab" for suffix in suffixes]
    for _ in range(300):
        names = set(chance.sample(possible, chance.randint(1, 12)))
        folders = set(chance.sample([*possible, "a", "b"], 3)) - names
        unusual = unusual_outputs(sorted(names), folders, output_format=output_format)
        usual = {name: usual_output(name, output_format=output_format) for name in names}
        outputs = usual | unusual
        assert len(set(outputs.values())) == len(names) == len(outputs)
        assert not folders & set(outputs.values())
        assert all(outputs[name] == name for name in names if usual[name] == name)
        assert all(Path(outputs[name]).suffix == Path(usual[name]).suffix for name in names)


def test_a_plan_takes_some_bytes_an_image(tmp_path: Path) -> None:
    source = touch(tmp_path / "src", *(f"{i % 7}/some_longer_name_{i:06d}.jpg" for i in range(4000)))
    probe_size(source / "0" / "some_longer_name_000000.jpg")  # loads Pillow's readers
    tracemalloc.start()
    job = job_of(source, format="png")
    plan = Plan(Inputs(job), cache=tmp_path / "plans", write=write_bytes)
    tally = Tally(plan, Receipts(tmp_path), job, run=0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tally.count(Tally.OPEN) == 4000
    assert held / 4000 < 150  # the receipts' places included


def test_sizes_are_read_once_and_again_where_their_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = Inputs(job_of(touch(tmp_path / "src", "a.png", "b.png")))
    probed: list[Path] = []

    def probe(path: Path) -> tuple[int, int]:
        probed.append(path)
        return len(probed), 10

    monkeypatch.setattr("srdist.upscaling.plan.probe_size", probe)
    cache = tmp_path / "plans"
    assert sorted(Plan(inputs, cache=cache, write=write_bytes).pixels) == [10, 20]
    assert sorted(Plan(inputs, cache=cache, write=write_bytes).pixels) == [10, 20]
    assert len(probed) == 2
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:11])
    assert sorted(Plan(inputs, cache=cache, write=write_bytes).pixels) == [30, 40]


@given(st.lists(st.integers(0, 1 << 24), min_size=1, max_size=700))
def test_units_hold_every_image_once_in_order_and_keep_within_their_bounds(pixels: list[int]) -> None:
    units = list(cut_units(pixels))
    assert [i for unit in units for i in unit] == list(range(len(pixels)))
    for unit in units:
        assert 1 <= len(unit) <= MAX_UNIT_IMAGES
        assert len(unit) == 1 or sum(pixels[unit.start : unit.stop]) <= MAX_UNIT_PIXELS


NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=6)


@given(st.sets(NAMES, max_size=30), NAMES)
def test_a_path_is_found_where_it_stands_and_nowhere_else(names: set[str], other: str) -> None:
    kept = [name for name in names if _encodable(name)]
    paths = Paths()
    for name in sorted(kept, key=os.fsencode):
        paths.append(name)
    assert [paths.find(paths[i]) for i in range(len(paths))] == list(range(len(kept)))
    assert not _encodable(other) or (paths.find(other) is None) == (other not in kept)


STEMS = st.sampled_from(["a", "b", "a.jpg", "a.png", "a_", "A", "", ".a"])
ENDINGS = st.sampled_from([".png", ".jpg", ".jpeg", ".gif", ".PNG", ".webp", ".tif", ".bmp", ".jpg_.png"])


@given(
    st.sets(st.builds("".join, st.tuples(STEMS, ENDINGS)), max_size=20),
    st.sets(st.builds("".join, st.tuples(STEMS, ENDINGS)), max_size=4),
    st.sampled_from([None, "png", "jpg", "webp"]),
)
def test_outputs_of_a_folder_are_as_many_as_its_images_and_beside_its_folders(
    names: set[str], folders: set[str], output_format: OutputFormat | None
) -> None:
    files = sorted(names - folders)
    unusual = unusual_outputs(files, folders, output_format=output_format)
    outputs = [unusual.get(name) or usual_output(name, output_format=output_format) for name in files]
    assert len(set(outputs)) == len(files)
    assert not folders & set(outputs)
    # Whoever has the name of an output keeps it.
    for name, output in zip(files, outputs, strict=True):
        assert output == name or usual_output(name, output_format=output_format) != name


def _encodable(name: str) -> bool:
    try:
        return os.fsdecode(os.fsencode(name)) == name
    except UnicodeError:
        return False
