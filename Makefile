# The address that `make serve` listens on and the models it serves, as in `make serve PORT=8080`.
HOST ?= 127.0.0.1
PORT ?= 3000
MODELS ?= models
# The image's name and variant (serve, cuda or bulk), as in `make image LOCK=bulk`; CUDA=1 is LOCK=cuda.
IMAGE ?= ganymede
LOCK ?= $(if $(CUDA),cuda,serve)
# An older revision for `make bench` to measure too, as in `make bench AGAINST=e641b93`; none by default.
AGAINST ?=

PYTHON = .venv/bin/python
# Where requirements/install.sh puts uv if there is none.
export PATH := $(PATH):$(CURDIR)/.uv/bin
COMPILE = uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --annotation-style line --custom-compile-command "make lock"

.PHONY: help serve image test-image test test-slow test-all bench gpu lint types audit format docs docs-check lock install-serve install-train install-dev

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s%s\n", $$1, $$2 }' Makefile

serve: install-serve ## serve MODELS (models) on HOST:PORT (127.0.0.1:3000), installing what it takes first
	@exec $(PYTHON) -m serving serve --host $(HOST) --port $(PORT) --models $(MODELS)

image: install-serve ## build the container image IMAGE, with CUDA's libraries where CUDA=1 (needs podman or docker)
	@IMAGE=$(IMAGE) deploy/image.sh $(LOCK)

test-image: install-dev ## run the image's own tests, and those of the API and the client against it (needs podman)
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

gpu: ## use a CUDA machine for MINUTES (15): CUDA tests, serving, recipes; writes into OUT (gpu)
	@exec $(if $(wildcard $(PYTHON)),$(PYTHON),python3) -m benchmarks.gpu $(or $(OUT),gpu) --minutes $(or $(MINUTES),15)

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

docs: install-dev ## write what is generated: the table of settings, openapi.json, and BentoML's schema.json
	@$(PYTHON) -m deploy.settings_table
	@$(PYTHON) -m serving openapi > docs/openapi.json
	@$(PYTHON) -c "import json; from serving.api.service import Ganymede; print(json.dumps(Ganymede.schema(), indent=1))" \
		> serving/api/web/schema.json

docs-check: install-dev ## check that links resolve, commands of the README run and generated files are current
	@exec $(PYTHON) -m pytest -q tests/test_docs.py tests/test_readme.py tests/deploy/test_deployment_page.py \
		tests/serving/api/test_openapi.py

lock: ## resolve requirements/*.txt anew, keeping versions that still fit (delete dev.txt first for the newest)
	$(COMPILE) --extra dev --output-file requirements/dev.txt
	$(COMPILE) --extra serve --extra client --extra tracing --constraint requirements/dev.txt --output-file requirements/serve.txt
	$(COMPILE) --extra serve --extra client --extra cluster --extra tracing --constraint requirements/dev.txt --output-file requirements/bulk.txt
	$(COMPILE) --extra serve --extra client --extra tracing --extra cuda --constraint requirements/serve.txt --output-file requirements/cuda.txt
	$(COMPILE) --extra sbom --constraint requirements/dev.txt --output-file requirements/sbom.txt
	$(COMPILE) --extra train --constraint requirements/dev.txt --output-file requirements/train.txt
