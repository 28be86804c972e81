"""What is said of the package outside of it: to package indexes, to pip, and to the workflows of a forge."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_readme_of_a_package_index_has_no_link_that_leads_nowhere() -> None:
    """Links into the repository are plain text there, and pictures are named; the rest is as it was."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = readme
    for change in PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    assert [link for link in re.findall(r"\]\(([^)]*)\)", text) if not link.startswith("https://")] == []
    assert text.count("*(Picture: ") == readme.count("![") > 3
    assert [line for line in text.splitlines() if line.startswith("```")] == re.findall("^```.*$", readme, re.MULTILINE)


def brought_by(*names: str) -> set[str]:
    """The packages that these require, and those that they require in turn, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub("[-_.]+", "-", waiting.pop()).lower()
        if name not in found:
            found.add(name)
            asked = [Requirement(text) for text in requires(name) or []]
            waiting += [each.name for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def test_keras_and_mlflow_bring_all_but_tensorflow() -> None:
    """With `pip install --no-deps` nothing else is to be named, as docs/how-to/install.md says."""
    needed = {Requirement(text).name for text in PYPROJECT["project"]["dependencies"]}
    assert needed - brought_by("keras", "mlflow") == {"tensorflow"}
    page = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    asked = {Requirement(text).name: text for text in PYPROJECT["project"]["dependencies"]}
    (jax,) = PYPROJECT["project"]["optional-dependencies"]["jax"]
    both = f"'{asked['keras']}' '{asked['mlflow']}'"
    assert f"pip install tensorflow-cpu\npip install --no-deps .\npip install {both}\n" in page
    # What `.ci/run jax` runs.
    assert f"<!-- jax alone -->\n```sh\npip install --no-deps .\npip install {both} '{jax}'\n```\n" in page


def test_workflows_run_parts_of_ci_run() -> None:
    """All that they do beside what GitHub brings is `.ci/run`, with parts that are there."""
    parts = re.findall(r"^(\w+)\(\) \{", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    named: set[str] = set()
    nightly: set[str] = set()
    for file in (ROOT / ".github" / "workflows").iterdir():
        for job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].values():
            for command in (step["run"] for step in job["steps"] if "run" in step):
                script, *asked = command.split(" ", 1)
                assert script == ".ci/run"
                nightly |= set(" ".join(asked).split()) if "matrix" not in command else set()
            named |= {row["part"] for row in job.get("strategy", {}).get("matrix", {}).get("include", [])}
    assert named == {"checks", "site", "alone", "lowest", "jax", "package"} <= set(parts)
    assert nightly == {"checks", "site", "coverage", "lowest", "jax_whole", "package"} <= set(parts)
