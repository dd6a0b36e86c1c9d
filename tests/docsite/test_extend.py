"""docs/extend.md, followed word by word in a copy of the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.processes import ROOT, clean_environment

PAGE = (ROOT / "docs/extend.md").read_text()

# What a reader would do next: build it, save it, read it back, and see what is refused.
USE = """
import torch
from srdist.config import parse
from srdist.machine.errors import UserError
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import WeightsInfo, load_weights, save_weights
from pathlib import Path

section = parse({"model": {"family": "tiny", "side": 5}}, source="page").model
network = section.build(seed=3).eval()
assert network.digest() == section.build(seed=3).digest() != section.build(seed=4).digest()
save_weights(Path("w.safetensors"), network.state_dict(), WeightsInfo(section, "bicubic", "id", 1))
loaded, info = load_weights("w.safetensors")
assert (info.network, loaded.digest()) == (section, network.digest())
image = torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8).numpy()
whole, tiled = (TiledNetwork(loaded, device=torch.device("cpu"), tile=n).upscale(image) for n in (100, 16))
assert whole.shape == (80, 100, 3) and (whole == tiled).all()
try:
    parse({"model": {"family": "tiny", "side": 4}}, source="page")
except UserError as error:
    print(error)
"""


def test_the_network_of_the_page_works_as_the_page_says(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "srdist", tmp_path / "srdist", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors")
    )
    network, section = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    (tmp_path / "srdist/networks/tiny.py").write_text(network)
    config = tmp_path / "srdist/networks/config.py"
    before, after = re.findall(r"^[-+](    SRCNNConfig.*)$", PAGE, flags=re.M)
    text = config.read_text()
    assert text.count(before) == 1
    text = text.replace("NetworkConfig = Annotated[", f"{section}\n\nNetworkConfig = Annotated[", 1)
    config.write_text(text.replace(before, after))
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "page: model: side must be odd, found 4\n"
