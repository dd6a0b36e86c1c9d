#!/usr/bin/env bash
# Sets up in this folder, without a network, and runs benchmarks.gpu: ./run.sh [--quick ...]; PYTHON=python3.12 picks the
# Python, which must have torch. The figures lie in figures.json, anew after each part.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
PYTHON=${PYTHON:-python3}
if ! torch=$("$PYTHON" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])'); then
    echo "run.sh: $PYTHON has no torch: set PYTHON to one that has it (2.9 or newer, with CUDA)" >&2
    exit 2
fi
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ ! -d "wheels/$version" ]; then
    echo "run.sh: $PYTHON is $version, this kit is for $(ls wheels | grep -v any | tr '\n' ' '): make gpu-kit ARGS='--python $version'" >&2
    exit 2
fi
if [ ! -e env/ready ]; then
    rm -rf env
    "$PYTHON" -m venv --without-pip env
    # After the kit's own packages: of two numpys the kit's counts.
    echo "$torch" > "env/lib/python$version/site-packages/torch-is-there.pth"
    pip=(wheels/any/pip-*.whl)  # runs as it is, unpacked by nobody
    env/bin/python "${pip[0]}/pip" install --quiet --no-index --no-deps --disable-pip-version-check \
        wheels/any/*.whl "wheels/$version"/*.whl
    touch env/ready
fi
cd src
../env/bin/python -c 'import torch; print("torch", torch.__version__, "with" if torch.cuda.is_available() else "WITHOUT", "a GPU")'
exec ../env/bin/python -m benchmarks.gpu --json ../figures.json "$@"
