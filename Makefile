# One environment in .venv; TORCH picks the torch build (default: the pinned version, CPU build where the index has one).
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
BIN    := $(VENV)/bin

.PHONY: demo test check check-page wheel sbom docs bench chaos fuzz clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "luthier needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q "$(TORCH)" -c constraints.txt
	$(BIN)/pip install -q -e ".[dev]" -c constraints.txt
	touch $@

demo: $(VENV)/.installed
	$(BIN)/luthier demo

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) -s check-page

# The page's scripts need node, which pip cannot bring: without it this says so and goes on.
check-page:
	@if command -v npm >/dev/null; then $(MAKE) -s node_modules/.installed && npm run -s check; \
	else echo "npm is absent: the scripts of the page are not checked"; fi

node_modules/.installed: package.json package-lock.json
	npm ci --omit=optional --no-audit --no-fund --silent
	touch $@

# The older OpenAI client stands beside the current one: both speak to the service in the tests.
OLDER := $(VENV)/openai-1.109

$(OLDER)/openai/__init__.py: $(VENV)/.installed
	$(BIN)/pip install -q --no-deps --target $(OLDER) openai==1.109.1 distro tqdm jiter sniffio

test: check $(OLDER)/openai/__init__.py
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n 2 --dist worksteal

# The wheel, in an environment where nothing else of ours is, outside the checkout.
wheel: $(VENV)/.installed
	rm -rf dist build/wheel && $(BIN)/pip wheel -q --no-deps -w dist .
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/pip install -q "$(TORCH)" dist/luthier-*.whl -c constraints.txt
	cd build && OMP_NUM_THREADS=1 LUTHIER_HOME=$(CURDIR)/build/wheel/home wheel/bin/luthier demo

# What a release is made of, with versions, licences and sums (CycloneDX).
sbom: $(VENV)/.installed
	$(BIN)/python docs/sbom.py dist/luthier.cdx.json

docs: $(VENV)/.installed
	$(BIN)/python docs/generate.py

bench: $(VENV)/.installed
	$(BIN)/python bench/run.py

chaos: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python bench/chaos.py
	$(BIN)/python bench/streams.py

fuzz: $(VENV)/.installed
	OMP_NUM_THREADS=1 LUTHIER_FUZZ=6000 $(BIN)/python -m pytest -q tests/fuzz

clean:
	rm -rf $(VENV) build dist src/*.egg-info
