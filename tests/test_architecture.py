"""The house: arrows point down, rooms meet only in topics, files and functions stay small.

Each rule names what to do instead, so that a failure is an instruction.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "connectors", "streams", "infra")
FILE_LINES_MAX = 350
FUNCTION_LINES_MAX = 60
TOP_LEVEL = {
    "pyproject.toml", "streams", "schemas", "connectors", "infra", "tests", "Dataset", "README.md",
    "Makefile", "LICENSE", "CHANGELOG.md", ".gitignore", ".ci",
}  # fmt: skip

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}

# A logic module may not reach for the clock, chance, the network or the stream processor.
IMPURE = {"faust", "aiokafka", "confluent_kafka", "asyncio", "socket", "httpx", "random", "time", "datetime", "os"}

BANS = {
    r"datetime\.now\(\)": "pass the event's own time, or datetime.now(UTC) at the edge of a process",
    r"datetime\.utcnow": "datetime.now(UTC)",
    r"sink=\[": "unit.send(topic, value, partition=..., key=...)",
    r"\bpickle\b": "orjson or Avro: pickle runs code",
    r"(?<![.\w])print\(": "click.echo, rich, or a log line",
}


def floor(module: str) -> float:
    """Return the floor a module stands on (architecture: 0 schemas ... 4 processes)."""
    parts = module.split(".")
    if parts[0] == "schemas":
        return 0
    if parts[0] == "connectors" or parts[:2] == ["streams", "engine"]:
        return 1
    if parts == ["streams", "settings"]:
        return 1
    if parts[:2] == ["streams", "cli"] or module.endswith(".worker") or parts[0] == "infra":
        return 4
    if parts[0] == "streams" and len(parts) >= 4:
        return 2 if parts[-1] == "agent" else 1
    if parts[:2] == ["streams", "prompts"] and len(parts) == 3 and MODULES[module].name == "__init__.py":
        return 1  # a room itself; its __init__ holds nothing
    if parts[:2] == ["streams", "prompts"] and len(parts) == 3:
        return {"ingest": 1, "chat": 1, "ports": 1}.get(parts[2], 3)
    return 0


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(module: str) -> str | None:
    parts = module.split(".")
    is_room = parts[0] == "streams" and len(parts) >= 3 and parts[1] not in {"engine", "cli"}
    return ".".join(parts[:3]) if is_room and (ROOT / Path(*parts[:3])).is_dir() else None


ARROWS = sorted((module, target) for module, path in MODULES.items() for target in imports(path) if target in MODULES)


def test_the_check_sees_the_arrows() -> None:
    assert ("streams.settings", "schemas.topics") in ARROWS


def test_arrows_point_down() -> None:
    wrong = [
        f"{module} (floor {floor(module)}) imports {target} (floor {floor(target)})"
        for module, target in ARROWS
        if floor(target) > floor(module)
    ]
    assert not wrong, "move what is shared down, or pass it in as an argument: " + "; ".join(wrong)


def test_compiled_loops_call_none_of_another_file() -> None:
    """Numba tells stale code by one source file: a loop that calls another file's would go on with the old one."""
    compiled = {module for module, path in MODULES.items() if "streams.compiler.kernel" in imports(path)}
    assert "streams.prompts.clustering.compiled.index" in compiled
    wrong = [f"{module} imports {target}" for module, target in ARROWS if module in compiled and target in compiled]
    assert not wrong, "put loops that call each other into one file: " + "; ".join(wrong)


def test_connectors_do_not_know_the_streams() -> None:
    wrong = [arrow for arrow in ARROWS if arrow[0].startswith("connectors") and arrow[1].startswith("streams")]
    assert not wrong, f"connectors import schemas only: {wrong}"


def test_the_engine_knows_no_app_and_no_connector() -> None:
    wrong = [
        (module, target)
        for module, target in ARROWS
        if module.startswith("streams.engine") and not re.match(r"schemas\b|streams\.engine\b|streams$", target)
    ]
    assert not wrong, f"hand it in from the composition root: {wrong}"


def test_the_engine_does_not_name_the_app() -> None:
    """`PromptloomError`, of schemas, is the root of all errors here: floor 0 is what engine and apps share."""
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "streams" / "engine").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "promptloom" in line.replace("PromptloomError", "").lower()
    ]
    assert not wrong, f"take the name as an argument: {wrong}"


def test_rooms_meet_only_in_topics() -> None:
    wrong = [
        (module, target) for module, target in ARROWS if room(module) and room(target) and room(module) != room(target)
    ]
    assert not wrong, f"move the shared part to schemas or streams/engine: {wrong}"


def test_logic_is_pure() -> None:
    wrong = [
        (module, target)
        for module, path in MODULES.items()
        if room(module) and not module.endswith(".agent")
        for target in imports(path)
        if target.split(".")[0] in IMPURE
    ]
    assert not wrong, f"take time, chance and services as arguments: {wrong}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_small_documented_and_free_of_what_is_banned(path: Path) -> None:
    source = path.read_text()
    lines = source.splitlines()
    assert len(lines) <= FILE_LINES_MAX, f"{len(lines)} lines: split it by what it decides"
    tree = ast.parse(source)
    assert not tree.body or ast.get_docstring(tree), "open the module with what it decides"
    long = [
        f"{node.name} ({node.end_lineno - node.lineno + 1})"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not long, f"functions over {FUNCTION_LINES_MAX} lines: {long}"
    code = re.sub(r'(?s)""".*?"""|#[^\n]*', "", source)
    for ban, instead in BANS.items():
        assert not re.search(ban, code), f"{ban}: use {instead}"


def test_nothing_stands_at_the_top_but_what_belongs_there() -> None:
    tracked = {path.name for path in ROOT.iterdir() if not path.name.startswith((".git", ".venv", ".mypy", ".ruff", ".hypo", ".cov", ".pytest", ".promptloom")) and not path.name.endswith(".egg-info")}  # fmt: skip  # noqa: E501
    assert tracked <= TOP_LEVEL | {".gitignore", "config.yaml", "build", "dist"}, sorted(tracked - TOP_LEVEL)
