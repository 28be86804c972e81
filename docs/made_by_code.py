"""What the site takes from the code itself, and the promise that its pages load nothing from the network.

MkDocs calls the functions `on_…`; mkdocs.yml names this file. A line `<!-- made by code: NAME -->` of a page is
replaced by what `MAKERS[NAME]` returns, so that a command, a measure or an error is described in one place.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from gradcam_callbacks import cli
from gradcam_callbacks.explaining.evaluating.measures import QUALITIES
from gradcam_callbacks.explaining.methods import METHODS
from gradcam_callbacks.record.health import HEALTH
from gradcam_callbacks.record.measures import MEASURES

PACKAGE = Path(cli.__file__).parent
# What nbconvert adds to each notebook for diagrams, of which there are none; it would load them from elsewhere.
_DIAGRAMS = re.compile(r'<script type="module">(?:(?!</script>).)*jp-Mermaid.*?</script>', re.DOTALL)
_MARK = re.compile(r"^<!-- made by code: ([a-z]+) -->$", re.MULTILINE)
# What a browser fetches by itself: not links that a person follows.
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?![^>]*rel=["']?canonical)[^>]*\bhref=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|(?:@import|url\(|import\()\s*["']?((?:https?:)?//[^"'\s)]+)"""
)
_ERRORS = ("GradCAMError", "NotInstalledError")
# The rooms in which errors are raised, as a user would call them.
_ROOMS = {
    "probes": "Probes, pictures, targets and regions",
    "explaining": "Models, layers and maps",
    "callback": "The callback",
    "training": "The callback",
    "sweeping": "Checkpoints",
    "publishing": "Runs, MLflow and journals",
    "record": "Journals on disk",
    "reviewing": "The review page",
    "drawing": "Drawing",
    "demo": "The demo",
    "cli": "The command",
}


def commands() -> str:
    """Every command with its arguments, its options and its examples, as `--help` says them."""
    parts = []
    for name, command in sorted(cli.main.commands.items()):
        context = click.Context(command, info_name=f"gradcam {name}", max_content_width=80, terminal_width=80)
        parts.append(f"## gradcam {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def measures() -> str:
    """The table of what is measured."""
    lines = ["| measure | what it is | range | better | metrics |", "|---|---|---|---|---|"]
    for row in MEASURES.values():
        better = {True: "lower", False: "higher", None: ""}[row.lower_is_better]
        limits = "" if row.low is None else f"{row.low} to {row.high}"
        each = f"{row.section}/<probe>.<target>" if row.section is not None and row.has_each else None
        metrics = ", ".join(f"`{key}`" for key in (each, row.mean) if key is not None)
        lines.append(f"| {row.title} | {row.says} | {limits} | {better} | {metrics} |")
    return "\n".join(lines)


def qualities() -> str:
    """The table of what `evaluate` measures."""
    lines = ["| measure | `values[…]` | what it is | range | better | paper |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {q.title} | `{q.name}` | {q.says} | {q.range} | {q.better} | {q.source} |" for q in QUALITIES.values()
    ]
    return "\n".join(lines)


def methods() -> str:
    """The methods, each with the first sentence of its docstring."""
    rows = [(name, (method.__doc__ or "").strip().partition("\n")[0]) for name, method in METHODS.items()]
    return "\n".join(["| `method=` | what it is |", "|---|---|", *(f"| `{name}` | {says} |" for name, says in rows)])


def health() -> str:
    """The states of a map, each with what it means and what to try."""
    return "\n".join(
        ["| health | what it means, and what to try |", "|---|---|", *(f"| `{n}` | {s} |" for n, s in HEALTH.items())]
    )


def errors() -> str:
    """All messages of `GradCAMError`, by room and in alphabetic order; "…" stands for what changes."""
    found: dict[str, set[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found.setdefault(_ROOMS.get(room, "Elsewhere"), set()).update(_messages(file))
    return "\n".join(
        f"## {title}\n\n" + "\n".join(f"- {message}" for message in sorted(messages, key=str.lower)) + "\n"
        for title, messages in sorted(found.items(), key=lambda room: room[0] == "Elsewhere")
        if messages
    )


def _messages(file: Path) -> Iterator[str]:
    """What the errors in a file say."""
    yield from _said_in(ast.parse(file.read_text(encoding="utf-8")), {})


def _said_in(node: ast.AST, texts: Mapping[str, ast.expr]) -> Iterator[str]:
    """What they say in a part of it; a name stands for the first text that its function, or the file, gives it."""
    if isinstance(node, ast.Module | ast.FunctionDef):
        texts = dict(texts)
        inner = node.body if isinstance(node, ast.Module) else list(ast.walk(node))
        for assign in reversed(inner):
            if isinstance(assign, ast.Assign) and isinstance(assign.value, ast.Constant | ast.JoinedStr):
                texts |= {target.id: assign.value for target in assign.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _ERRORS:
        argument = next((keyword.value for keyword in node.keywords if keyword.arg == "argument"), None)
        said = " ".join(_text(part, texts) for part in node.args[:2])
        said = said.replace("{argument}", f"{argument.value if isinstance(argument, ast.Constant) else '…'}=…")
        if len(re.findall("[a-z]{3}", said)) > 2:
            yield re.sub(r"([<*_`|\[\]])", r"\\\1", " ".join(said.split()))
    for child in ast.iter_child_nodes(node):
        yield from _said_in(child, texts)


def _text(node: ast.expr, texts: Mapping[str, ast.expr]) -> str:
    """A string as it is written, with "…" for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, texts) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, texts) if isinstance(node.value, ast.Name) else "…"
    if isinstance(node, ast.Name) and node.id in texts:
        return _text(texts[node.id], {})
    return "…"


MAKERS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "errors": errors,
    "health": health,
    "measures": measures,
    "methods": methods,
    "qualities": qualities,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts in what is made by code."""
    return _MARK.sub(lambda mark: MAKERS[mark[1]](), markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Warns, which ends a strict build, where a browser would fetch something from elsewhere."""
    output = _DIAGRAMS.sub("", output)
    for match in _FETCHED.finditer(output):
        logging.getLogger("mkdocs.hooks").warning("%s loads %s", page.file.src_uri, next(filter(None, match.groups())))
    return output
