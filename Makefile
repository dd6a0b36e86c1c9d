# srdist: every target sets up .venv by itself; `make` prints the list.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# A worker a core: most of a test of processes is their start, which uses one core.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
SET ?= demo
IMAGES ?=
LR ?=
STAMP := .venv/.set-up

.PHONY: help
help: ## Print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.PHONY: setup
setup: $(STAMP) ## Make .venv with everything pinned in constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@echo "setting up .venv (a few minutes the first time)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	@touch $(STAMP)

.PHONY: check
check: setup ## Lint, format check, types, import order
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: test
test: setup ## Run the whole test suite, the slow part too
	$(PYTEST)

.PHONY: test-fast
test-fast: setup ## Run the test suite without its slow part
	$(PYTEST) -m 'not slow'

# `make shards` bare packs the demo set, and again only when its recipe changed.
.PHONY: shards
shards: setup ## Pack a set: SET=demo|celeba|folder|pairs|general|photos IMAGES=DIR [LR=DIR] [ALLOW_PARTIAL=1] [ARGS=...]
ifeq ($(SET),demo)
	@$(MAKE) --no-print-directory shards/demo/tiles
else
	@test -n "$(IMAGES)" || { echo "make shards SET=$(SET): give the folder of the images: IMAGES=DIR" >&2; exit 2; }
	$(BIN)/srdist pack shards/$(SET)/recipe.yaml --images "$(IMAGES)" $(if $(LR),--lr "$(LR)") --out shards/$(SET) $(if $(ALLOW_PARTIAL),--allow-partial) $(ARGS)
endif

shards/demo/manifest.json: shards/demo/recipe.yaml
	$(BIN)/srdist pack shards/demo/recipe.yaml --images "$$($(BIN)/python -c 'import skimage; print(*skimage.__path__)')/data" --out shards/demo $(ARGS)

# The demo's tiles as files, a folder a split: something to upscale and to look at.
shards/demo/tiles: shards/demo/manifest.json
	@rm -rf shards/demo/tiles shards/demo/.pack-tiles
	@for tar in shards/demo/*.tar; do \
		split=shards/demo/.pack-tiles/$$(basename "$${tar%-*}"); mkdir -p "$$split"; tar -xf "$$tar" -C "$$split"; \
	done
	@mv shards/demo/.pack-tiles shards/demo/tiles

# The whole way on the demo photos. Two ranks on any machine, since that is what it shows.
DEMO_RUN := runs/demo_x2
DEMO_ARGS :=
# Without --log_dir /dev/null torch's launcher leaves a folder torchelastic_* in the temporary directory each time.
LAUNCH := ACCELERATE_USE_CPU=true $(BIN)/accelerate launch --config_file launch/cpu2.yaml --log_dir /dev/null

.PHONY: demo
demo: setup shards ## Pack, train on two ranks, evaluate, upscale a directory, draw a comparison
	@echo "== training (one to three minutes on two cores; run it again and it goes on where it stood)"
	$(LAUNCH) srdist/train.py --config configs/demo_x2.yaml --run $(DEMO_RUN) $(DEMO_ARGS)
	@echo "== evaluating on the demo's test tiles"
	$(BIN)/srdist evaluate --weights $(DEMO_RUN) --hr shards/demo --split test
	@echo "== upscaling a directory on two ranks"
	$(LAUNCH) -m srdist upscale shards/demo/tiles/test $(DEMO_RUN)/upscaled --weights $(DEMO_RUN)
	@echo "== comparing"
	$(BIN)/srdist compare shards/demo/tiles/test/chelsea_273_000.jpg --weights $(DEMO_RUN) --out $(DEMO_RUN)/compare.png
	$(BIN)/srdist report $(DEMO_RUN)
	@echo
	@echo "the network      $(DEMO_RUN)/best.safetensors"
	@echo "its metrics      $(DEMO_RUN)/metrics.jsonl, W&B offline in $(DEMO_RUN)/wandb"
	@echo "sample grids     $(DEMO_RUN)/samples/"
	@echo "upscaled images  $(DEMO_RUN)/upscaled/"
	@echo "the report       $(DEMO_RUN)/report.html"
	@echo "the comparison   $(DEMO_RUN)/compare.png"

# Results are dated files; each table is also `python -m benchmarks.NAME [--quick] [--json FILE]`.
TODAY := $(shell date +%Y-%m-%d)
BENCH ?= order loader correctness train_step scaling upscale survival

.PHONY: bench
bench: setup shards ## Measure: BENCH="loader upscale ..." ARGS=--quick; into benchmarks/results/
	$(foreach name,$(BENCH),$(BIN)/python -m benchmarks.$(name) $(ARGS) --json benchmarks/results/$(TODAY)-$(name).json;)

.PHONY: gpu-kit
gpu-kit: setup ## Make dist/gpu-kit.tar.gz, which runs benchmarks.gpu on a GPU machine without a network: ARGS=--help
	$(BIN)/python -m benchmarks.gpukit $(ARGS)

# Needs the set that the config names (make shards SET=general IMAGES=DIR) and the test sets in DATA.
NET ?= srcnn_x2
DATA ?=
REPRODUCED := runs/reproduce/$(NET)
.PHONY: reproduce
reproduce: setup ## Retrain bundled weights and compare: NET=srcnn_x2 DATA=DIR (with Set5 and Set14)
	@test -n "$(DATA)" || { echo "make reproduce: give the folder with Set5 and Set14: DATA=DIR" >&2; exit 2; }
	$(BIN)/accelerate launch srdist/train.py --config configs/$(NET).yaml --run $(REPRODUCED)/run
	mkdir -p $(REPRODUCED)/bundled $(REPRODUCED)/retrained
	cp srdist/weights/$(NET).safetensors $(REPRODUCED)/bundled/
	cp $(REPRODUCED)/run/best.safetensors $(REPRODUCED)/retrained/$(NET).safetensors
	@echo "== bundled"
	$(BIN)/python -m benchmarks.weights --data "$(DATA)" --weights $(REPRODUCED)/bundled
	@echo "== retrained"
	$(BIN)/python -m benchmarks.weights --data "$(DATA)" --weights $(REPRODUCED)/retrained
	@cmp $(REPRODUCED)/bundled/$(NET).safetensors $(REPRODUCED)/retrained/$(NET).safetensors \
		&& echo "the same bytes" || echo "other bytes: expected with another number of ranks or threads, or another torch"

.PHONY: pareto
pareto: setup ## Write docs/pareto.md and its pictures: how good for how much work are the bundled weights: DATA=DIR
	@test -n "$(DATA)" || { echo "make pareto: give the folder with Set5 and Set14: DATA=DIR" >&2; exit 2; }
	$(BIN)/python -m benchmarks.weights --data "$(DATA)" --pareto docs

.PHONY: docs
docs: setup ## Build the docs site into dist/site; a warning or a link that leads nowhere fails
	$(BIN)/python -m docsite

.PHONY: pictures
pictures: setup ## Draw the pictures of README and the docs with the bundled weights
	$(BIN)/python -m docsite.pictures
	@mkdir -p runs
	$(BIN)/python -c "from skimage import data; from PIL import Image; Image.fromarray(data.astronaut()).save('runs/astronaut.png')"
	$(BIN)/srdist compare runs/astronaut.png --weights srcnn_x3 --out docs/pictures/compare_x3.png
	$(BIN)/srdist compare runs/astronaut.png --methods nearest,bilinear,bicubic,lanczos,srcnn_x2 --out docs/pictures/methods_x2.png

# runs/ may hold days of training: that has a target of its own, which asks.
.PHONY: clean
clean: ## Remove caches and the packed demo set, not .venv, not runs/, no other set
	rm -rf shards/demo/tiles shards/demo/*.tar shards/demo/manifest.json shards/demo/index shards/demo/left_out.jsonl
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.PHONY: clean-runs
clean-runs: ## Remove runs/, with all networks trained here: asks first
	@if [ ! -d runs ]; then echo "there is no runs/"; exit; fi; \
	du -sh runs/*; read -r -p "Remove runs/ for good? Type yes: " answer || true; \
	if [ "$$answer" != yes ]; then echo "runs/ is kept"; exit 1; fi; \
	rm -rf runs
