# Every step of the project by name.  `make` alone prints this list.
#
# A file that exists is not made again: delete it, or its folder, to have it made from scratch.  Long steps continue
# where an interrupted run stopped.  Variables you can give, as in `make train NET=N RAW=stack.tif LABELS=labels.tif`:
#
#   RAW, LABELS     a stack and its labels (default: a synthetic volume)
#   LABELS_ARE      membrane or mitochondria (filled masks)
#   PATCH_OPTIONS   more options of pycaffe_tools.patches, such as --val-slices 6:8 --train 300000 --val 300000
#   DATA, RUNS      where the patch database and the models go
#   NET             a network of Table 1: N, N1 ... N7
#   BUDGET          what `make prune` prunes to instead, into RUNS/budget, such as "--global --target-time 4s"
#   DATASET, SCALE, EM, RESULTS   of the reproduction: epfl, epfl-hard or vnc; small, main or full; folder of the stacks (data/README.md)
#   TRAIN_OPTIONS, RETRAIN_OPTIONS, PRUNE_OPTIONS, SEGMENT_OPTIONS   more options of those steps

SYNTH          ?= data/synthetic
RAW            ?= $(SYNTH)/raw.tif
LABELS         ?= $(SYNTH)/membranes.tif
LABELS_ARE     ?= membrane
SYNTH_OPTIONS  ?= --slices 16 --size 512
PATCH_OPTIONS  ?=
DATA           ?= data/patches
RUNS           ?= runs
RESULTS        ?= results
# `make train` alone means N; pruning, retraining and segmenting are mostly asked for N7.
NET            ?= $(if $(filter train,$(MAKECMDGOALS)),N,N7)
BUDGET         ?=
CRITERION      ?= loss
TRAIN_OPTIONS  ?=
RETRAIN_OPTIONS ?=
PRUNE_OPTIONS  ?=
SEGMENT_OPTIONS ?=
INPUT          ?= $(RAW)
DATASET        ?= epfl
SCALE          ?= small
EM             ?= data/em
PYTEST_OPTIONS ?=

PYTHON := .caffe/bin/python
PYTHON3 ?= python3
ENV    := .caffe/stamp
TOOLS  := $(PYTHON) -m pycaffe_tools
# Two threads of OpenBLAS on two cores only get in each other's way at the size of a patch.
export OPENBLAS_NUM_THREADS ?= 1
COMMA := ,
PRUNED_NETS := N1 N2 N3 N4 N5 N6 N7

.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.PHONY: help env synth patches train prune prune-all retrain segment demo test test-slow test-nocaffe lint docs networks \
        bench-pruning bench-segment bench-scale bench-train clean reproduce report reproduce-data reproduce-train reproduce-prune \
        reproduce-retrain reproduce-segment reproduce-front reproduce-transfer front fuzz

help:  ## this list
	@sed -n 's/^#   \{0,1\}/  /p' Makefile | sed -n '1,10p'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-22s %s\n", $$1, $$2 }'

env:  ## real Caffe 1.0 and the Python packages into .caffe (no root needed)
	bash environment/setup.sh

# Written last, so an interrupted set-up is not taken for an environment.
$(ENV):
	bash environment/setup.sh

synth: $(SYNTH)/raw.tif  ## a synthetic EM volume with labels

$(SYNTH)/raw.tif: | $(ENV)
	$(TOOLS).synth $(SYNTH) $(SYNTH_OPTIONS)

patches: $(DATA)/patches.json  ## the patch database of RAW and LABELS

$(DATA)/patches.json: | $(ENV) $(filter $(SYNTH)/raw.tif,$(RAW))
	$(TOOLS).patches $(RAW) $(LABELS) $(DATA) --labels-are $(LABELS_ARE) $(PATCH_OPTIONS)

# Other criteria than the loss have folders of their own.
TAG := $(if $(filter loss,$(CRITERION)),,-$(CRITERION))

train: $(RUNS)/$(if $(filter N,$(NET)),N,$(NET)-scratch)/model.json  ## train N with Caffe (or NET=N7 from scratch)
prune: $(RUNS)/$(if $(BUDGET),budget,$(NET)$(TAG)-pruned)/model.json  ## prune N to NET=N7, or to a BUDGET, by training loss (CRITERION=apoz, l1, taylor, random)
retrain: $(RUNS)/$(NET)$(TAG)/model.json  ## retrain the pruned NET=N7
prune-all: $(PRUNED_NETS:%=$(RUNS)/%$(TAG)-pruned/model.json)  ## prune N to all networks of Table 1

$(RUNS)/N/model.json: | $(DATA)/patches.json
	$(TOOLS).train N --data $(DATA) --out $(RUNS)/N --resume $(TRAIN_OPTIONS)

$(RUNS)/%-scratch/model.json: | $(DATA)/patches.json
	$(TOOLS).train $* --data $(DATA) --out $(RUNS)/$*-scratch --resume $(TRAIN_OPTIONS)

$(PRUNED_NETS:%=$(RUNS)/%$(TAG)-pruned/model.json): $(RUNS)/%$(TAG)-pruned/model.json: | $(RUNS)/N/model.json
	$(TOOLS).prune $* --from $(RUNS)/N --data $(DATA) --out $(@D) --criterion $(CRITERION) $(PRUNE_OPTIONS)

# Asked for by BUDGET alone.
$(RUNS)/budget/model.json: | $(RUNS)/N/model.json
	$(TOOLS).prune --from $(RUNS)/N --data $(DATA) --out $(@D) --criterion $(CRITERION) $(BUDGET) $(PRUNE_OPTIONS)

$(PRUNED_NETS:%=$(RUNS)/%$(TAG)/model.json): $(RUNS)/%$(TAG)/model.json: | $(RUNS)/%$(TAG)-pruned/model.json
	$(TOOLS).train $* --data $(DATA) --weights $(RUNS)/$*$(TAG)-pruned --out $(@D) --resume $(RETRAIN_OPTIONS)

segment: $(RUNS)/$(NET)$(TAG)/probabilities.tif  ## segment INPUT (default: RAW) with NET

$(RUNS)/%/probabilities.tif: | $(RUNS)/%/model.json
	$(TOOLS).segment $(INPUT) -o $@ --model $(RUNS)/$* $(SEGMENT_OPTIONS)

demo: env  ## everything once, small, on a synthetic volume, with pictures in demo/
	@$(MAKE) --no-print-directory demo/overview.png SYNTH=demo/synthetic DATA=demo/patches RUNS=demo/runs NET=N7 \
	  RAW=demo/synthetic/raw.tif LABELS=demo/synthetic/membranes.tif SYNTH_OPTIONS="--slices 8 --size 384" \
	  PATCH_OPTIONS="--train 12000 --val 2000" TRAIN_OPTIONS="--max-iter 300" RETRAIN_OPTIONS="--max-iter 1000" \
	  PRUNE_OPTIONS="--batches 4 --batch-size 64" SEGMENT_OPTIONS="--slices 6:7"
	@echo "Look at demo/overview.png; the pictures of each step are beside it."

demo/overview.png: | $(RUNS)/N/probabilities.tif $(RUNS)/N7-pruned/probabilities.tif $(RUNS)/N7/probabilities.tif
	$(TOOLS).plots steps $(RUNS) --data $(DATA) --raw $(RAW) --labels $(LABELS) --slice 6 -o demo --force

test: env  ## the test suite and the examples in docstrings, on real Caffe
	$(PYTHON) -m pytest tests pycaffe_tools $(PYTEST_OPTIONS)

test-slow: env  ## the long tests as well
	$(PYTHON) -m pytest tests pycaffe_tools --slow $(PYTEST_OPTIONS)

# Virtual environments of the machine's own Python (PYTHON3); made again when their requirements change.
build/venv-%/stamp: environment/requirements-%.txt
	rm -rf $(@D)
	$(PYTHON3) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

test-nocaffe: build/venv-nocaffe/stamp  ## what needs no Caffe, under the machine's current Python
	$(<D)/bin/python -m pytest tests pycaffe_tools -m "not slurm" $(PYTEST_OPTIONS)

lint: build/venv-lint/stamp  ## ruff and mypy, pinned, under the machine's current Python
	$(<D)/bin/python -m ruff check .
	$(<D)/bin/python -m mypy

docs:  ## the picture in docs/architecture.md, from the imports
	$(PYTHON3) docs/draw_imports.py

fuzz: | $(ENV)  ## 2,000 damaged inputs and 200 kills against every command; the table goes to docs/campaign.md
	$(PYTHON) -m tests.fuzz.campaign --inputs 2000 --kills 200 -o docs/campaign.md $(FUZZ_OPTIONS)

networks: | $(ENV)  ## write prototxt/ and solvers/ from Table 1
	$(TOOLS).networks

bench-pruning: | $(ENV)  ## the fast ordering against a forward pass per candidate
	$(TOOLS).bench_pruning $(BENCH_OPTIONS)

bench-segment: | $(ENV)  ## dense segmentation against patch by patch (ENGINE=cuda: on a GPU)
	$(TOOLS).bench_segment $(if $(ENGINE),--ways patch$(COMMA)$(ENGINE)) $(BENCH_OPTIONS)

bench-scale: | $(ENV)  ## what 10 to 10,000 slices cost beside the network: time, bytes, memory, files
	$(TOOLS).bench_scale $(BENCH_OPTIONS)

bench-train: | $(ENV)  ## training with each kind of kernel of Caffe's BLAS
	$(TOOLS).bench_train $(BENCH_OPTIONS)

reproduce: reproduce-segment report  ## the paper's tables and figures on DATASET, from the stacks in EM, into results/

front: SCALE := main
front: reproduce-front report  ## ways to a small network at several budgets, on DATASET (hours)

REPRODUCE = $(TOOLS).reproduce $(DATASET) --scale $(SCALE) --runs $(RUNS) --em $(EM) --results $(RESULTS)
reproduce-data reproduce-train reproduce-prune reproduce-retrain reproduce-segment reproduce-front reproduce-transfer: reproduce-%: | $(ENV)
	$(REPRODUCE) --stage $*

report: | $(ENV)  ## results/*/report.html and report.md, and the models' cards, from the logs of the reproduction
	$(TOOLS).report $(patsubst %/logs,%,$(wildcard $(RESULTS)/*/logs))
	$(if $(wildcard $(RESULTS)/vnc/logs),$(TOOLS).cards $(RESULTS)/vnc)

clean:  ## remove the demo and build outputs, not the environment, data or runs
	rm -rf demo build .pytest_cache
