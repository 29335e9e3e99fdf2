# `make demo` shows the main job on a real CT, `make test` checks everything. Both set the machine up first:
# a .venv with the exact versions of constraints.txt and, on Debian-like systems, the libraries a window needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(VENV)/.packages-installed
WINDOW := $(VENV)/.window-works
DEMO_RESULTS := demo_results

# Window tests need a screen; where there is none, Xvfb is one. macOS has its own.
ON_SCREEN = $$(command -v xvfb-run >/dev/null && echo 'xvfb-run -a -s "-screen 0 1600x1000x24"')
DEBIAN_LIBRARIES := xvfb xauth libgl1 libglx-mesa0 libgl1-mesa-dri libegl1 libopengl0 libdbus-1-3 libfontconfig1 \
	libglib2.0-0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 \
	libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1

# What the second Qt binding is tried on in every run.
SECOND := $(foreach part,first_minutes forms jobs kernels_why kernels_to_level_set models_panel segment_panel \
	segment_steps steering train_panel,tests/napari_lsnet/test_$(part).py)

# One thread: on small arrays more threads only wait for each other, and the order of sums stays the same.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help demo test test-viewer test-slow lint docs screenshots bench clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(PACKAGES) ## a level set finds the liver in a real CT; results in demo_results/
	@$(BIN)/lsnet demo --out $(DEMO_RESULTS)

# The window's tests run beside the others, on a core of their own; what they print comes at the end.
test: lint $(WINDOW) ## everything: style, types, import rules, manifest, all tests with both Qt bindings
	@$(MAKE) --no-print-directory test-viewer >.viewer-tests.log 2>&1 & viewer=$$!; \
	sleep 2; failed=0; \
	eval "$(ON_SCREEN) env QT_API=pyqt6 PYTEST_QT_API=pyqt6 $(BIN)/python -m pytest --ignore=tests/napari_lsnet" || failed=1; \
	wait $$viewer || failed=1; \
	cat .viewer-tests.log; rm -f .viewer-tests.log; \
	exit $$failed

# Both bindings are tried even where the first fails. With the second, the quicker files of each panel: all take too long.
test-viewer: $(WINDOW) ## the tests of the window alone, with both Qt bindings
	@failed=0; \
	eval "$(ON_SCREEN) env QT_API=pyqt6 PYTEST_QT_API=pyqt6 $(BIN)/python -m pytest -q tests/napari_lsnet" || failed=1; \
	eval "$(ON_SCREEN) env QT_API=pyside6 PYTEST_QT_API=pyside6 $(BIN)/python -m pytest -q --qt-only $(SECOND)" || failed=1; \
	exit $$failed

test-slow: $(WINDOW) ## the tests that take long, and all of the window with the second Qt binding
	@failed=0; \
	eval "$(ON_SCREEN) env QT_API=pyqt6 PYTEST_QT_API=pyqt6 $(BIN)/python -m pytest -m slow" || failed=1; \
	eval "$(ON_SCREEN) env QT_API=pyside6 PYTEST_QT_API=pyside6 $(BIN)/python -m pytest -q --qt-only tests/napari_lsnet" || failed=1; \
	exit $$failed

lint: $(PACKAGES) ## style, types, import rules, manifest
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/npe2 validate napari_lsnet/napari.yaml

docs: $(PACKAGES) ## the pages of docs/ that are made from the code
	@PYTHONPATH=. $(BIN)/python docs/make_parameters.py
	@PYTHONPATH=. $(BIN)/python docs/make_networks.py

screenshots: $(WINDOW) ## the pictures of docs/, from the real window
	@eval "$(ON_SCREEN) env QT_API=pyqt6 PYTHONPATH=. $(BIN)/python docs/make_screenshots.py"
	@eval "$(ON_SCREEN) env QT_API=pyqt6 PYTHONPATH=. $(BIN)/python docs/make_network_screenshots.py"

bench: $(WINDOW) ## the tables of docs/: our figures beside those of other programs, from the same run
	@for claim in benchmarks/*.py; do \
	  echo "$$claim"; \
	  eval "$(ON_SCREEN) env QT_API=pyqt6 PYTHONPATH=. $(BIN)/python $$claim"; \
	done

clean: ## take away what the other targets made
	rm -rf $(VENV) $(DEMO_RESULTS) .viewer-tests.log dist build test_artifacts .mypy_cache .ruff_cache .pytest_cache .hypothesis

# --- set-up -----------------------------------------------------------------------------------------------------------

define CAN_MAKE_VENV
import sys, venv, ensurepip
sys.exit(sys.version_info < (3, 11))
endef
export CAN_MAKE_VENV

define WINDOW_CHECK
import ctypes, sys
from PyQt6.QtGui import QGuiApplication, QOpenGLContext
ctypes.CDLL("libGL.so.1")
app = QGuiApplication([])
context = QOpenGLContext()
sys.exit(not (app.primaryScreen() and context.create()))
endef
export WINDOW_CHECK

# Installs Debian packages where that is allowed; says the line to type where it is not.
define APT_INSTALL
apt_install() {
  command -v apt-get >/dev/null || return 1
  local sudo=
  if [ "$$(id -u)" != 0 ]; then
    sudo="sudo -n"
    if ! $$sudo true 2>/dev/null; then
      echo "Please run:  sudo apt-get update && sudo apt-get install -y $$*" >&2
      return 1
    fi
  fi
  echo "Installing system packages: $$*"
  $$sudo apt-get -qq update
  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$$@" >/dev/null
}
endef
export APT_INSTALL

$(VENV)/bin/python:
	@eval "$$APT_INSTALL"; \
	find_python() { \
	  for candidate in $${PYTHON:-} python3.11 python3.12 python3.13 python3; do \
	    if "$$candidate" -c "$$CAN_MAKE_VENV" 2>/dev/null; then echo "$$candidate"; return; fi; \
	  done; \
	}; \
	python=$$(find_python); \
	if [ -z "$$python" ]; then apt_install python3 python3-venv || true; python=$$(find_python); fi; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or newer with its venv module was not found. Install it, or name it: make PYTHON=/path/to/python" >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV)

$(PACKAGES): $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing the packages (some minutes, once)"
	@$(BIN)/python -m pip install -qq -c constraints.txt pip
	@$(BIN)/python -m pip install -qq -c constraints.txt --editable . --group dev
	@touch $@

$(WINDOW): $(PACKAGES)
	@eval "$$APT_INSTALL"; \
	works() { \
	  [ "$$(uname)" != Linux ] || { \
	    command -v xvfb-run >/dev/null && xvfb-run -a $(BIN)/python -c "$$WINDOW_CHECK" >/dev/null 2>&1; \
	  }; \
	}; \
	works || { apt_install $(DEBIAN_LIBRARIES) && works; } || { \
	  echo "A Qt window with OpenGL does not open here. It needs Xvfb and Qt's system libraries." >&2; exit 1; \
	}
	@touch $@
