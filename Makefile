# The habits of the project: each target sets itself up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= demo
JOBS ?= 2
PEERS := $(if $(if $(PARTS),$(filter peers,$(PARTS)),all),$(patsubst bench/peers/%.txt,.bench/%/.installed,$(wildcard bench/peers/*.txt)))

.PHONY: setup demo test lint docs docs-check bench bench-quality clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,docs]"
	touch $@

demo: setup
	$(BIN)/medgan train --pipeline ct_contrast --out $(DEMO)/runs --name demo
	$(BIN)/medgan data phantom $(DEMO)/phantom --subjects 12 --seed 1
	$(BIN)/medgan convert $(DEMO)/phantom/cohort.csv $(DEMO)/synthetic --change-map \
		--model $(DEMO)/runs/ct_contrast/demo/model
	$(BIN)/medgan faithfulness $(DEMO)/phantom/cohort.csv:contrast $(DEMO)/faithfulness --converted $(DEMO)/synthetic
	$(BIN)/medgan benefit --pipeline ct_contrast --quick --jobs 2 --out $(DEMO)/runs --name demo-benefit \
		--model $(DEMO)/runs/ct_contrast/demo/model
	$(BIN)/medgan evaluate --synthetic $(DEMO)/synthetic --reference $(DEMO)/phantom/cohort.csv:plain \
		--source $(DEMO)/phantom/cohort.csv:contrast --out $(DEMO)/evaluation --labels $(DEMO)/phantom/cohort.csv \
		--organ aorta=9 --organ vena_cava=10 --organ kidneys=7,8 --organ liver=5 --organ spleen=6
	$(BIN)/medgan report $(DEMO)/evaluation --run $(DEMO)/runs/ct_contrast/demo \
		--study $(DEMO)/runs/ct_contrast/demo-benefit
	@echo "run:        $(DEMO)/runs/ct_contrast/demo (panels in samples/, model in model/)"
	@echo "converted:  $(DEMO)/synthetic"
	@echo "evaluation: $(DEMO)/evaluation (summary.json, evaluation.csv)"
	@echo "benefit:    $(DEMO)/runs/ct_contrast/demo-benefit/benefit.html (quick: it runs, and is no evidence)"
	@echo "all of it on one page, in a browser: $(DEMO)/evaluation/report.html"

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env docs docs/_build/html
	@echo "site: docs/_build/html/index.html"

docs-check: setup
	MEDGAN_DOCS_FULL=1 $(BIN)/python -m pytest --timeout 0 --durations 0 tests/test_pages_run.py tests/test_notebook.py

# PARTS="step loop" runs some of it; REFERENCE and BEFORE name checkouts of pytorch-CycleGAN-and-pix2pix and an older medgan.
bench: setup $(PEERS)
	$(BIN)/python bench/run.py $(PARTS) $(if $(REFERENCE),--reference $(REFERENCE)) $(if $(BEFORE),--before $(BEFORE))

# Another package in an environment of its own, on our torch.
.bench/%/.installed: bench/peers/%.txt $(STAMP)
	$(BIN)/python -m venv .bench/$*
	$(BIN)/python -c "import site; print(site.getsitepackages()[0])" > $$(echo .bench/$*/lib/python*/site-packages)/ours.pth
	.bench/$*/bin/python -m pip install --quiet -r $<
	touch $@

bench-quality: setup
	$(BIN)/python bench/phantom_arms.py --out bench/results

clean:
	rm -rf $(VENV) build dist $(DEMO) bench/results .bench docs/_build
