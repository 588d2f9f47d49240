#!/usr/bin/env bash
# What needs a GPU, in one command: bash kernels/gpu_check.sh OUT. It takes at most eight minutes.
#
# It needs a checkout, and a python3 (or $PYTHON) that imports torch, triton, pytest and what lattice_flows requires;
# nothing is installed or downloaded. OUT/gpu.json holds all figures, OUT/*.log what was printed.
set -uo pipefail
out=$(mkdir -p "${1:?usage: bash kernels/gpu_check.sh OUT}" && cd "$1" && pwd) || exit 2
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
failed=0

# part SECONDS NAME COMMAND...: the output in NAME.log, and its end here
part() {
    local limit=$1 name=$2 begin=$SECONDS
    shift 2
    printf '\n+ %s\n' "$*"
    timeout "$limit" "$@" > "$out/$name.log" 2>&1
    local code=$?
    tail -n 25 "$out/$name.log"
    printf '%s: code %d, %d s\n' "$name" "$code" $((SECONDS - begin)) | tee -a "$out/summary.log"
    [ "$code" = 0 ] || failed=1
}

rm -f "$out/summary.log"
part 20 machine "$python" experiments/kernels/gpu.py machine "$out/machine.json"
part 100 chains "$python" experiments/kernels/gpu.py chains "$out/chains.json"
part 120 compilation "$python" experiments/kernels/gpu.py compilation "$out/compilation.json"
part 40 ops "$python" experiments/kernels/gpu.py ops "$out/ops.json"
part 80 training "$python" experiments/kernels/gpu.py training "$out/training.json"
part 120 tests "$python" -m pytest -q -n 14 --no-header -p no:cacheprovider -p no:benchmark tests/kernels tests/sampling \
    -k "(gpu or triton) and not without_a_gpu and not interpreter"

"$python" - "$out" << 'PYTHON'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
found = {f.stem: json.loads(f.read_text()) for f in sorted(out.glob("*.json")) if f.stem != "gpu"}
found["summary"] = (out / "summary.log").read_text().splitlines()
found["tests"] = (out / "tests.log").read_text().splitlines()[-1]
(out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
PYTHON
printf '\n'
cat "$out/summary.log"
exit "$failed"
