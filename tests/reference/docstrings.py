"""What the source says beside its names: the text under a field or member, and signatures as they are written.

Python keeps neither at run time, so both are read from the syntax tree.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from textwrap import dedent
from typing import Any


@cache
def syntax(item: Any) -> ast.ClassDef | ast.FunctionDef:
    """The syntax tree of a class or function."""
    (found,) = ast.parse(dedent(inspect.getsource(item))).body
    assert isinstance(found, ast.ClassDef | ast.FunctionDef)
    return found


def described(owner: Any) -> dict[str, str]:
    """The public fields or members of a class, or the constants of a module, in their order, with the text under each.

    Empty where there is none.
    """
    body = ast.parse(inspect.getsource(owner)).body if inspect.ismodule(owner) else syntax(owner).body
    found: dict[str, str] = {}
    for line, following in zip(body, [*body[1:], None], strict=True):
        match line:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                if not name.startswith("_"):
                    found[name] = _text(following)
    return found


def _text(line: ast.stmt | None) -> str:
    match line:
        case ast.Expr(value=ast.Constant(value=str() as text)):
            return " ".join(text.split())
    return ""


def signature(function: Any) -> str:
    """What stands between the parentheses, without `self`, and what comes back."""
    node = syntax(inspect.unwrap(function))
    assert isinstance(node, ast.FunctionDef)
    arguments = deepcopy(node.args)
    if arguments.args and arguments.args[0].arg in ("self", "cls"):
        del arguments.args[0]
    returned = f" -> {_annotation(node.returns)}" if node.returns else ""
    return f"({ast.unparse(arguments)}){returned}"


def annotations(owner: Any) -> dict[str, str]:
    """The types of the fields of a class as they are written, for the cell of a table."""
    return {
        line.target.id: f"`{_annotation(line.annotation)}`".replace("|", "\\|")
        for line in syntax(owner).body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }


def _annotation(written: ast.expr) -> str:
    """A type, without the quotes of one that is known later."""
    return str(written.value) if isinstance(written, ast.Constant) and written.value else ast.unparse(written)


def in_markdown(docstring: str) -> str:
    """A docstring as Markdown: sections become lists, and what Python shows as a name stays one."""
    lines: list[str] = []
    for block in re.split(r"\n\n+", docstring.strip()):
        head, _, rest = block.partition("\n")
        if re.fullmatch(r"(Raises|Args|Returns|Source):", head):
            lines += [f"{head}", "", *_list(dedent(rest)), ""]
        else:
            lines += [*block.splitlines(), ""]
    return "\n".join(lines).rstrip()


def raised(docstring: str) -> list[str]:
    """The errors that a docstring's section names."""
    _, _, section = docstring.partition("Raises:\n")
    return re.findall(r"^ +([A-Z]\w+)(?=:)", section, re.MULTILINE)


def _list(section: str) -> Iterator[str]:
    """One point per entry; a line that is indented goes on with the one before."""
    points: list[str] = []
    for line in section.splitlines():
        if line.startswith(" ") and points:
            points[-1] += f" {line.strip()}"
        else:
            points.append(line.strip())
    for point in points:
        named = re.match(r"([\w, ]+): (.*)", point)
        yield f"- `{named[1]}`: {named[2]}" if named else f"- {point}"


def in_a_cell(text: str) -> str:
    """A docstring's sentence as the cell of a table: it begins small, and has no full stop at its end."""
    flat = " ".join(text.split()).removesuffix(".")
    begins_small = len(flat) > 1 and flat[0].isupper() and (flat[1].islower() or flat[1] == " ")
    return (flat[0].lower() + flat[1:] if begins_small and not _NAMES.match(flat) else flat).replace("|", "\\|")


_NAMES = re.compile(r"(Prefect|Freshline|Python|SQLAlchemy|SQLite|Postgres|Parquet|Arrow|Ctrl|\w+Run\b)")
"""Words that begin with a capital letter wherever they stand."""
