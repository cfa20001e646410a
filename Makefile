# Two commands do everything: `make demo` and `make test`.
# Both first build .venv from the locked dependencies (hashes checked), compiled: a worker that is started again after
# a crash should not spend its first seconds on reading sources.

BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test check lock bench bench-quality chaos clean

help:
	@echo "make setup   .venv with everything in it; the rooms as machine code, again after an edit"
	@echo "make demo    the whole pipeline on embedded services, on the prompts of Dataset/  (KEEP=1, REPORT=file.json)"
	@echo "make test    lint, types, all tests on a real broker and a real database, coverage"
	@echo "make chaos   faults of every kind on real services, and what they cost  (SEED=1, ONLY=kills, FRESH=1)"
	@echo "make bench   throughput and latency, beside a per-event Faust pipeline"
	@echo "make bench-quality   how well templates are found, beside Drain3, LCS, embeddings and HDBSCAN"
	@echo "make lock    lock the dependencies again"
	@echo "make clean   remove .venv and caches (data and downloads stay: promptloom status)"

$(READY): infra/locks/bootstrap.txt infra/locks/dev.txt pyproject.toml
	@python="$${PYTHON:-$$(sh infra/fastest_python.sh)}"; \
	test -n "$$python" || { echo "promptloom needs Python 3.11, 3.12 or 3.13 with the venv module; none was found. Install one (Debian: apt install python3 python3-venv) or say make PYTHON=/path/to/python3"; exit 1; }; \
	echo "== setting up .venv with $$("$$python" --version) ($$python)"; \
	"$$python" -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r infra/locks/bootstrap.txt
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r infra/locks/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@echo "== compiling the inner loops"
	@$(BIN)/python -c "import streams.prompts.clustering.logic, streams.prompts.canonicalization.logic"
	@touch $@

# The rooms become machine code; where they were edited since, they run as plain Python until then.
setup: $(READY)
	@$(BIN)/python -m infra.compile

demo: setup
	@$(BIN)/promptloom demo $(if $(KEEP),--keep) $(if $(REPORT),--report "$(REPORT)")

test: setup
	@$(BIN)/python -m infra.check

bench: setup
	@$(BIN)/python -m infra.bench

bench-quality: $(READY)
	@$(BIN)/python -m infra.bench.quality

chaos: $(READY)
	@$(BIN)/python -m tests.chaos --seed $(or $(SEED),1) $(foreach name,$(ONLY),--only $(name)) $(if $(FRESH),--fresh)

# The bootstrap lock holds only uv, which installs the rest; the worker lock is what a container needs.
lock:
	@echo uv | $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o infra/locks/bootstrap.txt -
	@$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras -q -o infra/locks/dev.txt pyproject.toml
	@$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra portkey -c infra/locks/dev.txt -q -o infra/locks/worker.txt pyproject.toml

clean:
	rm -rf .venv .mypy_cache .ruff_cache .coverage .coverage.*
