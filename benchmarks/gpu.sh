#!/usr/bin/env bash
# Figures of a machine with a GPU; each script takes less than 5 minutes, and needs neither network nor package index:
#
#   bash benchmarks/gpu.sh speed        # steps beside the textbook's, fit, images; no step waits; the authors' numbers
#   bash benchmarks/gpu.sh rehearsal    # Order I at a hundredth, memory, drawing, kill and resume, DDP, MiniMTIL
#
# A second argument "cpu" tries the script where there is no GPU, with longer limits, and a third names one of its
# stages. What the packages of pyproject.toml lack on the machine is put on PYTHONPATH. Every stage has its time limit and
# depends on no other; tables appear as they come, and go to benchmarks/RESULTS.md and benchmarks/speed.json.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SCRIPT=${1:?"name a script: speed or rehearsal"} DEVICE=${2:-cuda} ONLY=${3:-} PYTHON=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 WANDB_MODE=offline
RUNS=$(mktemp -d)
trap 'rm -rf "$RUNS"' EXIT

stage() {  # NAME SECONDS COMMAND...: run it, whatever becomes of it
    local name=$1 limit=$2 began=$SECONDS; shift 2
    [[ $DEVICE == cuda ]] || limit=$((5 * limit))
    [[ -z $ONLY || $ONLY == "$name" ]] || return 0
    echo "=== $name (at most $limit s)"
    timeout --kill-after=5 "$limit" "$@"
    echo "--- $name: status $?, $((SECONDS - began)) s"
}

part() { stage "$1" "$2" "$PYTHON" -m benchmarks.speed --device "$DEVICE" --parts "$1"; }

# nothing else runs beside a stage that is timed
speed() {
    part step 130
    part fit 50
    part input 40
    stage waits 40 "$PYTHON" -m pytest -q -p no:cacheprovider -k waits tests/gift_lightning/methods/test_step.py \
        tests/gift_lightning/methods/test_moe_adapter.py tests/datamodules/test_input.py
    GOLDEN_DEVICE=$DEVICE stage golden 120 "$PYTHON" -m pytest -q -p no:cacheprovider -n 4 -k float64 \
        tests/golden/test_trajectories.py
}

rehearsal() {
    part rehearsal 90
    part generation 50
    part memory 40
    stage resume 70 "$PYTHON" -m benchmarks.resume --device "$DEVICE"
    for method in finetune gift; do
        stage "mini_$method" 130 "$PYTHON" -m gift_lightning fit --config "conf/mini/$method.yaml" \
            --config conf/trainer/bf16.yaml --trainer.accelerator "$DEVICE" --run.root "$RUNS"
    done
}

case $SCRIPT in
    speed | rehearsal) "$SCRIPT" ;;
    *) echo "There is no script '$SCRIPT': name speed or rehearsal."; exit 2 ;;
esac
