# make run, make test: each makes its own virtual environment first, and reuses it the next time.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-dev
# One more than cores: a test that waits for an app leaves its core to another.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
RUN_STAMP := $(VENV)/.installed
BENCHMARKS := predict boxes masks points outlines confidence memory association platform_tracking platform_start box_networks mask_networks point_networks

.PHONY: run demo test check bench train clean
.DEFAULT_GOAL := run

$(RUN_STAMP): requirements.txt | machine
	@echo "Installing what the apps need (once, about two minutes) ..."
	@sh .ci/install $(PYTHON) $(VENV) requirements.txt
	@touch $@

$(STAMP): dev_requirements.txt requirements.txt | machine
	@echo "Installing what the apps and their tests need (once, about two minutes) ..."
	@sh .ci/install $(PYTHON) $(VENV) dev_requirements.txt
	@touch $(RUN_STAMP) $@

.PHONY: machine
machine:
	@sh .ci/machine $(PYTHON)

run: $(RUN_STAMP)  ## make run [VIDEO=file] [PORT=8000] [DATA=data]
	@exec $(BIN)/python -m apps run $(if $(VIDEO),"$(VIDEO)") --port $(or $(PORT),8000) --data "$(or $(DATA),data)"

demo: $(RUN_STAMP)  ## make demo [VIDEO=file] [BOX=x1,y1,x2,y2] [OUT=dir]
	@$(BIN)/python -m apps demo $(if $(VIDEO),"$(VIDEO)") $(if $(BOX),--box $(BOX)) --out "$(or $(OUT),out/demo)"

# The page tests need a Chromium; where none can be had they skip, saying so.
.PHONY: chromium
chromium:
	@sh .ci/chromium

# Chromium comes beside the packages, and the checks, which take one core for a minute, beside the tests. Make says at the
# end whether either failed.
test:
	@$(MAKE) --no-print-directory --jobs=2 check tests

# Compiled modules are kept, whatever the environment says: the tests start a hundred processes that all load the same.
.PHONY: tests
tests: $(STAMP) chromium
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q

check: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pip check

bench: $(STAMP)
	@for b in $(BENCHMARKS); do echo "== $$b"; $(BIN)/python benchmarks/$$b.py || exit 1; done

train: $(STAMP)  ## make train [OF=boxes|points|masks] [STEPS=n] [SEED=n]: the suite's own weights, from nothing; stopped, it goes on where it was
	@$(BIN)/python -m training.$(or $(OF),boxes) --install $(if $(STEPS),--steps $(STEPS)) $(if $(SEED),--seed $(SEED))

clean:
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find apps benchmarks common tests -name __pycache__ -prune -exec rm -rf {} +
