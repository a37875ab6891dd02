# `make demo` and `make test` do all of their own set-up, in .venv.

VENV := .venv
BIN := $(VENV)/bin
PINS := requirements.txt pyproject.toml setup.py tools/setup

.NOTPARALLEL:
.PHONY: help demo test lint clean prerequisites

help:
	@echo "make demo    train, compile and run a network on the simulated engine"
	@echo "make test    all tests but the slow ones (those: make test PYTEST_ARGS='-m slow')"
	@echo "make lint    ruff and pyright"
	@echo "make clean   remove .venv and everything else that was built here"
	@echo "The variable PYTHON names the Python to use, CXX the C++ compiler."

demo: prerequisites $(VENV)/.installed-demo
	@$(BIN)/drawbar demo

test: prerequisites $(VENV)/.installed-test
	@$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

lint: prerequisites $(VENV)/.installed-test
	@bash tools/lint

prerequisites:
	@sh tools/setup check

$(VENV)/.installed-demo: $(PINS) | prerequisites
	@sh tools/setup demo

$(VENV)/.installed-test: $(PINS) | prerequisites
	@sh tools/setup test

clean:
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .ruff_cache .hypothesis
	find gen hw sim sw src tests -name __pycache__ -type d -prune -exec rm -rf {} +
