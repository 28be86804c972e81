"""The script of the review page: its modules, put together into one.

A page that loads nothing has one script in it, so the modules are put one after the other, each behind those that it
imports, without their `import` lines and the word `export`, in one function. That works where each name at the top of a
module is there once among all modules. The forms that can be put together are few:

    import { a, b } from "./module.js";
    export const a = …   export function b() { … }   export class C { … }
"""

from __future__ import annotations

import re
from importlib.resources.abc import Traversable

_IMPORT = re.compile(r'^import \{\s*\w+(?:,\s*\w+)*,?\s*\} from "\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:const|let|function|async function|class) \w)", re.MULTILINE)
# What is left of other forms: a statement, `import()` or `import.meta`.
_OTHER = re.compile(r"^\s*(?:import|export)\b.*|\bimport\s*[(.].*", re.MULTILINE)
_DECLARED = re.compile(r"^(?:async function\*?|function\*?|class|const|let|var)\b\s*(.*)", re.MULTILINE)
# Comments on types, which say nothing to a browser.
_DOCUMENTED = re.compile(r"^[ \t]*/\*\*(?:(?!\*/).)*\*/[ \t]*\n", re.MULTILINE | re.DOTALL)


def script(folder: Traversable, main: str = "main.js") -> str:
    """The module `main` and all that it imports, as one script for a browser.

    Args:
        folder: where the modules are.
        main: the name of the file that is run last.

    Raises:
        ValueError: if a module imports or exports in another form, declares names in another form, or imports itself,
            also by way of others; or if two modules have the same name at their top.
    """
    bodies: dict[str, str] = {}
    _add(folder, main, bodies, ())
    owners: dict[str, str] = {}
    for module, body in bodies.items():
        for declared in _names(module, body):
            if declared in owners:
                raise ValueError(f"'{declared}' is at the top of both {owners[declared]} and {module}; rename one.")
            owners[declared] = module
    return '"use strict";\n(() => {\n' + "\n".join(bodies.values()) + "})();\n"


def _add(folder: Traversable, module: str, bodies: dict[str, str], importers: tuple[str, ...]) -> None:
    """Adds what a module imports, then the module itself."""
    if module in importers:
        raise ValueError(f"{' imports '.join((*importers, module))}: modules in a circle have no order.")
    if module in bodies:
        return
    source = (folder / module).read_text(encoding="utf-8")
    for imported in _IMPORT.findall(source):
        _add(folder, imported, bodies, (*importers, module))
    body = _EXPORT.sub("", _IMPORT.sub("", _DOCUMENTED.sub("", source)))
    other = _OTHER.search(body)
    if other:
        raise ValueError(f"{module} cannot be put together with others because of '{other[0].strip()}'.")
    bodies[module] = body


def _names(module: str, body: str) -> list[str]:
    """The names that a module declares at its top, where lines are not indented."""
    names = []
    for declaration in _DECLARED.finditer(body):
        name = re.match(r"[\w$]+", declaration[1])
        if name is None:
            raise ValueError(f"{module} declares several names at once in '{declaration[0]}'; declare each by itself.")
        names.append(name[0])
    return names
