#!/usr/bin/env bash
# Make the environments of the loaders that srdist is compared with: .venv-bench/NAME, each on its own, as their
# requirements exclude each other. A few minutes and about 2 GB. benchmarks/loader.py and correctness.py find them there.
set -euo pipefail
cd "$(dirname "$0")/.."
make_environment() { # NAME PACKAGE...
    local python=.venv-bench/$1/bin/python
    "${PYTHON:-python3}" -m venv ".venv-bench/$1"
    "$python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 simplejpeg pillow psutil "${@:2}"
}
make_environment datasets datasets==5.2.0
make_environment litdata litdata==0.2.76
make_environment mosaic mosaicml-streaming==0.13.0
make_environment spdl spdl-core==0.8.0
make_environment energon megatron-energon==7.4.1
