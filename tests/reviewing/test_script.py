"""The modules of the page become one script, or an error says why not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gradcam_callbacks.reviewing import script as of_page
from gradcam_callbacks.reviewing.script import script

MODULES = Path(of_page.__file__).parent / "page" / "js"


def put(folder: Path, **modules: str) -> Path:
    for name, source in modules.items():
        (folder / f"{name}.js").write_text(source, encoding="utf-8")
    return folder


def test_modules_stand_behind_what_they_import(tmp_path: Path) -> None:
    """Each module is there once, behind all that it imports, without imports, exports and comments on types."""
    folder = put(
        tmp_path,
        main='// @ts-check\nimport { b } from "./b.js";\nimport {\n  a,\n  more,\n} from "./a.js";\nrun(a, b, more);\n',
        b='import { a } from "./a.js";\n/** @type {() => number} */\nexport function b() {\n  return a + 1;\n}\n',
        a="/**\n * Of one.\n * @import { T } from './types.js'\n */\nexport const a = 1;\nexport class more {}\n",
        types="neither imported nor read",
    )
    assert script(folder) == (
        '"use strict";\n(() => {\n'
        "const a = 1;\nclass more {}\n\n"
        "function b() {\n  return a + 1;\n}\n\n"
        "// @ts-check\nrun(a, b, more);\n"
        "})();\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        'import a from "./a.js";',
        'import * as all from "./a.js";',
        'import { a as b } from "./a.js";',
        'import "./a.js";',
        'import { a } from "./below/a.js";',
        'import { a } from "elsewhere";',
        "import { a } from './a.js';",
        'const late = await import("./a.js");',
        "const here = import.meta.url;",
        "export default function () {}",
        "export { a };",
        'export * from "./a.js";',
        "export const { a, b } = pair;",
        "  export const a = 1;",
    ],
)
def test_other_forms_are_refused(tmp_path: Path, line: str) -> None:
    """What would not mean the same once modules are put together is an error that shows it."""
    folder = put(tmp_path, main=f"{line}\n", a="export const a = 1;\n")
    with pytest.raises(ValueError, match=rf"main\.js cannot be put together .*{re.escape(line.split()[-1])}"):
        script(folder)


def test_a_name_is_there_once(tmp_path: Path) -> None:
    """Two modules with the same name at their top, exported or not, are an error; within functions names are free."""
    own = "export function {}() {{\n  const size = 1;\n  return size;\n}}\n"
    folder = put(tmp_path, main='import { a } from "./a.js";\nconst size = 2;\n', a=own.format("a"))
    assert "const size = 2;" in script(folder)
    put(tmp_path, a=f"{own.format('a')}let size = 3;\n")
    with pytest.raises(ValueError, match=r"'size' is at the top of both a\.js and main\.js; rename one\."):
        script(folder)
    put(tmp_path, a="const [size, a] = [1, 2];\n")
    with pytest.raises(ValueError, match=r"a\.js declares several names at once"):
        script(folder)


def test_a_circle_is_refused(tmp_path: Path) -> None:
    """Modules that import each other have no order, and the error names them."""
    folder = put(
        tmp_path,
        main='import { a } from "./a.js";\n',
        a='import { b } from "./b.js";\n',
        b='import { a } from "./a.js";\n',
    )
    with pytest.raises(ValueError, match=r"main\.js imports a\.js imports b\.js imports a\.js: modules in a circle"):
        script(folder)


def test_the_page_has_all_of_its_modules(tmp_path: Path) -> None:
    """Every module but the types is in the script, once, and the script is one that can be parsed."""
    whole = script(MODULES)
    assert not re.search(r"^\s*(import|export)\b|\bimport\(|@param", whole, re.MULTILINE)
    for module in MODULES.glob("*.js"):
        opening = re.search(r"/\*[\s*]*(.+)", module.read_text(encoding="utf-8"))
        assert opening is not None
        assert whole.count(opening[1]) == (module.name != "types.js"), module.name
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node: apt-get install nodejs")
    file = tmp_path / "whole.js"
    file.write_text(whole, encoding="utf-8")
    subprocess.run([node, "--check", str(file)], check=True, timeout=60)
