"""The review page is written by one call, of journals and of runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.journals import make_journal

from gradcam_callbacks import GradCAMError, write_report
from gradcam_callbacks.reviewing import report


def test_a_page_of_one_journal_and_of_several() -> None:
    """It is that of `report.build`; names are those of the runs, of the folders, or as given."""
    one, two = make_journal(Path("one"), run_name="calm_hawk"), make_journal(Path("two"))
    assert write_report("one") == Path("report.html")
    assert Path("report.html").read_text(encoding="utf-8") == report.build([one], names=["calm_hawk"])
    page = write_report([Path("one"), "two"], "pages/both.html")
    assert page.read_text(encoding="utf-8") == report.build([one, two], names=["calm_hawk", "two"])
    named = write_report(["one", "two"], page, names=["before", "after"])
    assert named.read_text(encoding="utf-8") == report.build([one, two], names=["before", "after"])


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (["one", "nowhere"], r"'nowhere' is no journal: it holds no manifest\.json\. A run is written runs:/ID\."),
        ([], r"No journal to report; pass at least one\."),
        (["one", "other"], r"'one' and 'other' have different probes"),
    ],
)
def test_what_is_no_journal_is_refused(sources: list[str], said: str) -> None:
    """Nothing is written then."""
    make_journal(Path("one"))
    make_journal(Path("other"), digest="b" * 64, names=("cat", "mug"))
    with pytest.raises(ValueError, match=said):
        write_report(sources)
    assert not Path("report.html").exists()


def test_the_error_names_the_argument() -> None:
    """So that the command can say that it was typed wrong."""
    with pytest.raises(GradCAMError) as raised:
        write_report("nowhere")
    assert raised.value.argument == "sources"
