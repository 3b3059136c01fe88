# Every target sets up what it needs: a virtual environment in .venv and, for the demo, its downloads in .cache.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/pytest -n 2 --dist worksteal
# Of test-pythons.
PYTHONS := 3.10 3.12 3.13
DEMO := runs/demo
FULL := runs/demo-full
REVIEWS := .cache/reviews
MINILM := .cache/all-MiniLM-L6-v2
MPNET := .cache/all-mpnet-base-v2
SMOLLM := .cache/SmolLM2-135M-Instruct
TEXT := .cache/django-docs
# From bench-frontier STUDY=minilm-sst2; any two runs of MiniLM on one task will do.
UNPRUNED := runs/frontier/minilm-sst2/unpruned-0
# For bench-speed; the study trained seeds 0 and 2.
SEED := 0
STRAIGHT := runs/frontier/minilm-sst2/gates-40-0
PRUNED := $(STRAIGHT)/levels/0.40
SMALL := .cache/paraphrase-MiniLM-L3-v2
CLIENTS := .cache/clients
TENSORRT := .cache/tensorrt
TRITON := .cache/triton
WEB := .cache/web
SERVING := .cache/serving
DOCS := .cache/docs
SERVED := runs/serving
CLIENT_FILES := $(wildcard tests/clients/requirements/*.txt)
CLIENTS_READY := $(CLIENT_FILES:tests/clients/requirements/%.txt=$(CLIENTS)/%/.ready)
PEERS := .cache/peers
PEER_FILES := $(wildcard benchmarks/peers/requirements/*.txt)
PEERS_READY := $(PEER_FILES:benchmarks/peers/requirements/%.txt=$(PEERS)/%/.ready)
NODE_READY := $(if $(shell command -v npm),$(CLIENTS)/node/.ready)

.DEFAULT_GOAL := help
.PHONY: bench-quick bench-speed help setup demo demo-full test test-fast test-all test-pythons test-processors test-versions test-patterns test-clients test-tensorrt test-triton test-web test-serving lint format bench-chains bench-frontier bench-curves bench-language bench-matrix bench-layers bench-norms bench-buckets bench-runtime bench-long-texts bench-product bench-epoch bench-bert-base bench-gpu bench-walk bench-smaller goals bench-rates bench-peers bench-step bench-many bench-web bench-serving bench-serving-facts bench-decoders docs clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	touch $@

setup: $(READY) ## Create the virtual environment

demo: $(READY) ## Train, export, verify, measure and run a real model (under 10 minutes)
	$(BIN)/python benchmarks/demo/fetch.py --model $(MINILM) --reviews $(REVIEWS)
	$(BIN)/finegates-train --config trainer/recipes/demo.yaml --base $(MINILM) --data $(REVIEWS) --out $(DEMO) --overwrite
	$(BIN)/finegates-export --ckpt $(DEMO) --out exports/demo/ --quantize int8 --overwrite
	$(BIN)/finegates-bench --ckpt $(DEMO) --eval-data $(REVIEWS)/test.tsv --shapes 1x32,8x128 --out runs/demo-report/ --overwrite
	$(BIN)/python benchmarks/demo/classify.py --bundle exports/demo/ --rows $(REVIEWS)/test.tsv --count 3

demo-full: $(READY) ## The demo on all rows with three seeds, against unpruned models trained equally long
	$(BIN)/python benchmarks/demo/fetch.py --model $(MINILM) --reviews $(REVIEWS)
	$(BIN)/python benchmarks/demo/seeds.py --base $(MINILM) --data $(REVIEWS) --config trainer/recipes/demo-full.yaml \
		--seeds 0,1,2 --work $(FULL) --out benchmarks/results/demo-full

bench-quick: $(READY) ## A report on a small random model, without training or download (under 3 minutes)
	$(BIN)/python benchmarks/quick.py --out runs/quick-report

bench-chains: $(READY) ## The chain of checks on the real weights of MPNet and MiniLM (downloads 490 MB)
	$(BIN)/python benchmarks/demo/fetch.py --model $(MINILM) --reviews $(REVIEWS) --mpnet $(MPNET)
	$(BIN)/python benchmarks/real_weights.py --bases $(MINILM) $(MPNET) --sentences $(REVIEWS)/test.tsv \
		--out benchmarks/results/chains

bench-step: $(READY) ## Time and memory that gates add to a training step
	$(BIN)/python benchmarks/step_cost.py --work runs/step-cost --out benchmarks/results/step-cost

bench-frontier: $(READY) ## Accuracy against removed share: STUDY=minilm-sst2 DATA=folder with rows (hours)
	$(BIN)/python benchmarks/demo/fetch.py --model $(MINILM) --reviews $(REVIEWS) --mpnet $(MPNET) --small $(SMALL)
	$(BIN)/python benchmarks/frontier/study.py benchmarks/frontier/$(STUDY).yaml --data $(DATA) \
		--base minilm=$(MINILM) --base mpnet=$(MPNET) --base small=$(SMALL) \
		--work runs/frontier/$(patsubst %-ablation,%,$(STUDY:%-speed=%)) --out benchmarks/results/frontier/$(STUDY)

bench-curves: $(READY) ## The paper's figure 2 from the reports of bench-frontier
	$(BIN)/python benchmarks/frontier/curves.py --results benchmarks/results/frontier --out benchmarks/results/frontier/curves

bench-speed: $(READY) ## Requested speed-ups against those of exported models: DATA=folder with rows SEED=0 (two hours on an idle machine)
	$(MAKE) bench-frontier STUDY=minilm-sst2-speed DATA=$(DATA)
	$(BIN)/finegates-bench --ckpt runs/frontier/minilm-sst2/speed-$(SEED) \
		--baseline runs/frontier/minilm-sst2/unpruned-$(SEED) --against runs/frontier/minilm-sst2/small-$(SEED) \
		--shapes 8x128 --threads 2 --processes 30 --seconds 600 \
		--out benchmarks/results/speeds$(SEED:0=) --overwrite

bench-language: $(READY) ## Perplexity against removed share: SmolLM2-135M on Django's documentation (over an hour on one core)
	$(BIN)/python benchmarks/demo/language_model.py --model $(SMOLLM)
	$(BIN)/python benchmarks/decoders/corpus.py --out $(TEXT)
	$(BIN)/python benchmarks/frontier/study.py benchmarks/frontier/smollm2-text.yaml --data $(dir $(TEXT)) \
		--base smollm2=$(SMOLLM) --work runs/frontier/smollm2-text --out benchmarks/results/frontier/smollm2-text

bench-matrix: $(READY) ## Latency of the matrix layout on a random-weight BERT of 12 x 768
	$(BIN)/python benchmarks/matrix_layout.py --work runs/matrix-layout --out benchmarks/results/matrix-layout

bench-layers: $(READY) ## Costs of layers, and how well their sum predicts whole models
	$(BIN)/python benchmarks/layer_costs.py --work runs/layer-costs --out benchmarks/results/layer-costs

bench-norms: $(READY) ## A residual sum and its norm: one fused operator against two
	$(BIN)/python benchmarks/norms.py --out benchmarks/results/norms

bench-buckets: $(READY) ## Texts of all lengths through the demo's bundle: in given order, sorted, in buckets
	$(BIN)/python benchmarks/demo/fetch.py --model $(MINILM) --reviews $(REVIEWS)
	$(BIN)/python benchmarks/sequence_buckets.py --bundle exports/demo/ --rows $(REVIEWS)/test.tsv \
		--out benchmarks/results/sequence-buckets

bench-runtime: $(READY) ## The runtime's start-up, and predict against hand-written code, on bench-frontier minilm-sst2 at 40 %
	$(BIN)/finegates-export --ckpt $(PRUNED) --out exports/minilm-040/ --overwrite
	$(BIN)/python benchmarks/runtime_start.py --bundle exports/minilm-040/ --rows $(REVIEWS)/test.tsv \
		--out benchmarks/results/runtime-start

bench-long-texts: $(READY) ## What predict takes of memory for ten million characters (a minute)
	$(BIN)/python benchmarks/long_texts.py --out benchmarks/results/long-texts

bench-product: $(READY) ## Products over only the open dims against full ones (paper, figure 3)
	$(BIN)/python benchmarks/gated_product.py --out benchmarks/results/gated-product

bench-epoch: $(READY) ## A validation epoch of MiniLM on the reviews over removed shares (paper, figure 3)
	$(BIN)/python benchmarks/demo/fetch.py --model $(MINILM) --reviews $(REVIEWS)
	$(BIN)/python benchmarks/epoch_time.py --base $(MINILM) --data $(REVIEWS)/test.tsv \
		--out benchmarks/results/epoch-time

bench-many: $(READY) ## Three runs exported together and separately: seconds and memory
	$(BIN)/python benchmarks/many_runs.py --work runs/many-runs --out benchmarks/results/many-runs

bench-web: $(READY) $(WEB)/.ready ## Pruned and unpruned MiniLM of bench-frontier minilm-sst2 in headless Chromium
	$(BIN)/finegates-export --ckpt $(PRUNED) --baseline $(UNPRUNED) \
		--base $(MINILM) --target web --web-libraries $(WEB)/node_modules --out runs/web --overwrite
	$(BIN)/python benchmarks/web.py --site runs/web --modules $(WEB) --out benchmarks/results/web

bench-serving: $(READY) ## A served bundle under load, pruned against unpruned: DATA=TSV of sentences (14 minutes)
	$(BIN)/finegates-export --ckpt $(PRUNED) --base $(MINILM) --out $(SERVED)/pruned --overwrite
	$(BIN)/finegates-export --ckpt $(UNPRUNED) --base $(MINILM) --out $(SERVED)/unpruned --overwrite
	$(BIN)/python benchmarks/serving.py --pruned $(SERVED)/pruned --unpruned $(SERVED)/unpruned --rows $(DATA) \
		--out benchmarks/results/serving

bench-serving-facts: $(READY) ## Start, memory, open ports of a server of MiniLM's shape, and 200 killed workers (8 minutes)
	$(BIN)/python benchmarks/serving_facts.py --bundle $(SERVED)/shape/pruned --make --out benchmarks/results/serving-facts
	$(BIN)/python benchmarks/serving_guests.py --bundle $(SERVED)/shape/pruned --out benchmarks/results/serving-guests.md

bench-decoders: $(READY) ## A small language model pruned and quantized: tokens a second (downloads 93 MB; 25 minutes)
	$(BIN)/python benchmarks/demo/language_model.py --model $(SMOLLM)
	$(BIN)/python benchmarks/decoders/run.py --base $(SMOLLM) --work runs/decoders --out benchmarks/results/decoders

bench-bert-base: $(READY) ## Latency of random-weight BERTs of 12 x 768 and 6 x 384 across removed shares
	$(BIN)/python benchmarks/bert_base.py --sizes 12x768 --work runs/bert-base --out benchmarks/results/bert-base
	$(BIN)/python benchmarks/bert_base.py --sizes 6x384 --work runs/bert-small --out benchmarks/results/bert-small

bench-gpu: $(READY) ## On a machine with an NVIDIA GPU: a BERT of 12 x 768 by CUDA and by TensorRT, batches of 1 to 128
	for way in ort-cuda:cuda tensorrt:tensorrt; do \
		$(BIN)/python benchmarks/bert_base.py --target $${way%:*} --provider $${way#*:} --removed 0.2,0.4,0.6,0.8 \
			--shapes 1x128,8x128,32x128,128x128 --work runs/bert-base --out benchmarks/results/gpu-$${way#*:} || exit 1; \
	done

bench-walk: $(READY) ## Latency and accuracy of the runs of bench-frontier STUDY=minilm-sst2: the walk's levels, straight to 40 and 80 %
	$(BIN)/finegates-bench --ckpt runs/frontier/minilm-sst2/gates-0 --baseline $(UNPRUNED) \
		--shapes 1x32,1x128,8x128,16x64 --int8 --out benchmarks/results/minilm-walk --overwrite
	$(BIN)/finegates-bench --ckpt $(STRAIGHT) --baseline $(UNPRUNED) \
		--shapes 1x32,1x128,8x128 --int8 --out benchmarks/results/minilm-40 --overwrite
	$(BIN)/finegates-bench --ckpt runs/frontier/minilm-sst2/gates-80-1 --baseline runs/frontier/minilm-sst2/unpruned-1 \
		--against runs/frontier/minilm-sst2/small-1 --shapes 1x32,1x128,8x128 --int8 \
		--out benchmarks/results/minilm-80 --overwrite

bench-smaller: $(READY) ## MPNet with 88 % removed against the unpruned MiniLM-L6, from bench-frontier STUDY=mpnet-sst2 (on an idle machine)
	$(BIN)/finegates-bench --ckpt runs/frontier/mpnet-sst2/started-88-0 --baseline runs/frontier/mpnet-sst2/unpruned-0 \
		--against runs/frontier/mpnet-sst2/smaller-0 --shapes 1x32,8x128 \
		--processes 8 --seconds 60 --out benchmarks/results/mpnet-88 --overwrite

goals: $(READY) ## The goals of benchmarks/goals.yaml against the reports in benchmarks/results/
	$(BIN)/python benchmarks/goals.py

bench-rates: $(READY) ## GFLOP/s of those models' large products against the machine's best
	$(BIN)/python benchmarks/product_rates.py --run runs/bert-base/closed --run runs/bert-small/closed \
		--out benchmarks/results/product-rates

$(PEERS)/%/.ready: benchmarks/peers/requirements/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

bench-peers: $(READY) $(PEERS_READY) ## Other tools on the runs of bench-frontier minilm-sst2: DATA=folder with rows ONLY=selection OUT=report (3 GB)
	$(BIN)/python benchmarks/demo/fetch.py --model $(MINILM) --reviews $(REVIEWS) --small $(SMALL)
	$(BIN)/python benchmarks/peers/run.py --run $(UNPRUNED) --level $(PRUNED) \
		--base $(MINILM) --small $(SMALL) --data $(DATA)/sst2_sent --work runs/peers \
		--out benchmarks/results/$(or $(OUT),peers) $(if $(ONLY),--only $(ONLY))

test-fast: $(READY) ## What to run while working: no whole exports or trainings but one of a kind (4 minutes)
	$(PYTEST) --tier fast

test: lint ## What has to pass: ruff, mypy and the tests, of many alike a few (10 minutes)
	$(PYTEST) --tier default --durations=8

test-all: lint test-patterns ## Everything: all of many alike, every block of the documentation, every mutation, patterns that the logs lack (half an hour)
	$(PYTEST) --count-assertions --durations=8

test-pythons: $(READY) ## The wheel with the extra cpu alone, on each of PYTHONS that this machine has
	$(BIN)/python -m tests.pythons $(PYTHONS)

test-processors: $(READY) ## int8 on an emulated processor without VNNI (apt-get install qemu-user)
	$(BIN)/pytest -n 0 tests/export/test_processors.py

test-versions: $(READY) ## Decoders and encoders with the oldest and newest versions that pyproject.toml allows
	$(BIN)/python -m tests.versions oldest newest

test-patterns: $(READY) ## 2,000 random gate patterns through the export, and 500 for decoders; continues where the logs end
	$(BIN)/python -m tests.patterns.run --count 2000 --log tests/patterns/log.tsv --workers 2
	$(BIN)/python -m tests.patterns.run --count 500 --log tests/patterns/decoders.tsv --workers 2 --decoders

$(CLIENTS)/node/.ready: tests/clients/node/package.json
	mkdir -p $(@D)
	cp $< $(@D)
	cd $(@D) && ONNXRUNTIME_NODE_INSTALL=skip ONNXRUNTIME_NODE_INSTALL_CUDA=skip npm install --no-audit --no-fund
	touch $@

$(CLIENTS)/%/.ready: tests/clients/requirements/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

test-clients: $(READY) $(CLIENTS_READY) $(NODE_READY) ## Bundles in Optimum, sentence-transformers, OpenVINO, Node (2 GB)
	FINEGATES_CLIENTS_REQUIRED=1 $(BIN)/pytest tests/clients -v -s --timeout 600

lint: $(READY) ## Lint and type check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.tidy
	$(BIN)/mypy

format: $(READY) ## Format, and fix what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(TENSORRT)/.ready: tests/engines/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

test-tensorrt: $(READY) $(TENSORRT)/.ready ## Build every family with tensorrt-rtx for SM80 and SM89, without a GPU
	FINEGATES_TENSORRT_REQUIRED=1 $(BIN)/pytest tests/engines -n 2 --timeout 600

$(TRITON)/.ready: tests/triton/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

test-triton: $(READY) $(TRITON)/.ready ## Serve model repositories with a real tritonserver, over HTTP and gRPC (550 MB)
	FINEGATES_TRITON_REQUIRED=1 $(BIN)/pytest tests/triton --timeout 600

$(WEB)/.ready: tests/web/package.json
	mkdir -p $(@D)
	cp $< $(@D)
	cd $(@D) && ONNXRUNTIME_NODE_INSTALL=skip npm install --ignore-scripts --no-audit --no-fund
	touch $@

test-web: $(READY) $(WEB)/.ready ## Use the page of --target web in headless Chromium (npm, 500 MB)
	FINEGATES_WEB_REQUIRED=1 $(BIN)/pytest tests/web --timeout 900

$(SERVING)/.ready: tests/serving/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

test-serving: $(READY) $(SERVING)/.ready ## A served bundle: 2,000 random requests, and two Ray nodes, one of which stops
	FINEGATES_SERVING_REQUIRED=1 $(BIN)/pytest tests/serving -v --timeout 900

$(DOCS)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --disable-pip-version-check -e '.[docs]' -c constraints.txt
	touch $@

docs: $(DOCS)/.ready ## The documentation as a site, in .cache/site; fails on a dead link
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict --clean

clean: ## Remove runs, exports and caches, not the environment
	rm -rf runs exports/demo .cache .pytest_cache .mypy_cache .ruff_cache
