# Two commands do everything on a fresh Debian machine, as root: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(wildcard csrc/core/*.[ch] csrc/io/*.[ch] appliance/client/c/*.[ch]) appliance/native/build.py setup.py pyproject.toml

.PHONY: demo test check bench clean install fuzz endurance manual wheel deb image image-check image-run

demo: install ## the paper's Figure 18 in namespaces: routes by OSPF, TLS sessions keyed by QKD, faults
	$(BIN)/python -m appliance.demo

# The virtual machines want both processors; what else fails is to be seen too, and comes last.
test: check ## everything that can be tested on this machine, whole appliances too; QBB_IMAGE=0 leaves those out
	@failed=0; \
	QBB_IMAGE=$${QBB_IMAGE:-1} $(BIN)/python -m pytest -s -v tests/image $(PYTEST_ARGS) || failed=1; \
	$(BIN)/python -m pytest -n 2 --dist worksteal -q --ignore=tests/image $(PYTEST_ARGS) || failed=1; \
	exit $$failed

check: install ## formatting, lint, types, the C tests under sanitizers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) -s -C csrc/tests check

bench: install ## speed, as ratios against named references in the same run
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

fuzz: install ## longer runs of the fuzzers: FUZZ_SECONDS=600 make fuzz
	FUZZ_SECONDS=$${FUZZ_SECONDS:-600} $(BIN)/python -m pytest -q tests/unit/test_c_fuzz.py

endurance: install ## an hour of random faults on a network of 20 nodes: ENDURANCE_ARGS="--nodes 20 --minutes 60 --seed 1"
	$(BIN)/python -m tests.endurance $(ENDURANCE_ARGS)

# Times in what is built are that of the last commit, so that the same source gives the same bytes.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

wheel: install ## dist/*.whl: the Python package, for Python 3.11 and later
	rm -rf build/lib* build/bdist* build/temp* dist/*.whl
	$(BIN)/pip wheel -q --disable-pip-version-check --no-build-isolation --no-deps -w dist .

deb: wheel ## dist/*.deb: for Debian 13 and later, out of the wheel and the units
	$(BIN)/python packaging/deb/build.py --wheel dist/*.whl --out dist $(DEB_ARGS)

image: install ## build/image/qbb_VERSION.raw: the bootable image, its bill of materials, its licences, its update
	$(BIN)/python -m images $(IMAGE_ARGS)

image-check: install ## builds the image twice, from nothing, and compares
	$(BIN)/python -m images --check $(IMAGE_ARGS)

image-run: image ## two appliances in virtual machines, joined by a network and a simulated fibre, to log in and look
	$(BIN)/python -m images.run

install: $(VENV)/.extension ## Debian packages, Python packages, the compiled extension

# Debian packages that are missing, and only then apt.
$(VENV)/.debian: packaging/apt-packages.txt
	@missing=$$(sed 's/#.*//' $< | xargs -n1 sh -c 'dpkg-query -W -f "\$${Status}" "$$0" 2>/dev/null | grep -q "ok installed" || echo "$$0"'); \
	if [ -n "$$missing" ]; then \
	    echo "installing: $$missing"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	fi
	@mkdir -p $(VENV) && touch $@

$(VENV)/.packages: packaging/requirements.txt $(VENV)/.debian
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r packaging/requirements.txt
	@touch $@

$(VENV)/.extension: $(SOURCES) $(VENV)/.packages
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

clean: ## everything that was built here
	rm -rf build dist $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f appliance/native/_native*.c appliance/native/_native*.so appliance/client/c/qbb-tls
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
