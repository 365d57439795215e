# make demo   the whole pipeline on this machine, with a demo shop that fails by itself
# make test   every test, on real Kafka, PostgreSQL and Chromium
# make eval   alerts against labelled faults: recordings through Kafka and the real app (ARGS="ob22 tt29")
# make bench  all figures, each beside its bound, as a table; ARGS="stream" for one, ARGS="table --json FILE" to compare commits
# make fuzz   every decoder under a coverage-guided fuzzer (ARGS="--minutes 60")
# make audit  known vulnerabilities of what make installs
# make chaos  everything is killed, frozen and restarted under load; then every span is counted (ARGS="--seed 7 --minutes 10")
# make soak   an hour of load: memory, sockets and lag stay flat while workers come and go
# make check  what CI runs: format, lint, types, import contracts, tests
PYTHON ?= $(shell .ci/python)
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
# Three files of tests side by side, each process with a broker and a database of its own: most tests wait for servers.
# What fails is tried once more and named in the summary (RERUN): a machine may be busy, but a test that needs the
# second try is a defect, of the test or of ours. TOGETHER= tries once, one after the other.
TOGETHER ?= --numprocesses 3 --dist loadfile --reruns 1

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types contracts go eval bench fuzz audit chaos soak clean system-packages

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# One environment, two stages: the demo needs no developer's tools.
$(BIN)/python:
	@PYTHON=$(PYTHON) .ci/system-packages python
	@echo "tracewatch: making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	@echo "tracewatch: installing packages into $(VENV) (once, about two minutes)"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "tracewatch: installing the developer's tools"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

# The shop's services in Go, where Go is installed; the demo runs the Python ones where they were not built.
GO_SHOP := $(shell find producer/go quickstart/shop/go -name '*.go' -not -name '*_test.go' -o -name go.mod)
$(VENV)/.go-shop: $(GO_SHOP) quickstart/shop/build-go | $(VENV)/.runtime
	@quickstart/shop/build-go $(BIN)
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[fuzz]'
	@touch $@

# Apart from the rooms' packages, so that what audits them is not among what is audited.
$(VENV)/.audit: | $(BIN)/python
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt 'pip-audit>=2.7'
	@touch $@

# What numba compiles stands beside its source; a worker that finds nothing there compiles it before it works. It is not
# noticed if a function changes that another file calls: so all of it goes then.
COMPILED := tracecore/byte_runs.py tracecore/compiling.py tracecore/forest.py tracecore/link_columns.py \
    tracecore/named_peers.py tracecore/otlp_scan.py tracecore/packing.py tracecore/shared_tables.py stream/trace_rows.py \
    stream/revision_columns.py stream/routing.py stream/record_batches.py stream/window_tally.py \
    stream/detection/usual_spans.py
$(VENV)/.compiled: $(COMPILED) | $(VENV)/.runtime
	@echo "tracewatch: compiling the analysis of traces"
	@find tracecore stream -name '*.nb[ci]' -delete
	@$(BIN)/python -m stream.compiled
	@touch $@

# A demo has not the load for which a sink would load this; several processes of tests would compile it side by side.
ROWS := sink/kernels.py sink/detail.py sink/rows.py
$(VENV)/.compiled-rows: $(ROWS) | $(VENV)/.runtime
	@echo "tracewatch: compiling the making of rows"
	@$(BIN)/python -m sink.compiled
	@touch $@

system-packages:
	@.ci/system-packages tests

demo: $(VENV)/.runtime $(VENV)/.compiled $(VENV)/.go-shop
	@$(BIN)/python -m quickstart demo $(ARGS)

test: $(VENV)/.dev $(VENV)/.compiled $(VENV)/.compiled-rows $(VENV)/.go-shop system-packages
	$(BIN)/python -m pytest $(TOGETHER) $(ARGS)

check: format lint types contracts go test

# The Go producer, where Go is installed.
go:
	@if command -v go >/dev/null; then \
	    test -z "$$(gofmt -l producer/go quickstart/shop/go)" && (cd quickstart/shop/go && go vet ./...) && \
	    cd producer/go && go vet ./... && go test -race ./...; \
	else echo "tracewatch: no Go here: producer/go is not checked"; fi

format: $(VENV)/.dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

eval: $(VENV)/.dev $(VENV)/.compiled system-packages
	$(BIN)/python -m bench eval $(ARGS)

chaos soak: $(VENV)/.dev system-packages
	@$(BIN)/python -m tests.chaos $@ $(ARGS)

bench: $(VENV)/.dev $(VENV)/.compiled $(VENV)/.compiled-rows system-packages
	$(BIN)/python -m bench $(or $(ARGS),table)

fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzzing $(ARGS)

audit: $(VENV)/.audit
	$(VENV)/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict $(ARGS)

clean:
	rm -rf $(VENV) build dist run .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
