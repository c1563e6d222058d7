# One command for each thing a contributor does; `make help` lists them.
#
# Everything lives in the clone: tools and the installed package in .venv, what is compiled in build. A stamp file stands for
# an installation, so that a second call does nothing unless a source has changed.

VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMPS := $(VENV)/stamps
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
PYTEST_WORKERS ?= 2

# cmake and ninja are those of the environment, and CMake finds its Python.
export PATH := $(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PIP := $(BIN)/python -m pip --quiet
# Without build isolation, and with a folder that stays: a changed source recompiles alone.
INSTALL := $(PIP) install --no-build-isolation --config-settings=build-dir=build/wheel

PACKAGE_SOURCES := pyproject.toml CMakeLists.txt \
  $(shell find cpp cmake python -type f -not -name '*.pyc' -not -path '*/__pycache__/*' 2>/dev/null)

# Small files with few includes: quick to check, and where mistakes in arithmetic would hide.
TIDY_SOURCES ?= $(wildcard $(addprefix cpp/src/,geometry.cpp call_scope.cpp cpu_features.cpp dispatch.cpp threads.cpp workspace.cpp))
CPP_SOURCES = $(shell find cpp python/bindings tests benchmarks examples -not -path '*/third_party/*' \
  \( -name '*.cpp' -o -name '*.hpp' -o -name '*.h' -o -name '*.c' \) 2>/dev/null)

.DELETE_ON_ERROR:
.PHONY: help venv demo test test-cpp test-python test-clang test-aarch64 test-consumers lint lint-python lint-cpp format sanitize \
  wheel clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- environments

# Takes $PYTHON if given, else the first python that is new enough and complete, outside the environment itself.
$(STAMPS)/venv:
	@PATH="$${PATH#*:}"; unset VIRTUAL_ENV; \
	usable='import ensurepip, os, sys, sysconfig, venv; \
	  sys.exit(sys.version_info < (3, 10) or not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'; \
	for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	  if "$$python" -c "$$usable" >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "No Python >= 3.10 with venv, ensurepip and C headers (on Debian: python3, python3-venv, python3-dev)." >&2; exit 1; \
	fi; \
	echo "environment: $(VENV), $$("$$found" --version)"; \
	"$$found" -m venv --clear $(VENV)
	@mkdir -p $(@D) && touch $@

$(STAMPS)/build-tools: $(STAMPS)/venv
	$(PIP) install 'scikit-build-core>=0.11' 'pybind11>=3.0' 'cmake>=3.26' 'ninja>=1.11'
	@touch $@

venv: $(STAMPS)/build-tools  ## make .venv with the build tools

$(STAMPS)/demo: $(STAMPS)/build-tools $(PACKAGE_SOURCES)
	$(INSTALL) '.[demo]'
	@touch $@

$(STAMPS)/test: $(STAMPS)/build-tools $(PACKAGE_SOURCES)
	$(INSTALL) '.[test]'
	@touch $@

# The linters alone: `.[dev]` would compile the package, and nothing here imports it.
$(STAMPS)/lint: $(STAMPS)/venv pyproject.toml
	$(PIP) install 'numpy>=2.0' $$(grep -oE '(clang-format|clang-tidy|mypy|ruff)==[^"]+' pyproject.toml)
	@touch $@

# ---- what people do

demo: $(STAMPS)/demo  ## photographs through filters and poolings, digits through a small CNN
	@mkdir -p build/demo
	cd build && $(BIN)/python -m convpool demo --output $(CURDIR)/build/demo

test: test-cpp test-python  ## C++ tests, Python tests and the examples in docstrings

test-cpp: $(STAMPS)/build-tools  ## the C++ tests alone
	cmake --preset dev $(CMAKE_ARGS)
	cmake --build build/dev
	ctest --test-dir build/dev --output-on-failure

# The folder `python` isn't on the path here: what is tested is the installed package.
test-python: $(STAMPS)/test  ## the Python tests alone
	$(BIN)/pytest -n $(PYTEST_WORKERS) --doctest-modules tests/python --pyargs convpool

# Where the tools are missing, these say what to install and leave it at that.
test-clang: $(STAMPS)/build-tools  ## the C++ tests, compiled by Clang with warnings as errors
	@if command -v clang++ >/dev/null; then \
	  cmake --preset clang $(CMAKE_ARGS) && cmake --build build/clang && ctest --test-dir build/clang --output-on-failure; \
	else \
	  echo "test-clang: no clang++ (Debian: clang)"; \
	fi

test-aarch64: $(STAMPS)/build-tools  ## the C++ tests, cross-compiled for 64-bit ARM and run under qemu
	@if command -v aarch64-linux-gnu-g++ >/dev/null && \
	    { command -v qemu-aarch64-static || command -v qemu-aarch64; } >/dev/null; then \
	  cmake --preset aarch64 $(CMAKE_ARGS) && cmake --build build/aarch64 && \
	  ctest --test-dir build/aarch64 --output-on-failure; \
	else \
	  echo "test-aarch64: no cross-compiler or no emulator (Debian: g++-aarch64-linux-gnu qemu-user)"; \
	fi

test-consumers: $(STAMPS)/test  ## projects that use the library, in every way that there is
	bash tests/consume/run.sh

# ---- checks

lint: lint-python lint-cpp  ## ruff, mypy --strict, clang-format, clang-tidy

lint-python: $(STAMPS)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

lint-cpp: $(STAMPS)/lint $(STAMPS)/build-tools
	$(BIN)/clang-format --dry-run -Werror $(CPP_SOURCES)
	cmake --preset dev $(CMAKE_ARGS) > /dev/null
	$(BIN)/clang-tidy --quiet -p build/dev --extra-arg=-Wno-unknown-warning-option \
	  --extra-arg=-Wno-ignored-optimization-argument $(TIDY_SOURCES)

format: $(STAMPS)/lint  ## rewrite sources as the formatters want them
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_SOURCES)

# Where the kernel spreads addresses widely, ThreadSanitizer can't find its shadow memory; setarch -R turns that off.
sanitize: $(STAMPS)/build-tools  ## the C++ tests under Address-, UB- and ThreadSanitizer
	cmake --preset asan $(CMAKE_ARGS)
	cmake --build build/asan
	ctest --test-dir build/asan --parallel 2 --output-on-failure
	cmake --preset tsan $(CMAKE_ARGS)
	cmake --build build/tsan
	if setarch -R true 2>/dev/null; then fixed='setarch -R'; fi; \
	  $$fixed ctest --test-dir build/tsan --parallel 2 --output-on-failure

wheel: $(STAMPS)/build-tools  ## a wheel in dist
	$(PIP) wheel --no-deps --wheel-dir dist .

clean:  ## remove what was built and installed here
	rm -rf build dist wheelhouse $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find python tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
