"""The page stands alone, shows everything, and cannot be taken over by what a user named."""

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch

from fguidance.testing import Declaration, Record, Report, check_divergence
from fguidance.testing.html_report import LOG_ODDS, curve, pictures
from fguidance.testing.report import as_page
from fguidance.testing.subject import as_subject

HARMLESS = {
    "article", "section", "main", "h1", "h2", "h3", "p", "pre", "code", "strong", "span", "dl", "dt", "dd", "wbr",
    "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "div", "img", "html", "head", "body", "meta",
    "title", "style",
}  # fmt: skip


class HellingerInNumPy:
    generator = "(sqrt(t) - 1)**2"
    factor = 1.0

    def value(self, log_p, log_q):
        return ((np.exp(log_p / 2) - np.exp(log_q / 2)) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        return self.factor * (np.exp(log_p) - np.exp((log_p + log_q) / 2))


class Doubled(HellingerInNumPy):
    name = "<script>alert(1)</script> & \x1b[31m"
    factor = 2.0
    declaration = Declaration(expected_failures={"weight_is_homogeneous": "<b>never</b>"})


class Bare:
    def value(self, log_p, log_q):
        return (((log_p / 2).exp() - (log_q / 2).exp()) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        if float(log_p[0]) < -10:
            raise ValueError("too small")
        return log_p.exp() - ((log_p + log_q) / 2).exp()


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def wrong() -> Report:
    checks = ["weight_matches_high_precision", "value_is_not_negative", "weight_is_homogeneous", "devices_agree"]
    return check_divergence(Doubled, checks=checks, max_examples=10, seed=0)


@pytest.fixture(scope="module")
def html(wrong: Report) -> str:
    return wrong.to_html()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_everything_is_on_the_page(wrong: Report, page: Page) -> None:
    told = " ".join(page.text.split())
    for record in wrong.records:
        assert record.check in told
        assert record.title in told
        assert record.reason in told
    (failed, *_) = wrong.failures
    for name, value in failed.counterexample.items():
        assert name in told
        assert str(value) in told
    assert f"checks=['{failed.check}'], reproduce_failure=('" in told
    assert failed.reproduce_failure is not None
    assert str(failed.reproduce_failure[1]) in told
    for name in ("date", "device", "torch", "hypothesis", "seed", "max_examples"):
        assert str(wrong.settings[name]) in told
    assert f"4 checks on {wrong.examples} examples" in told
    assert "Failed" in told


def test_what_a_user_named_is_text(page: Page) -> None:
    assert page.tags <= HARMLESS
    assert "<script>alert(1)</script> & \\x1b[31m" in page.text
    assert "<b>never</b>" in page.text


def test_nothing_is_asked_of_elsewhere(html: str, page: Page) -> None:
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert "default-src 'none'" in html
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    assert "url(" not in style.group(1)
    assert "@import" not in style.group(1)


def test_pictures_are_svg_with_a_description(page: Page) -> None:
    assert len(page.images) == 3
    for image in page.images:
        assert len(image["alt"] or "") > 80
        svg = base64.b64decode((image["src"] or "").split(",", 1)[1])
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        for element in root.iter():
            for name, value in element.attrib.items():
                assert not name.endswith("href") or value.startswith("#")


def test_a_failure_shows_in_the_curves_and_the_error() -> None:
    weights = curve(as_subject(Doubled), "weight", 0.9, torch.float64)
    middle = LOG_ODDS.index(0.0)
    assert weights.found[middle] == pytest.approx(2 * weights.expected[middle])
    assert min(weights.error) > 1e10


@pytest.mark.parametrize("source", ("js", HellingerInNumPy))
@pytest.mark.parametrize("what", ("weight", "force"))
def test_curves_of_right_ones_are_the_generators(source: object, what: str) -> None:
    found = curve(as_subject(source), what, 0.9, torch.float64)
    assert max(found.error) < 100
    assert found.found == pytest.approx(found.expected, rel=1e-9, abs=1e-12)


def test_without_generator_or_force_and_where_it_raises() -> None:
    subject = as_subject(Bare)
    assert [picture.title for picture in pictures(subject)] == ["Weight", "Force"]
    found = curve(subject, "weight", 0.5, torch.float64)
    assert np.isnan(found.found[0])
    assert found.expected == []
    assert np.isfinite(found.found[-1])


def test_a_report_without_subject_and_several_on_a_page() -> None:
    made = Report("made by hand", (Record("one", "One.", "passed", examples=1),))
    told = Page(as_page([made, made]))
    assert told.images == []
    assert told.text.count("Every check") == 2
    assert "Passed" in told.text
    assert "What failed" not in told.text


def test_matplotlib_is_loaded_for_a_figure_only_and_pyplot_never() -> None:
    program = (
        "import sys; from fguidance.testing import check_divergence as check;"
        "report = check('js', checks=['force_sums_to_zero'], max_examples=1);"
        "assert 'matplotlib' not in sys.modules; assert 'jinja2' not in sys.modules;"
        "report.to_html(); assert 'matplotlib' in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_written_over_an_older_one_the_same_each_time_and_matplotlib_left_as_it_was(
    wrong: Report, html: str, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text("older")
    with mpl.rc_context({"lines.linewidth": 9.0, "text.usetex": True}):
        before, backend = dict(mpl.rcParams), mpl.get_backend()
        assert wrong.write_html(str(path)) == path
        assert (dict(mpl.rcParams), mpl.get_backend()) == (before, backend)
    assert path.read_text(encoding="utf-8") == html
    with pytest.raises(OSError, match="No such file"):
        Report("by hand", wrong.records).write_html(tmp_path / "none" / "report.html")
