# Address and model repository of `make serve`, as in `make serve PORT=8080`.
HOST ?= 127.0.0.1
PORT ?= 3000
MODELS ?= models
# Name and variant (serve, cuda or bulk) of the image, as in `make image LOCK=bulk`. CUDA=1 is the same as LOCK=cuda.
IMAGE ?= ganymede
LOCK ?= $(if $(CUDA),cuda,serve)
# Older revision that `make bench` also measures, as in `make bench AGAINST=e641b93`; none by default.
AGAINST ?=

PYTHON = .venv/bin/python
# requirements/install.sh installs uv there if it is missing.
export PATH := $(PATH):$(CURDIR)/.uv/bin
COMPILE = uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --annotation-style line --custom-compile-command "make lock"

.PHONY: help serve image test-image test test-slow test-all bench gpu lint types audit format docs docs-check lock install-serve install-train install-dev

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s%s\n", $$1, $$2 }' Makefile

serve: install-serve ## serve MODELS (models) on HOST:PORT (127.0.0.1:3000); installs its packages first
	@exec $(PYTHON) -m serving serve --host $(HOST) --port $(PORT) --models $(MODELS)

image: install-serve ## build the container image IMAGE, with CUDA libraries if CUDA=1 (needs podman or docker)
	@IMAGE=$(IMAGE) deploy/image.sh $(LOCK)

test-image: install-dev ## run the tests of the image, and the tests of the API and the client against it (needs podman)
	@GANYMEDE_IMAGE=$(IMAGE) exec $(PYTHON) -m pytest tests/deploy/test_image.py tests/serving/client/test_client.py \
		tests/serving/client/test_streams.py $(addprefix tests/serving/api/,endpoints/test_addresses.py endpoints/test_images.py \
		http/test_problems.py http/test_formats.py http/test_validation.py test_openapi.py web)

# A process for each core, in which the tests of a file stay together, for they share servers. The slow tests are those
# marked so, and the serial ones, which measure time or load and run alone (pyproject.toml has the markers).
PARALLEL = --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: install-dev ## install everything and run the tests, without the slow ones
	@exec $(PYTHON) -m pytest $(PARALLEL) -m "not slow and not serial"

test-slow: install-dev ## run the slow tests: faults, load, deployment and the phone's screen
	@$(PYTHON) -m pytest $(PARALLEL) -m "slow and not serial"
	@$(PYTHON) -m pytest -m serial

test-all: test test-slow ## run all tests but the image's

bench: install-dev ## measure serving against other servers and the revision AGAINST (needs wrk; 10 minutes)
	@exec $(PYTHON) -m benchmarks.serving $(if $(AGAINST),--against $(AGAINST)) --chart docs/pictures/serving-speed.png

gpu: ## run CUDA tests, the serving benchmark and recipes for MINUTES (15) on a CUDA machine; writes into OUT (gpu)
	@exec $(if $(wildcard $(PYTHON)),$(PYTHON),python3) -m benchmarks.gpu $(or $(OUT),gpu) --minutes $(or $(MINUTES),15)

# Where spelling and the words of docs/glossary.txt are checked.
WORDS = README.md CONTRIBUTING.md docs benchmarks deploy serving/engine serving/bulk

lint: install-dev ## check style and format
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@.venv/bin/codespell --dictionary - --dictionary docs/glossary.txt $(WORDS)

types: install-dev ## check types
	@exec $(PYTHON) -m pyright

audit: install-dev ## look up the packages of serving in an advisory service; fails if it does not respond
	@exec $(PYTHON) requirements/audit.py

format: install-dev ## apply the automatic fixes of `make lint`
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

install-serve: ## install the packages for serving into .venv (no torch)
install-train: ## install the packages for training into .venv
install-dev: ## install all packages into .venv
install-serve install-train install-dev: install-%:
	@requirements/install.sh $*

docs: install-dev ## regenerate the table of settings, openapi.json and BentoML's schema.json
	@$(PYTHON) -m deploy.settings_table
	@$(PYTHON) -m serving openapi > docs/openapi.json
	@$(PYTHON) -c "import json; from serving.api.service import Ganymede; print(json.dumps(Ganymede.schema(), indent=1))" \
		> serving/api/web/schema.json

docs-check: install-dev ## check that links resolve, README commands run, and generated files are current
	@exec $(PYTHON) -m pytest -q tests/test_docs.py tests/test_readme.py tests/deploy/test_deployment_page.py \
		tests/serving/api/test_openapi.py

lock: ## regenerate requirements/*.txt and keep versions that still fit (delete dev.txt first for the newest)
	$(COMPILE) --extra dev --output-file requirements/dev.txt
	$(COMPILE) --extra serve --extra client --extra tracing --constraint requirements/dev.txt --output-file requirements/serve.txt
	$(COMPILE) --extra serve --extra client --extra cluster --extra tracing --constraint requirements/dev.txt --output-file requirements/bulk.txt
	$(COMPILE) --extra serve --extra client --extra tracing --extra cuda --constraint requirements/serve.txt --output-file requirements/cuda.txt
	$(COMPILE) --extra sbom --constraint requirements/dev.txt --output-file requirements/sbom.txt
	$(COMPILE) --extra train --constraint requirements/dev.txt --output-file requirements/train.txt
