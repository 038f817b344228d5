#!/bin/sh
# Measures training on this machine's accelerator, in under eight minutes:
#     [PYTHON=python3] [WHEELS=DIR] benchmarks/gpu.sh [options of benchmarks/gpu/run.py]
# The wheels in DIR are installed aside first: a machine without a network may lack some packages.
set -e
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
if [ -n "$WHEELS" ]; then
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
        --target "${TMPDIR:-/tmp}/site" "$WHEELS"/*.whl
    PYTHONPATH=${TMPDIR:-/tmp}/site${PYTHONPATH:+:$PYTHONPATH}
fi
PYTHONPATH=$PWD:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH PYTHONUNBUFFERED=1
exec "$PYTHON" benchmarks/gpu/run.py "$@"
