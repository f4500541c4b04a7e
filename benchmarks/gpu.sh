#!/usr/bin/env bash
# Figures of a machine with a GPU; each script takes less than 5 minutes, and needs neither network nor package index:
#
#   bash benchmarks/gpu.sh speed        # steps, fit, input; the authors' numbers on the GPU; no step waits for it
#   bash benchmarks/gpu.sh rehearsal    # Order I at a hundredth, drawing, kill and resume, DDP, MiniMTIL
#
# A second argument "cpu" tries the script where there is no GPU. What the packages of pyproject.toml lack on the machine
# is put on PYTHONPATH. Every stage has its time limit and depends on no other; figures appear as they come, and those of
# `python -m benchmarks.speed` are also written to benchmarks/RESULTS.md and benchmarks/speed.json.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SCRIPT=${1:?"name a script: speed or rehearsal"} DEVICE=${2:-cuda} PYTHON=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 WANDB_MODE=offline
LOGS=$(mktemp -d)
trap 'rm -rf "$LOGS"' EXIT

stage() {  # NAME SECONDS COMMAND...: run it, whatever becomes of it
    local name=$1 limit=$2 began=$SECONDS; shift 2
    echo "=== $name (at most $limit s)"
    timeout --kill-after=5 "$limit" "$@"
    echo "--- $name: status $?, $((SECONDS - began)) s"
}

later() {  # NAME SECONDS COMMAND...: run it in the background; `collect` shows what it printed
    local name=$1; shift
    ( stage "$name" "$@" ) > "$LOGS/$name" 2>&1 &
}

collect() { wait; cat "$LOGS"/* 2>/dev/null; }

measured() { "$PYTHON" -m benchmarks.speed --device "$DEVICE" --parts "$@"; }

speed() {
    later golden 240 env GOLDEN_DEVICE="$DEVICE" "$PYTHON" -m pytest -q -x -n 4 -p no:cacheprovider \
        tests/golden/test_trajectories.py -k float64
    later waits 200 "$PYTHON" -m pytest -q -p no:cacheprovider tests -k "waits_for_the_device" --ignore tests/e2e
    stage step 150 "$PYTHON" -m benchmarks.speed --device "$DEVICE" --parts step
    stage fit 60 "$PYTHON" -m benchmarks.speed --device "$DEVICE" --parts fit
    stage input 60 "$PYTHON" -m benchmarks.speed --device "$DEVICE" --parts input
    collect
}

rehearsal() {
    local runs; runs=$(mktemp -d)
    later mini 280 bash -c "for m in finetune gift; do
        $PYTHON -m gift_lightning fit --config conf/mini/\$m.yaml --run.root $runs --trainer.accelerator $DEVICE; done"
    stage rehearsal 120 "$PYTHON" -m benchmarks.speed --device "$DEVICE" --parts rehearsal
    stage generation 60 "$PYTHON" -m benchmarks.speed --device "$DEVICE" --parts generation
    stage resume 90 "$PYTHON" -m benchmarks.resume --device "$DEVICE"
    collect
    rm -rf "$runs"
}

case $SCRIPT in
    speed | rehearsal) "$SCRIPT" ;;
    *) echo "There is no script '$SCRIPT': name speed or rehearsal."; exit 2 ;;
esac
