# `make help` lists the targets. Everything runs in .venv, which is made by the first target that needs it.
PY := .venv/bin/python
BIN := .venv/bin
NATIVE := CMakeLists.txt caffe/_C.pyi $(wildcard layers/*.cpp layers/*.h cuda/*.cu cuda/*.cuh cuda/*.h)
CLANG := $(wildcard layers/*.cpp layers/*.h cuda/*.cu cuda/*.cuh cuda/*.h)
JOBS ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types check format bench fuzz sanitize soak gpu-test gpu-sanitize gpu-bench proto clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/.ready: scripts/setup.sh pyproject.toml $(NATIVE)
	@scripts/setup.sh
	@touch $@

setup: .venv/.ready  ## make .venv: Python packages and the native layers (the other targets do this when needed)

demo: .venv/.ready  ## synthetic scenes to MDSSD300 and SSD300, trained, scored and compared, in under ten minutes on two cores
	@$(PY) demo/demo.py

test: .venv/.ready  ## the tests (those that need a GPU: gpu-test)
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(JOBS) -m "not gpu and not slow"

lint: .venv/.ready  ## style and spelling
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/clang-format --dry-run -Werror $(CLANG)
	@$(BIN)/codespell $$(git ls-files)

types: .venv/.ready  ## mypy
	@$(BIN)/mypy

check: lint types test  ## lint, types and tests: what CI runs

format: .venv/.ready  ## rewrite the sources in the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(CLANG)

bench: .venv/.ready  ## every CPU benchmark; results as JSON under benchmarks/results
	@for program in benchmarks/cpu_*.py; do echo "== $$program"; $(PY) $$program || exit 1; done

FUZZ ?= --count 10000

fuzz: .venv/.ready  ## 10,000 mutated inputs of every kind (FUZZ="--count 500 --kind run_net"; --help of python -m tests.fuzz)
	@OMP_NUM_THREADS=1 $(PY) -m tests.fuzz $(FUZZ)

sanitize: .venv/.ready  ## the native layers' tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/sanitize.sh

soak: .venv/.ready  ## an hour (SOAK_S seconds) of training that is killed, starved and resumed, and 200 kills; writes soak_run/
	@OMP_NUM_THREADS=1 $(PY) -m tests.soak
	@OMP_NUM_THREADS=1 $(PY) -m tests.solver.kill_soak --kills 200 --folder soak_run/kills

gpu-test: .venv/.ready  ## the tests that need a GPU
	@$(PY) -m pytest -q -m gpu

SANITIZER = PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --target-processes all --kernel-name kns=caffe --error-exitcode 1

# without PyTorch's caching of memory, so that every tensor has bounds; nothing can then be captured as a graph
gpu-sanitize: .venv/.ready  ## the GPU layers' tests under compute-sanitizer
	@for tool in memcheck racecheck initcheck synccheck; do echo "== $$tool"; \
	  $(SANITIZER) --tool $$tool $(PY) -m pytest -q -m gpu -k "not capture and not random_options" tests/ops || exit 1; done

gpu-bench: .venv/.ready  ## every GPU benchmark
	@for program in benchmarks/gpu_*.py; do echo "== $$program"; $(PY) $$program || exit 1; done

proto: .venv/.ready  ## compile caffe/proto/caffe.proto again
	@cd caffe/proto && ../../$(PY) -m grpc_tools.protoc -I . --pyi_out=. --descriptor_set_out=caffe.desc caffe.proto

clean:  ## remove what was built, .venv included
	rm -rf .venv build dist demo_run soak_run .mypy_cache .pytest_cache .ruff_cache .hypothesis caffe/_C*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
