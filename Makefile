# make reproduce   the paper's experiments from recorded replies: of a simulated model, runs/demo/, and of real ones, runs/real/
# make real        the study with real models that run here; continues where it was stopped: runs/real/
#                  (MODEL=, COACH=: other models, or GGUF files; THREADS=1 beside other work)
# make test        lint, the tests (two at a time), and the committed notebooks against their saved outputs
# make lint        format, rules and types
# make size        lines of code by room
# make compat      the same against llama.cpp's server, which is built first (some ten minutes)
# make bench       how fast it is, beside its bounds and others: runs/bench/ (5 minutes; LONG=1: half an hour;
#                  PEERS=1: other libraries beside it, in an environment of their own)
# make docs        the documentation: build/docs/index.html
# make codecheck   codecheck.yml anew: figures and tables of runs/demo with their SHA-256
# make crate       runs/NAME as an RO-Crate, for an archive (NAME=demo)
# make recording, make notebooks, make lock   anew: the recording that ships, the saved outputs, the pinned versions
PYTHON ?= python3
BIN := .venv/bin

.PHONY: reproduce real pilot coaching test lint size compat bench docs codecheck crate recording notebooks lock clean
.DEFAULT_GOAL := reproduce

# The locks are complete: pip is to resolve nothing (it would stop at an extra, as of pydantic[email], of which there is a newer release).
.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "semback needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 …")'
	@echo "Installing the pinned packages into .venv (requirements.lock): once, some minutes."
	$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@$(BIN)/python -m compileall -q semback  # or each import would do it, where PYTHONDONTWRITEBYTECODE is set, as in many containers
	@touch $@

# First the simulated model, then real ones, all from recordings. Those of BBH itself are sealed, and replay where its questions are.
STUDIES = real $(shell $(BIN)/semback data verify | grep -q '^ok .*snarks' && echo real_bbh)
reproduce: .venv/ready .venv-peers/ready
	$(BIN)/semback run --name demo --again
	for study in $(STUDIES); do SEMBACK_CACHE_MODE=replay $(BIN)/semback run --study notebooks/$$study.toml --again || exit 1; done

THREADS ?= 2
real: .venv/ready .venv-peers/ready .venv-llama/ready
	for study in $(STUDIES); do $(BIN)/semback run --study notebooks/$$study.toml --local $(THREADS) --jobs 1 $(if $(MODEL),--model $(MODEL)) $(if $(COACH),--coach $(COACH)) || exit 1; done

# Before the study, on training questions only: is there headroom, and do coaches follow the prompts?
pilot coaching: .venv/ready .venv-llama/ready
	PYTHONPATH=tests $(BIN)/python -m benchmarks.$@ $(THREADS)

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --project pyproject.toml

size: .venv/ready
	$(BIN)/python tests/size.py

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile
	SEMBACK_CACHE_MODE=replay SEMBACK_PROGRESS=off $(BIN)/python -m pytest --nbval --override-ini filterwarnings=default notebooks

# Environments of their own: the libraries of other methods (peers), llama.cpp's server with two models, servers that tests talk to, libraries
# that talk to the proxy, and the peers of `make bench`. Tests that need one are skipped without it.
.venv-peers/ready: semback/baselines/peers.lock
.venv-llama/ready: semback/llm/llama.lock
.venv-litellm/ready: tests/litellm.lock
.venv-compat/ready: tests/compat/llama.lock
.venv-bench/ready: tests/benchmarks/peers/requirements.lock
.venv-docs/ready: docs/requirements.lock
.venv-langchain/ready: tests/proxy/langchain.lock
# Without its tests llama.cpp takes half as long to build.
.venv-llama/ready: export CMAKE_ARGS = -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF
.venv-llama/ready: export LLAMA_CPP_BUILD_JOBS = 2
.venv-litellm/ready .venv-langchain/ready .venv-peers/ready .venv-bench/ready .venv-docs/ready: BINARY = --only-binary :all:
.venv-litellm/ready .venv-langchain/ready .venv-compat/ready .venv-peers/ready .venv-bench/ready .venv-docs/ready .venv-llama/ready: .venv-%/ready:
	@echo "Installing $< into .venv-$*: once, some minutes."
	$(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps $(BINARY) --requirement $<
	@touch $@

compat: .venv/ready .venv-compat/ready
	$(BIN)/python -m pytest tests/compat

# Run it on a machine that does nothing else; SEMBACK_DATA_DIR gives it the real questions of GSM8K.
bench: .venv/ready $(if $(PEERS),.venv-bench/ready)
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(if $(LONG),--long) $(if $(PEERS),--peers)

docs: .venv-docs/ready
	.venv-docs/bin/sphinx-build --quiet --fail-on-warning --keep-going docs build/docs

codecheck: .venv/ready
	$(BIN)/python tests/codecheck.py

NAME ?= demo
crate: .venv/ready
	$(BIN)/python tests/crate.py $(NAME)

# The demo's recording, anew: what it asks of the simulated model. Run it after a change to prompts or simulation; notebook 01 also
# replays real replies, so record those first.
recording: .venv/ready .venv-peers/ready
	rm -rf build/cache build/demo && mkdir -p build/cache/recordings && cp cache/recordings/real.jsonl.zst build/cache/recordings
	SEMBACK_CACHE_DIR=build/cache $(BIN)/semback run --name demo --again
	SEMBACK_CACHE_DIR=build/cache $(BIN)/semback cache export build/all.jsonl
	grep '"model":"simulated' build/all.jsonl > build/simulated.jsonl
	SEMBACK_CACHE_DIR=build/demo $(BIN)/semback cache import build/simulated.jsonl
	SEMBACK_CACHE_DIR=build/demo $(BIN)/semback cache export cache/recordings/demo.jsonl.zst

# The committed notebooks, executed anew from recordings: their outputs are what `make test` compares with.
notebooks: .venv/ready
	SEMBACK_CACHE_MODE=replay SEMBACK_PROGRESS=off $(BIN)/jupyter nbconvert --log-level ERROR --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb
	cp runs/real/figures/gradients.png notebooks/gradients.png

# Left out of the locks: what trace-opt asks for and never imports, 700 MB.
lock: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --all-extras pyproject.toml --output-file requirements.lock
	for each in tests/litellm tests/proxy/langchain tests/compat/llama semback/llm/llama semback/baselines/peers tests/benchmarks/peers/requirements docs/requirements; do $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-package xgboost --no-emit-package nvidia-nccl-cu12 --no-emit-package nvidia-nccl-cu13 $$each.in --output-file $$each.lock || exit 1; done

clean:
	rm -rf .venv .venv-litellm .venv-langchain .venv-compat .venv-peers .venv-bench .venv-docs docs/notebooks runs build dist *.egg-info
