# Two commands set everything up: `make demo` and `make test`. Each makes its own virtual environment.
PYTHON ?= python3
# Any CPU or CUDA build from 2.11 on will do; this pin keeps the tests reproducible.
TORCH ?= torch==2.13.0
PIP = -m pip --disable-pip-version-check install --quiet

.PHONY: demo test test-lowest test-gpu lint fuzz audit release clean

demo: .venv/demo
	.venv/demo/bin/uigc demo --force

# A process for each core, with one thread each: that is how the tests take half the time.
TESTS = OMP_NUM_THREADS=1 .venv/test/bin/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
test: lint
	$(TESTS)

lint: .venv/test
	.venv/test/bin/ruff check .
	.venv/test/bin/ruff format --check .
	.venv/test/bin/codespell
	rm -rf build  # setuptools would take what older builds left there into the wheel
	.venv/test/bin/python $(PIP) --no-deps --no-build-isolation --target build/tree .
	cd build/tree && ../../.venv/test/bin/mypy --config-file ../../pyproject.toml -p uigc

# With the lowest versions that pyproject.toml admits, and without what needs the newest ones (engines).
test-lowest: .venv/lowest
	OMP_NUM_THREADS=1 .venv/lowest/bin/python -m pytest --numprocesses auto --dist loadfile

# ONNX Runtime's CUDA provider and TensorRT's bindings, the real ones, on a GPU that computes nothing (docs/ENGINES.md).
test-gpu: .venv/gpu
	.venv/gpu/bin/python -m pytest --noconftest -p no:cacheprovider tests/nullgpu || test $$? = 5  # all were skipped

# Known vulnerabilities of what the tests install; needs the network.
audit: .venv/test
	.venv/test/bin/python $(PIP) --upgrade pip pip-audit
	.venv/test/bin/python -m pip_audit --skip-editable

# VERSION=0.1.0; docs/VERSIONING.md says what a version promises. FLAGS=--dry-run makes everything but the tag.
release: .venv/test
	.venv/test/bin/python .ci/release $(VERSION) $(FLAGS)

# 100,000 altered inputs under coverage; docs/SECURITY.md says more.
fuzz: .venv/test
	.venv/test/bin/python $(PIP) --editable ".[fuzz]"
	.venv/test/bin/python -m uigc.fuzz run --runs 100000 --finds build/finds

.venv/demo: pyproject.toml
	rm -rf $@
	$(PYTHON) -m venv $@
	$@/bin/python $(PIP) --editable ".[cpu]" || { rm -rf $@; exit 1; }
	touch $@

.venv/test: pyproject.toml
	rm -rf $@
	$(PYTHON) -m venv $@
	$@/bin/python $(PIP) "setuptools>=77" "$(TORCH)" || { rm -rf $@; exit 1; }
	$@/bin/python $(PIP) --editable ".[test]" || { rm -rf $@; exit 1; }
	touch $@

.venv/lowest: pyproject.toml tests/lowest.txt
	rm -rf $@
	$(PYTHON) -m venv $@
	$@/bin/python $(PIP) "setuptools>=77" "$(TORCH)" || { rm -rf $@; exit 1; }
	$@/bin/python $(PIP) --constraint tests/lowest.txt --editable ".[cpu,export,calibrate,train,bench,completion]" \
		pytest pytest-xdist filelock hypothesis || { rm -rf $@; exit 1; }
	touch $@

.venv/gpu: pyproject.toml
	rm -rf $@
	$(PYTHON) -m venv $@
	$@/bin/python $(PIP) --editable ".[test-gpu]" || { rm -rf $@; exit 1; }
	touch $@

clean:
	rm -rf .venv build dist *.egg-info sample.png sample.uigc
