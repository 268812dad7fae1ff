# `make run` does the main job, `make loop` goes on by itself, `make test` checks everything.
# All install into .venv on first use.
PYTHON ?= python3
VENV = .venv
INSTALLED = $(VENV)/.installed

.PHONY: run loop test lint docs clean

run: $(INSTALLED)
	@$(VENV)/bin/pytest experiments -k rmsnorm --ar-track cpu || [ $$? -eq 1 ]  # a discarded idea is no broken set-up
	@echo
	@echo "Next: $(VENV)/bin/pytest experiments               judges every idea and promotes the best"
	@echo "      $(VENV)/bin/autoresearch diff rmsnorm        what this one changed"
	@echo "      $(VENV)/bin/autoresearch new my_idea         begins one of yours: experiments/my_idea.py"
	@echo "      make loop                                  judges twelve, and asks an agent without a model for more"

loop: $(INSTALLED)
	@$(VENV)/bin/autoresearch loop --agent random --experiments 12 --track cpu

test: lint
	$(VENV)/bin/pytest -n 2 --dist worksteal

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

docs: $(VENV)/.docs-installed
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict  # without --quiet, under which no warning counts

$(VENV)/.docs-installed: $(INSTALLED)
	$(VENV)/bin/pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing into $(VENV), once"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info src/*.egg-info
