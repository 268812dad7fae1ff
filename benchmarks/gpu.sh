#!/usr/bin/env bash
# What RESULTS.md says of a GPU, on a machine that has one. No download: the text is that machine's own Python files.
#
#     benchmarks/gpu.sh checks     the tests that need a GPU; throughput, MFU, memory, serving
#     benchmarks/gpu.sh overhead   two sessions of 60 s runs: what is neither training nor scoring
#     benchmarks/gpu.sh full       the baseline and one experiment at the whole budget, end to end
#
# PYTHON names the interpreter; what is installed nowhere is found in src/.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=$(command -v "${PYTHON:-python3}")
[[ $PYTHON == /* ]] || PYTHON=$PWD/$PYTHON
PROJECT=${PROJECT:-${TMPDIR:-/tmp}/autoresearch-gpu}
export PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 AUTORESEARCH_CACHE=$PROJECT/cache COLUMNS=160
plugin=()
"$PYTHON" -c 'import importlib.metadata as m; m.version("pytest-autoresearch")' 2>/dev/null ||
    plugin=(-p pytest_autoresearch.plugin.hooks) # not installed, so pytest does not find it by itself
export PYTEST_ADDOPTS="${plugin[*]} -p no:cacheprovider"

project() { # a copy of this project whose text is on this machine
    [ -d "$PROJECT/baseline" ] && return
    mkdir -p "$PROJECT/text"
    cp -r baseline experiments "$PROJECT"
    echo '[pytest]' >"$PROJECT/pytest.ini"
    "$PYTHON" - "$PROJECT" <<'PYTHON'
import json, pathlib, re, sys, sysconfig
root = pathlib.Path(sys.argv[1])
found = 0
with open(root / "text/python.jsonl", "w") as out:
    for folder in dict.fromkeys(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")):
        for path in sorted(pathlib.Path(folder).rglob("*.py")):
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            for start in range(0, len(text), 8000):  # documents as long as those of the web
                out.write(json.dumps({"text": text[start : start + 8000]}) + "\n")
                found += len(text[start : start + 8000])
held_out = int(found / 20 / 4 / 2048) * 2048  # one document of twenty, four characters a token: fewer if need be
track = root / "baseline/cuda/track.toml"
text = track.read_text().replace('"climbmix"', '"text"')
track.write_text(re.sub(r"(eval_tokens = )\S+", rf"\g<1>{min(20_971_520, int(held_out * 0.9) // 65536 * 65536)}", text))
print(f"{found:,} characters of Python; {track}:", re.search("eval_tokens.*", track.read_text())[0])
PYTHON
    (cd "$PROJECT" && time "$PYTHON" -m pytest_autoresearch.cli --track cuda prepare)
}

case ${1:-} in checks | overhead | full) ;; *) sed -n 2,8p "$0" && exit 2 ;; esac
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader || true
"$PYTHON" -c 'import sys, torch; print("Python", sys.version.split()[0], "torch", torch.__version__)'
command -v bwrap || echo "no bubblewrap"
command -v cc || echo "no C compiler: Triton cannot compile"
case ${1:-} in
checks)
    "$PYTHON" -m pytest -q -rs -m gpu tests/core/test_device_memory.py tests/candidate/test_batches.py tests/e2e/test_cuda_track.py || echo "not all of the tests that need a GPU pass"
    "$PYTHON" benchmarks/throughput.py
    "$PYTHON" benchmarks/throughput.py --change DEPTH=8
    "$PYTHON" benchmarks/throughput.py --change DEPTH=8 --change BATCH_SIZE=128
    ;;
overhead)
    project
    "$PYTHON" benchmarks/overhead.py --project "$PROJECT" --track cuda --budget "60 s" --experiment sharper_attention
    ;;
full)
    project
    cd "$PROJECT"
    "$PYTHON" -m pytest experiments -k sharper_attention --ar-track cuda --ar-seeds 1 || [ $? -eq 1 ]
    tail -n 5 results.tsv
    ;;
esac
