# The address that `make serve` listens on and the models it serves, as in `make serve PORT=8080`.
HOST ?= 127.0.0.1
PORT ?= 3000
MODELS ?= models

PYTHON = .venv/bin/python
# Where requirements/install.sh puts uv if there is none.
export PATH := $(PATH):$(CURDIR)/.uv/bin
COMPILE = uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --annotation-style line --custom-compile-command "make lock"

.PHONY: help serve test lint types audit format lock install-serve install-train install-dev

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s%s\n", $$1, $$2 }' Makefile

serve: install-serve ## serve MODELS (models) on HOST:PORT (127.0.0.1:3000), installing what it takes first
	@exec $(PYTHON) -m serving serve --host $(HOST) --port $(PORT) --models $(MODELS)

test: install-dev ## install everything and run the tests
	@exec $(PYTHON) -m pytest

bench: install-dev ## hold the server's speed against other servers' (needs wrk; 10 minutes)
	@exec $(PYTHON) -m benchmarks.serving --picture docs/pictures/serving-speed.png

lint: install-dev ## check style and format
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .

types: install-dev ## check types
	@exec $(PYTHON) -m pyright

audit: install-dev ## ask an advisory service about all that serving installs, and say so where none answers
	@exec $(PYTHON) requirements/audit.py

format: install-dev ## mend what `make lint` can mend
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

install-serve: ## install into .venv what serving needs (no torch)
install-train: ## install into .venv what training needs
install-dev: ## install into .venv everything
install-serve install-train install-dev: install-%:
	@requirements/install.sh $*

lock: ## resolve requirements/*.txt anew, keeping versions that still fit (delete dev.txt first for the newest)
	$(COMPILE) --extra dev --output-file requirements/dev.txt
	$(COMPILE) --extra serve --extra client --constraint requirements/dev.txt --output-file requirements/serve.txt
	$(COMPILE) --extra train --constraint requirements/dev.txt --output-file requirements/train.txt
