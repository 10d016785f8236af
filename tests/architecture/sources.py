"""The Python sources of the five folders: what the tests of the architecture read."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("deployments", "flows", "lineage", "runs", "storage")


@dataclass(frozen=True)
class Source:
    """One file; `name` is its path below the root, with slashes."""

    name: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        """What the file says. Parsed when it is asked for: each process that collects tests lists the sources."""
        return ast.parse(self.path.read_text())

    @property
    def module(self) -> str:
        """The dotted name in the package; of a package's own file, the package's."""
        if self.name == "flows/_freshline.py":
            return "freshline"
        return "freshline." + self.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def imports(self) -> Iterator[tuple[str, int]]:
        """Every absolute import, wherever it stands, as (module or module.name, line)."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
            elif _is_import_call(node):
                assert isinstance(node, ast.Call)
                yield from ((arg.value, node.lineno) for arg in node.args[:1] if isinstance(arg, ast.Constant))


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file of the five folders."""
    found = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    assert found, f"no sources in {ROOT}"
    return tuple(Source(str(path.relative_to(ROOT)), path) for path in found)


def is_below(module: str, roots: tuple[str, ...]) -> bool:
    """True when the module is one of the roots or lies in one."""
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def _is_import_call(node: ast.AST) -> bool:
    """`import_module("x")` or `importlib.import_module("x")`; one with a leading dot is relative."""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
        return False
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    return called in ("import_module", "__import__") and not str(node.args[0].value).startswith(".")
