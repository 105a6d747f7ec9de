# Two commands for readers: `make lab` and `make test`. The others are for whoever changes the course.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKSHOP := $(VENV)/.workshop
PROXY := $(VENV)/lib/proxy

# Waiting threads sleep instead of spinning: on a busy machine with few cores lessons run up to ten times faster.
export OMP_WAIT_POLICY := PASSIVE

# The environment is installed without bytecode: where Python may not keep it, every kernel compiles torch anew, for 9 s.
unexport PYTHONDONTWRITEBYTECODE

# A test goes to whichever worker is free, in the order of the files: the lessons, which are long, come first.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadscope \
	--no-loadscope-reorder --durations=10

# No desktop: print the address instead of opening a browser.
BROWSER_FLAG := $(if $(DISPLAY)$(WAYLAND_DISPLAY)$(filter Darwin,$(shell uname)),,--no-browser)
LAB_FLAGS := --allow-root $(BROWSER_FLAG)
# A new environment asks nothing and looks for no news, on or off the network.
OVERRIDES := $(VENV)/share/jupyter/lab/settings/overrides.json
QUIET := {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}

# Where there is no network: the folder that `make workshop-offline` packed.
ifdef STICK
export PIP_NO_INDEX := 1
export PIP_FIND_LINKS := $(STICK)/wheels
endif

.PHONY: lab test test-all test-slow notebooks images translations site serve-site bench format fork \
	workshop workshop-check workshop-offline

lab: $(READY)
	$(BIN)/python -m pitfalls
	$(BIN)/jupyter lab $(LAB_FLAGS) --notebook-dir=notebooks --LabApp.default_url=/lab/tree/01_loading.ipynb

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pitfalls
	$(PYTEST) --ignore=tests/slow

# Everything: also the browser, other models and versions, a fork, and the model downloaded again.
test-all: test test-slow

test-slow: $(READY) $(WORKSHOP)
	$(PYTEST) tests/slow tests/inspector/test_properties.py --hypothesis-profile=thorough

# Execute every lesson and write it back in a normal form; LESSON=04 does one.
notebooks: $(READY)
	$(BIN)/python -m tools.lessons $(LESSON)

images: $(READY)
	$(BIN)/python -m tools.pictures

# Other languages: what is missing in translations/, and whatever is built of it. INTO=ar and LESSON=04 do one.
translations: $(READY)
	$(BIN)/python -m tools.translations $(INTO) $(LESSON)

# The course as a web site in build/site/: for a web server, a stick, or GitHub (.github/workflows/site.yml).
site: $(READY)
	$(BIN)/python -m tools.site

serve-site: site
	$(BIN)/python -m http.server --bind=127.0.0.1 --directory=build/site

# The course for a class, on this machine's address: PASSWORD=… chooses the class's password, WITH="--help" shows more.
workshop: $(WORKSHOP)
	$(BIN)/python workshop/start.py $(if $(PASSWORD),--password="$(PASSWORD)") $(WITH)

# What is missing for it, and how many learners this machine carries.
workshop-check: $(WORKSHOP)
	$(BIN)/python workshop/check.py $(WITH)

# All that it needs, into a folder for a stick.
workshop-offline: $(WORKSHOP)
	$(BIN)/python workshop/offline.py

# Badges, setup cells and links for a fork: make fork REPO=owner/name
fork: $(READY)
	$(BIN)/python -m tools.fork "$(REPO)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .

bench: $(READY)
	$(BIN)/python -m tools.bench

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("requirements.txt needs Python 3.11 or newer. Name one: make lab PYTHON=python3.12" \
		if sys.version_info < (3, 11) else 0)'
	rm -rf *.egg-info  # of 0.1: Python would take what it says for ours
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -r requirements.txt
	mkdir -p $(dir $(OVERRIDES))
	echo '$(QUIET)' > $(OVERRIDES)
	touch $@

$(WORKSHOP): $(READY) workshop/requirements.txt workshop/proxy/package-lock.json
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r workshop/requirements.txt
	rm -rf $(PROXY)
	$(if $(STICK),cp -R "$(STICK)/proxy" $(PROXY),mkdir -p $(PROXY) && cp workshop/proxy/*.json $(PROXY) \
		&& PATH="$(abspath $(BIN)):$$PATH" npm ci --silent --no-fund --no-audit --prefix $(PROXY))
	touch $@
