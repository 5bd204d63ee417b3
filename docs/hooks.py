"""What mkdocs.yml needs of Python: pages that lie outside docs/, and links to files that are not pages."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Page of the repository -> its place in the site.
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie outside docs/."""
    for path, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(_root(config) / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links for GitHub, between files of the repository, into links within the site.

    A link to a file that is not in the site, such as a config or a test, becomes the name of that file. What leads
    nowhere stays as it is, and MkDocs tells it.
    """
    root = _root(config)
    source = Path(str(page.file.abs_src_path))

    def within(match: re.Match[str]) -> str:
        text, target, heading = match[1], match[2], match[3] or ""
        linked = (source.parent / target).resolve()
        if "://" in target or not linked.is_relative_to(root) or not linked.exists():
            return match[0]
        path = linked.relative_to(root).as_posix()
        place = PAGES.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(place) is None:
            return text if path in text else f"{text} (`{path}`)"
        return f"[{text}]({posixpath.relpath(place, posixpath.dirname(page.file.src_uri))}{heading})"

    return LINK.sub(within, markdown)


def _root(config: MkDocsConfig) -> Path:
    """The folder of the repository."""
    return Path(config.config_file_path).resolve().parent
