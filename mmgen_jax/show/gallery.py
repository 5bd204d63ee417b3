"""Writes galleries: one HTML file with all its pictures inside, to look at samples in any browser."""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from etils import epath

from mmgen_jax.show import pictures
from mmgen_jax.system import files, notebook, reading
from mmgen_jax.system.errors import UsageError, shown


@dataclass(frozen=True)
class Section:
    """One group of pictures under a heading.

    Attributes:
      title: heading.
      columns: label -> uint8 [n, H, W, 3]. A single column is shown as a grid, several columns as rows of samples.
      caption: line under the heading, with task, class, seed and steps.
      given: labels of the columns whose images were given.
      rows: name of each sample; by default its number.
      chapter: heading over neighbouring sections with the same chapter; "" means none.
    """

    title: str
    columns: Mapping[str, np.ndarray]
    caption: str = ""
    given: Sequence[str] = ()
    rows: Sequence[str] = field(default=())
    chapter: str = ""

    def _repr_html_(self) -> str:
        """The first samples as one picture, which notebooks show."""
        return figure(self, len(next(iter(self.columns.values()))))


GLANCE = 8  # samples that notebooks show


def figure(section: Section, count: int) -> str:
    """HTML of a section of `count` samples for notebooks: a picture of the first ones, and its title and caption."""
    columns = {label: images[:GLANCE] for label, images in section.columns.items()}
    names = section.rows[:GLANCE] if count > 1 else ()
    picture = pictures.png(pictures.sheet(columns, section.given, names=names))
    rest = f"the first {GLANCE} of {count}" if count > GLANCE else ""
    return notebook.figure(picture, "png", "; ".join(filter(None, (section.title, section.caption, rest))))


def store(path: epath.PathLike, sections: Sequence[Section]) -> None:
    """Writes sections to an NPZ file, for a gallery that is made later."""
    meta = [
        {
            "title": s.title,
            "caption": s.caption,
            "given": list(s.given),
            "rows": list(s.rows),
            "chapter": s.chapter,
            "columns": list(s.columns),
        }
        for s in sections
    ]
    arrays = {f"{i}.{j}": x for i, s in enumerate(sections) for j, x in enumerate(s.columns.values())}
    file = io.BytesIO()
    np.savez_compressed(file, meta=np.array(json.dumps(meta)), **arrays)  # type: ignore[arg-type]  # the stubs take each for `allow_pickle`
    files.write(path, file.getvalue())


def restore(path: epath.PathLike) -> list[Section]:
    """Reads the sections that `store` wrote. Raises UsageError for anything else."""
    data = reading.contents(path)
    try:
        with np.load(io.BytesIO(data)) as arrays:
            found = [
                Section(**entry | {"columns": {label: arrays[f"{i}.{j}"] for j, label in enumerate(entry["columns"])}})
                for i, entry in enumerate(reading.parse_json(str(arrays["meta"]), path, list))
            ]
        return checked(found)
    except Exception as error:  # damaged archives raise anything
        raise UsageError(f"{path} is damaged, or not of the command that shows models; move it away") from error


STYLE = """
:root { color-scheme: light dark; --paper: #f6f7f9; --card: #ffffff; --ink: #1f242e; --muted: #6b7280;
  --line: #e3e6eb; --given: #f59e0b; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1218; --card: #181d26; --ink: #e8eaee; --muted: #98a1b0;
  --line: #2a313d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.02em; }
h2, h3 { font-size: 18px; line-height: 1.3; margin: 0; }
.chapter:has(h3) { margin-top: 48px; }
.chapter:has(h3) h2 { font-size: 22px; letter-spacing: -.01em; }
p { margin: 2px 0 0; color: var(--muted); }
nav { margin-top: 14px; display: flex; flex-wrap: wrap; gap: 8px; }
nav a { color: inherit; text-decoration: none; border: 1px solid var(--line); border-radius: 99px; padding: 2px 12px;
  background: var(--card); font-size: 13px; }
nav a:hover { border-color: var(--given); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 20px; margin-top: 24px;
  scroll-margin-top: 12px; }
.scroll { overflow-x: auto; margin-top: 14px; padding: 4px; }
table { border-collapse: separate; border-spacing: 6px; margin: 0 -6px; }
th { font-weight: 500; font-size: 13px; white-space: nowrap; padding: 0 4px 2px; }
tbody th { color: var(--muted); text-align: right; }
.mark { color: var(--given); font-size: 12px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(112px, 1fr)); gap: 8px; margin-top: 16px; }
.grid figure { margin: 0; }
.grid figcaption { font-size: 12px; color: var(--muted); text-align: center; }
img { display: block; width: 100%; border-radius: 4px; cursor: zoom-in; transition: transform .12s ease; }
td img { width: var(--side); }
.pixels { image-rendering: pixelated; }
img.given { outline: 3px solid var(--given); outline-offset: 0; }
img:hover { transform: scale(1.06); position: relative; z-index: 1; box-shadow: 0 6px 24px #0006; }
dialog { border: 0; padding: 0; background: transparent; max-width: none; max-height: none; text-align: center; }
dialog::backdrop { background: #000c; }
dialog img { width: min(86vw, 82vh); cursor: zoom-out; border-radius: 8px; }
dialog img:hover { transform: none; }
dialog p { color: #fff; margin-top: 10px; }
@media (max-width: 640px) { main { padding: 24px 12px; } section { padding: 14px; } td img { width: 96px; } }
"""

SCRIPT = """
const dialog = document.querySelector('dialog');
document.querySelectorAll('section img').forEach(image => image.addEventListener('click', () => {
  const big = dialog.querySelector('img');
  big.src = image.src; big.className = image.className; big.alt = image.alt;
  dialog.querySelector('p').textContent = image.alt;
  dialog.showModal();
}));
dialog.addEventListener('click', () => dialog.close());
"""


def _image(picture: np.ndarray, label: str, given: bool) -> str:
    small = max(picture.shape[:2]) <= pictures.SMALL
    classes = " ".join(name for name, on in (("pixels", small), ("given", given)) if on)
    data = base64.b64encode(pictures.png(picture)).decode()
    return f'<img class="{classes}" alt="{html.escape(label)}" src="data:image/png;base64,{data}">'


def _rows(section: Section) -> Sequence[str]:
    count = len(next(iter(section.columns.values())))
    return section.rows or [str(i) for i in range(count)]


def _grid(section: Section) -> str:
    ((label, images),) = section.columns.items()
    cells = [
        f"<figure>{_image(image, f'{label}, {row}', label in section.given)}<figcaption>{html.escape(row)}</figcaption>"
        "</figure>"
        for row, image in zip(_rows(section), images, strict=True)
    ]
    return f'<div class="grid">{"".join(cells)}</div>'


def _table(section: Section) -> str:
    mark = ' <span class="mark">given</span>'
    heads = [f"<th>{html.escape(label)}{mark if label in section.given else ''}</th>" for label in section.columns]
    body = []
    for i, row in enumerate(_rows(section)):
        cells = [
            f"<td>{_image(images[i], f'{label}, {row}', label in section.given)}</td>"
            for label, images in section.columns.items()
        ]
        body.append(f"<tr><th>{html.escape(row)}</th>{''.join(cells)}</tr>")
    head = f"<thead><tr><th></th>{''.join(heads)}</tr></thead>"
    # Sizes are multiples of 32, so that all pixels of an enlarged small picture have the same size.
    side = next((side for side, most in ((160, 5), (128, 7)) if len(section.columns) <= most), 96)
    return f'<div class="scroll"><table style="--side: {side}px">{head}<tbody>{"".join(body)}</tbody></table></div>'


def card(number: int, section: Section) -> str:
    """HTML of a section, whose anchor has this number; for a `document`."""
    body = _grid(section) if len(section.columns) == 1 else _table(section)
    caption = f"<p>{html.escape(section.caption)}</p>" if section.caption else ""
    level = "h3" if section.chapter else "h2"
    return f'<section id="s{number}"><{level}>{html.escape(section.title)}</{level}>{caption}{body}</section>'


def _links(numbers: Sequence[int], sections: Sequence[Section]) -> str:
    links = "".join(f'<a href="#s{i}">{html.escape(sections[i].title)}</a>' for i in numbers)
    return f"<nav>{links}</nav>" if len(numbers) > 1 else ""


def _chapter(name: str, numbers: Sequence[int], sections: Sequence[Section]) -> str:
    """HTML of the sections of one chapter, with links to them if there are several."""
    head = f"<h2>{html.escape(name)}</h2>" if name else ""
    body = "".join(card(i, sections[i]) for i in numbers)
    return f'<div class="chapter">{head}{_links(numbers, sections)}{body}</div>'


def checked(sections: object) -> list[Section]:
    """Sections that a user passes. Raises UsageError for what is none, and for columns that are no pictures."""
    if not isinstance(sections, list | tuple) or not all(isinstance(s, Section) for s in sections):
        raise UsageError(f"sections is {shown(sections)}; allowed: a list of gallery.Section")
    for section in sections:
        columns = section.columns.values() if isinstance(section.columns, Mapping) else ()
        if len({len(_pictures(images)) for images in columns}) != 1:
            raise UsageError(f"section {shown(section.title)} has no columns of equally many pictures, which it needs")
    return list(sections)


def _pictures(images: object) -> np.ndarray:
    """Pictures uint8 [n, H, W, 3]. Raises UsageError."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise UsageError(f"a column of sections is {shown(images)}; allowed: uint8 [n, H, W, 3]")
    return images


def page(sections: Sequence[Section], title: str, caption: str = "") -> bytes:
    """One HTML file that contains all its pictures and is light or dark as the reader's system is set.

    Raises UsageError for a title that is not text.
    """
    if not isinstance(title, str):
        raise UsageError(f"title is {shown(title)}; allowed: text")
    groups = itertools.groupby(range(len(sections)), lambda i: sections[i].chapter)
    return document(title, "".join(_chapter(name, list(numbers), sections) for name, numbers in groups), caption)


def document(title: str, body: str, caption: str = "", style: str = "") -> bytes:
    """An HTML file with the look of galleries: a heading, a caption and `body`, which is HTML; `style` is more CSS."""
    below = f"<p>{html.escape(caption)}</p>" if caption else ""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head>"
        f"<body><main><header><h1>{html.escape(title)}</h1>{below}</header>{body}</main>"
        f'<dialog><img alt=""><p></p></dialog><script>{SCRIPT}</script></body></html>\n'
    )
    return page.encode(errors="replace")


def write_gallery(path: epath.PathLike, sections: Sequence[Section], title: str, caption: str = "") -> None:
    """Writes `page` to a file."""
    files.write(path, page(sections, title, caption))
