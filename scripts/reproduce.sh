#!/usr/bin/env bash
# Train the models of checkpoints/README.md on a folder of videos, choose and evaluate them on a DAVIS folder, draw curves:
#     bash scripts/reproduce.sh VIDEOS DAVIS RESULTS [PYTHON]
# VIDEOS holds VIDEO/00000.jpg …; DAVIS is in the layout of DAVIS-2016 (YEAR=2017 for the other). Interrupted, the same
# command continues. The environment may change STEPS, those of the plain model that all others start from; MORE and TAIL,
# those of the others; LONG, twice those of a last model that is trained longer; EVERY, of so many videos one is held out;
# FLAGS of every training and its measuring (--amp; --tf32), TRAINING, flags of training alone (--bsize 12), EVALUATION,
# flags of every evaluation (--amp).
set -euo pipefail
if (($# < 3)); then
    echo "error: needs VIDEOS DAVIS RESULTS, three folders" >&2
    exit 2
fi
videos=$(realpath "$1") davis=$(realpath "$2") results=$(realpath -m "$3") python=${4:-python}
[[ $python != */* ]] || python=$(realpath -s "$python")
cd "$(dirname "$0")/.."
steps=${STEPS:-1400} more=${MORE:-60} tail=${TAIL:-100} long=${LONG:-320} year=${YEAR:-2016}
every=${EVERY:-10} flags=${FLAGS---amp}
mkdir -p "$results/evaluation"

# index NAME OPTION: the videos to train on, or those held out
index() { "$python" scripts/index_videos.py "$videos" "$2" $every > "$results/$1.csv"; }
index train --without_every
index held --only_every

# train NAME OPTION...: one training, and its loss on the videos held out
train() {
    "$python" train.py --datapath "$videos" --csvpath "$results/train.csv" --savepath "$results/$1" \
        --lr 5e-4 --bsize 4 --epochs 1000000 "${@:2}" $flags ${TRAINING:-}
    [ -e "$results/$1/held_out.json" ] || "$python" scripts/measure_reconstruction.py "$results/$1"/checkpoint_*.pt \
        --datapath "$videos" --csvpath "$results/held.csv" $flags --json "$results/$1/held_out.json"
}
full=$((more + tail))
train base --steps "$steps"
train ape --cosine $full --pretrain "$results/base/last.pt"
train compact --cosine $full --pretrain "$results/base/last.pt" --semantic --compact
train regions --steps "$more" --pretrain "$results/base/last.pt" --semantic
train intervideo --cosine "$tail" --pretrain "$results/regions/last.pt" --usemomen --factor 20
train both --cosine "$tail" --pretrain "$results/regions/last.pt" --usemomen --factor 20 --compact
train long_regions --steps "$long" --pretrain "$results/base/last.pt" --semantic
train long --cosine "$long" --pretrain "$results/long_regions/last.pt" --usemomen --factor 20 --compact

# evaluate NAME OPTION...: one evaluation
evaluate() {
    "$python" evaluate_davis.py --datapath "$davis" --year "$year" --savepath "$results/evaluation/$1" "${@:2}"
}
# rival NAME: the masks of a method without training, and their scores
rival() {
    [ -e "$results/evaluation/$1/results.json" ] || "$python" benchmarks/baselines.py "$1" --datapath "$davis" --year "$year" --savepath "$results/$1"
    evaluate "$1" --predictions "$results/$1"
}
for name in copy flow colour untrained; do rival $name; done
evaluate ape --resume "$results/ape/last.pt" ${EVALUATION:-}
evaluate compact --resume "$results/compact/last.pt" --compact ${EVALUATION:-}
evaluate intervideo --resume "$results/intervideo/last.pt" --usemomen ${EVALUATION:-}
evaluate both --resume "$results/both/last.pt" --usemomen --compact ${EVALUATION:-}
evaluate long --resume "$results/long/last.pt" --usemomen --compact ${EVALUATION:-}
rows=(copy flow colour untrained ape compact intervideo both long)
"$python" scripts/results_table.py "${rows[@]/#/$results/evaluation/}"
"$python" scripts/draw_curves.py "$results"/{base,ape,compact,intervideo,both,long_regions,long} --output "$results/curves.png"
