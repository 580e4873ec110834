"""Which names of the product's modules are used outside of the module that defines them."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINKS = ("codegen", "grammar", "example_files")
TEXTS = ("*.md", "docs/*.md", "pyproject.toml", "examples/*.ipynb")


@cache
def modules() -> dict[str, ast.Module]:
    paths = [each for each in (ROOT / "maskdsl").rglob("*.py") if not {*LINKS} & {*each.parts}]
    return {dotted(path): ast.parse(path.read_text()) for path in paths}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def definitions(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node
            case ast.Assign(targets=targets):
                yield from (
                    (each.id, node) for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)
                )
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, node
            case ast.If(body=inner) | ast.Try(body=inner):
                yield from definitions(inner)


def uses(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Pairs (module, name): what is imported, and attributes of imported modules."""
    named: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, each.name) for each in node.names)
            named |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Import):
            named |= {each.asname: each.name for each in node.names if each.asname}
        elif isinstance(node, ast.Call):
            match node.args:  # of `setattr`, by its name
                case [ast.Name(id=base), ast.Constant(value=str(name)), *_] if base in named:
                    yield named[base], name
        elif isinstance(node, ast.Attribute):
            base, *inner = ast.unparse(node.value).split(".")
            yield ".".join([named.get(base, base), *inner]), node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from mentions(node.value)


def mentions(text: str) -> Iterator[tuple[str, str]]:
    """As `uses`, of programs and dotted names in a text."""
    for module, names in re.findall(r"from (maskdsl[\w.]*) import \(?([\w, \n]+)", text):
        yield from ((module, name) for name in re.findall(r"\w+", names))
    yield from re.findall(r"(maskdsl(?:\.\w+)*)[.:](\w+)", text)
    for module, names in re.findall(r"::: ([\w.]+)\n.*?members: \[([^\]]*)\]", text, re.S):
        yield from ((module, name) for name in re.findall(r"\w+", names))


def words_of(node: ast.AST) -> set[str]:
    """Names in annotations, those in quotes too."""
    found = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    quoted = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str))
    return found.union(*(re.findall(r"\w+", each) for each in quoted))


def gives(node: ast.stmt) -> set[str]:
    """The types that whoever uses it gets or has to give."""
    match node:
        case ast.FunctionDef():
            wanted = [node.returns, *(each.annotation for each in ast.walk(node.args) if isinstance(each, ast.arg))]
            return set().union(*(words_of(each) for each in wanted if each is not None))
        case ast.ClassDef():
            methods = [each for each in node.body if not getattr(each, "name", "").startswith("_")]
            return set().union(*map(words_of, node.bases), *map(gives, methods))
        case ast.AnnAssign():
            return words_of(node.annotation)
        case ast.Assign(value=value):
            return words_of(value)
    return set()


def registered(node: ast.stmt) -> bool:
    """It is used by what decorates it: a command of the command line, a feature of the language server."""
    written = " ".join(map(ast.unparse, getattr(node, "decorator_list", [])))
    return bool(re.match(r"(app|group|server|torch|triton|st)\.", written))


def used_by_others() -> set[tuple[str, str]]:
    used = set[tuple[str, str]]()
    for name, tree in modules().items():
        used |= {each for each in uses(tree) if each[0] != name}
    for folder in ("tests", "benchmarks", "docs", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            used |= {*uses(ast.parse(path.read_text()))}
    return used.union(*(mentions(path.read_text()) for each in TEXTS for path in ROOT.glob(each)))


def idle_public_names() -> list[str]:
    """Public names of modules that no other module uses, and that are no type of what others use."""
    used, idle = used_by_others(), []
    for module, tree in modules().items():
        defined = dict(reversed([*definitions(tree.body)]))
        if any(name.startswith(f"{module}.") for name in modules()):
            continue  # a package: its names are its face
        known = {name for name in defined if (module, name) in used or registered(defined[name])}
        grown = True
        while grown:
            more = set().union(*(gives(defined[name]) for name in known)) & defined.keys() - known
            grown, known = bool(more), known | more
        idle += [f"{module}.{name}" for name in defined if not name.startswith("_") and name not in known]
    return idle
