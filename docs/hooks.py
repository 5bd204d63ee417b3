"""What mkdocs.yml needs of Python: pages that lie outside docs/, notebooks, and links to files that are no pages."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Page of the repository -> its place in the site.
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
NOTEBOOK = ".ipynb"
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie outside docs/, and one for each notebook."""
    for path, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(_root(config) / path)))
    for file in [file for file in files if file.src_uri.endswith(NOTEBOOK)]:
        files.append(File.generated(config, _place(file.src_uri), content=_of_notebook(file.content_string)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links for GitHub, between files of the repository, into links within the site.

    A link to a file that is not in the site, such as a config or a test, becomes the name of that file. What leads
    nowhere stays as it is, and MkDocs tells it.
    """
    root = _root(config)
    source = Path(page.file.abs_src_path or Path(config.docs_dir) / page.file.src_uri)  # a notebook's page has no file

    def within(match: re.Match[str]) -> str:
        text, target, heading = match[1], match[2], match[3] or ""
        linked = (source.parent / target).resolve()
        if "://" in target or not linked.is_relative_to(root) or not linked.exists():
            return match[0]
        path = linked.relative_to(root).as_posix()
        place = PAGES.get(path, _place(path.removeprefix("docs/")))
        if files.get_file_from_path(place) is None:
            return text if path in text else f"{text} (`{path}`)"
        return f"[{text}]({posixpath.relpath(place, posixpath.dirname(page.file.src_uri))}{heading})"

    return LINK.sub(within, markdown)


def _place(path: str) -> str:
    """Place in the site of the page that a file in docs/ is."""
    return f"{path.removesuffix(NOTEBOOK)}.md" if path.endswith(NOTEBOOK) else path


def _of_notebook(text: str) -> str:
    """The cells of a notebook as Markdown, code in blocks."""
    cells = ((cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"])
    return "\n\n".join(f"```python\n{source}\n```" if kind == "code" else source for kind, source in cells)


def _root(config: MkDocsConfig) -> Path:
    """The folder of the repository."""
    return Path(config.config_file_path).resolve().parent
