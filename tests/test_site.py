"""The site that mkdocs.yml makes of the pages: it builds, its links lead somewhere, and nothing in it is fetched."""

from __future__ import annotations

import html
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from mmgen_jax import MMGen, Outputs

config = pytest.importorskip("mkdocs.config", reason="./launch/setup.sh --docs brings MkDocs")

ROOT = Path(__file__).parents[1]
REPOSITORY_PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/use/tour.ipynb": "use/tour.md",
}
# Elements that make a browser fetch something by itself, unlike links that a reader follows.
FETCHING = re.compile(r"<(?:img|script|link|iframe|source)\b[^>]*?\b(?:src|href)=\"([^\"]*)\"")
TARGET = re.compile(r"\b(?:src|href)=\"([^\"]*)\"")


def build(root: Path, site: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mkdocs", "build", "-f", str(root / "mkdocs.yml"), "-d", str(site)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, str]:
    return {page: page.read_text() for page in site.rglob("*.html") if page.name != "404.html"}


def test_every_link_leads_somewhere_in_the_site(pages):
    assert len(pages) > 20
    for page, text in pages.items():
        for target in map(html.unescape, TARGET.findall(text)):
            path, _, anchor = target.partition("#")
            if path.startswith(("http://", "https://", "data:")):
                continue
            linked = (page.parent / unquote(path)).resolve() if path else page
            assert linked.exists(), f"{page.name} links to {target}"
            if anchor and linked in pages:
                assert f'id="{unquote(anchor)}"' in pages[linked] or anchor == "__top", f"{page.name} links to {target}"


def test_nothing_is_fetched_from_elsewhere(site, pages):
    for page, text in pages.items():
        for target in FETCHING.findall(text):
            assert not target.startswith(("http:", "https:", "//")), f"{page.name} fetches {target}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet.name


def test_a_notebook_is_a_page(site):
    text = (site / "use" / "tour.html").read_text()
    assert 'class="language-python highlight"' in text and 'href="sampling.html"' in text
    assert (site / "use" / "tour.ipynb").exists()
    assert 'href="use/tour.html"' in (site / "index.html").read_text()


def test_links_to_files_that_are_not_pages_are_their_names(site):
    text = (site / "use" / "understanding.html").read_text()
    assert "the derivation (<code>mmgen_jax/sampling/denoising.py</code>)" in text


def test_pages_are_in_the_order_and_under_the_names_of_the_readme():
    """Each group of guides in the README is a group of the site; what the README links to elsewhere is text of it."""
    text = (ROOT / "README.md").read_text()
    groups = re.findall(r"^([^\n]+):\n\n((?:\* \[.+\n)+)", text, re.M)
    line = re.compile(r"^\* \[([^]]+)\]\(([^)]+)\)", re.M)
    wanted = [
        {title: [{name: REPOSITORY_PAGES.get(path, path.removeprefix("docs/"))} for name, path in line.findall(lines)]}
        for title, lines in groups
    ]
    assert len(wanted) == 5
    assert config.load_config(str(ROOT / "mkdocs.yml")).nav == [{"Overview": "index.md"}, *wanted]


@pytest.mark.parametrize("kind", [MMGen, Outputs])
def test_the_reference_has_every_public_method(site, kind):
    text = (site / "use" / "reference.html").read_text()
    own = {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}
    methods = own - set(dir(dict))
    assert len(methods) > 5
    for name in methods:
        [anchor] = set(re.findall(rf'<h3 id="(mmgen_jax[\w.]+\.{kind.__name__}\.{name})"', text))
        assert f'href="#{anchor}"' in text


@pytest.fixture
def small(tmp_path) -> Path:
    """A repository with a page in each place, whose site is made as that of this one."""
    (tmp_path / "docs" / "use").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").touch()
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nhooks: [{ROOT / 'docs' / 'hooks.py'}]\nplugins: []\n"
        "nav: [index.md, use/page.md, contributing.md, changelog.md]\n"
    )
    (tmp_path / "README.md").write_text("# Home\n\n[page](docs/use/page.md#a-heading) and [more](CONTRIBUTING.md)\n")
    (tmp_path / "CONTRIBUTING.md").write_text("# More\n\n[home](README.md) [tests](tests/test_a.py) [all](tests)\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n")
    (tmp_path / "docs" / "use" / "page.md").write_text("# Page\n\n## A heading\n\n[more](../../CONTRIBUTING.md)\n")
    return tmp_path


def test_links_between_files_of_the_repository_become_links_of_the_site(small):
    done = build(small, small / "site")
    assert done.returncode == 0, done.stderr
    texts = {name: (small / "site" / f"{name}.html").read_text() for name in ("index", "contributing", "use/page")}
    assert '<a href="use/page.html#a-heading">page</a> and <a href="contributing.html">more</a>' in texts["index"]
    assert (
        '<a href="index.html">home</a> tests (<code>tests/test_a.py</code>) all (<code>tests</code>)'
        in (texts["contributing"])
    )
    assert '<a href="../contributing.html">more</a>' in texts["use/page"]


@pytest.mark.parametrize("target", ["../use/gone.md", "page.md#gone", "../../tests/gone.py", "../../README.md#gone"])
def test_a_link_that_leads_nowhere_ends_the_build(small, target):
    page = small / "docs" / "use" / "page.md"
    page.write_text(page.read_text() + f"\n[gone]({target})\n")
    done = build(small, small / "site")
    assert done.returncode != 0
    assert "gone" in done.stderr and "use/page.md" in done.stderr
