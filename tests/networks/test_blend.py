"""A network between two: each value on the way from one to the other, of one shape alone, and it says what it is made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from srdist.cli.main import main
from srdist.networks.config import EDSRConfig, NetworkSection, PlainConfig, SRCNNConfig
from srdist.networks.weightfile import WeightsInfo, load_weights, save_weights

SHAPE = SRCNNConfig(scale=2, kernels=(3, 3), widths=(4,))


def saved(path: Path, *, seed: int, shape: NetworkSection = SHAPE, **info: object) -> Path:
    said = replace(WeightsInfo(shape, "bicubic", "abc", 100), **info)  # type: ignore[arg-type]
    save_weights(path, shape.build(seed=seed).state_dict(), said)
    return path


def blend(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["blend", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_each_value_lies_between_and_the_file_says_what_it_is_made_of(tmp_path: Path) -> None:
    a = saved(tmp_path / "a.safetensors", seed=1)
    b = saved(tmp_path / "b.safetensors", seed=2, manifest_id="other", step=300)
    out = tmp_path / "made.safetensors"
    assert blend(a, b, "--alpha", 0.3, "--out", out) == (0, f"{out}\n", "")
    (one, _), (other, _), (made, info) = (load_weights(path) for path in (a, b, out))
    for name, tensor in made.state_dict().items():
        expected = 0.7 * one.state_dict()[name] + 0.3 * other.state_dict()[name]
        torch.testing.assert_close(tensor, expected)
    assert (info.network, info.kernel, info.manifest_id, info.step) == (SHAPE, "bicubic", "", 300)
    said = json.loads(info.blend)
    assert [part["share"] for part in said["of"]] == [0.7, 0.3]
    assert [part["sha256"] for part in said["of"]] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (a, b)
    ]
    assert [part["manifest_id"] for part in said["of"]] == ["abc", "other"]
    # Of blends again: what they were made of, once, however often it is done (it doubled each time).
    older, newer = a, out
    of_a = {a: 1.0, out: 0.7}
    for number in range(20):
        again = tmp_path / f"{number}.safetensors"
        assert blend(older, newer, "--alpha", 0.5, "--out", again)[0] == 0
        of_a[again] = (of_a[older] + of_a[newer]) / 2
        parts = json.loads(load_weights(again)[1].blend)["of"]
        assert [part["file"] for part in parts] == ["a.safetensors", "b.safetensors"]
        assert [part["share"] for part in parts] == pytest.approx([of_a[again], 1 - of_a[again]])
        older, newer = newer, again
    assert again.stat().st_size < 2 * out.stat().st_size


def test_what_a_file_says_of_its_blend_in_another_way_is_taken_as_one_file(tmp_path: Path) -> None:
    b = saved(tmp_path / "b.safetensors", seed=2)
    for text in (
        "[",
        "7",
        '{"of": 3}',
        '{"of": [{"sha256": 1, "share": "x"}]}',
        '{"alpha": 0.3, "of": [{"file": "a"}]}',
    ):
        a = saved(tmp_path / "a.safetensors", seed=1, blend=text)
        assert blend(a, b, "--alpha", 0.25, "--out", tmp_path / "made.safetensors")[0] == 0
        parts = json.loads(load_weights(tmp_path / "made.safetensors")[1].blend)["of"]
        assert [(part["file"], part["share"]) for part in parts] == [
            ("a.safetensors", 0.75),
            ("b.safetensors", 0.25),
        ]


@pytest.mark.parametrize(("alpha", "which"), [(0, "a"), (1, "b")])
def test_the_ends_are_the_two_networks(tmp_path: Path, alpha: float, which: str) -> None:
    paths = {name: saved(tmp_path / f"{name}.safetensors", seed=i) for i, name in enumerate("ab")}
    out = tmp_path / "made.safetensors"
    assert blend(paths["a"], paths["b"], "--alpha", alpha, "--out", out)[0] == 0
    made, end = load_weights(out)[0].state_dict(), load_weights(paths[which])[0].state_dict()
    assert all(torch.equal(made[name], tensor) for name, tensor in end.items())


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (SHAPE.model_copy(update={"scale": 3}), "scale is 3, and 2 in"),
        (SRCNNConfig(scale=2, kernels=(3, 3), widths=(5,)), "widths is [5], and [4] in"),
        (PlainConfig(scale=2, kernels=(3, 3), widths=(4,)), "only networks of one shape can be blended"),
        (EDSRConfig(scale=2, width=4, blocks=1), "only networks of one shape can be blended"),
    ],
)
def test_networks_of_two_shapes_are_refused_in_one_line(
    tmp_path: Path, shape: NetworkSection, words: str
) -> None:
    a = saved(tmp_path / "a.safetensors", seed=1)
    b = saved(tmp_path / "b.safetensors", seed=1, shape=shape)
    code, _, error = blend(a, b, "--alpha", 0.5, "--out", tmp_path / "made.safetensors")
    assert code == 2
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "made.safetensors").exists()


def test_what_cannot_be_blended_or_written_is_one_line_and_the_inputs_stay(tmp_path: Path) -> None:
    a, b = (saved(tmp_path / f"{name}.safetensors", seed=i) for i, name in enumerate("ab"))
    before = a.read_bytes()
    (tmp_path / "link.safetensors").symlink_to(a)
    (tmp_path / "folder.safetensors").mkdir()
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(before[:100])
    for arguments, words in [
        ((a, b, "--alpha", 0.5, "--out", a), "is a file that is read for it"),
        ((a, b, "--alpha", 0.5, "--out", tmp_path / "link.safetensors"), "is a file that is read for it"),
        ((a, b, "--alpha", 0.5, "--out", tmp_path / "made.pth"), "ends in .safetensors"),
        ((a, b, "--alpha", 0.5, "--out", tmp_path / "folder.safetensors"), "folder.safetensors"),
        ((a, tmp_path / "gone", "--alpha", 0.5, "--out", tmp_path / "m.safetensors"), "no such weights file"),
        ((a, torn, "--alpha", 0.5, "--out", tmp_path / "m.safetensors"), "torn.safetensors"),
        ((a, b, "--alpha", 1.5, "--out", tmp_path / "m.safetensors"), "--alpha"),
        ((a, b, "--alpha", "nan", "--out", tmp_path / "m.safetensors"), "--alpha"),
    ]:
        code, _, error = blend(*arguments)
        assert code in (1, 2), words
        assert words in error
        assert "Traceback" not in error
    assert a.read_bytes() == before
