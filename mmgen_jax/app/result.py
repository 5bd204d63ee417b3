"""What the page shows of a result, and the files of it: pictures, a mesh, and everything as one archive."""

from __future__ import annotations

import base64
import html
import io
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmgen_jax.app.form import Request
from mmgen_jax.show import pictures
from mmgen_jax.show.outputs import Outputs
from mmgen_jax.system.errors import RunError, UsageError

SCENE, COMMAND, PYTHON = "scene.glb", "again.sh", "again.py"
_SIDE = 512  # pixels of pictures that are compared


@dataclass(frozen=True)
class Result:
    """One sample, ready to be shown.

    Attributes:
      looks: label -> picture uint8 [H, W, 3].
      given: labels of what was given.
      caption: how it was made.
      mesh: a GLB file, or b"" where none can be made.
      about: what is known of the mesh, or why there is none.
      archive: a ZIP file of all of it.
    """

    looks: Mapping[str, np.ndarray]
    given: tuple[str, ...]
    caption: str
    mesh: bytes
    about: str
    archive: bytes


def result(out: Outputs, request: Request, command: str, snippet: str) -> Result:
    """Pictures and files of one sample, with what it was made of and how it is made again."""
    looks = {label: images[0] for label, images in out.pictures().items()}
    mesh, about = _mesh(out)
    files = request.files() | {COMMAND: f"{command}\n".encode(), PYTHON: snippet.encode()}
    if mesh:
        files[SCENE] = mesh
    return Result(looks, out.given, out.caption, mesh, about, _archive(out, files))


def _mesh(out: Outputs) -> tuple[bytes, str]:
    """The mesh of a sample and a line about it. That there is none is no failure of the sample."""
    if "depth" not in out:
        return b"", f"A scene needs depth; this sample has {', '.join(out)}."
    try:
        with tempfile.TemporaryDirectory() as folder:
            [scene] = out.to_3d()
            scene.save(Path(folder) / SCENE)
            return (Path(folder) / SCENE).read_bytes(), f"{scene}"
    except (UsageError, RunError) as error:
        return b"", f"There is no scene: {error}"


def _archive(out: Outputs, files: Mapping[str, bytes]) -> bytes:
    """The files of a sample as `Outputs.save` writes them, in a folder of their own, and others beside it."""
    data = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in out.save(folder):
            archive.write(Path(folder) / name, f"samples/{name}")
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def large(picture: np.ndarray) -> np.ndarray:
    """A picture for comparisons, enlarged by a whole number to about 512 pixels."""
    return pictures.enlarge(picture, max(1, _SIDE // max(picture.shape[:2])))


def figures(made: Result) -> str:
    """HTML of all pictures side by side; what was given is framed."""
    return f'<div class="looks">{"".join(_figure(label, made) for label in made.looks)}</div>'


def _figure(label: str, made: Result) -> str:
    picture, marked = made.looks[label], label in made.given
    data = base64.b64encode(pictures.png(picture)).decode()
    small = ' class="pixels"' if max(picture.shape[:2]) <= pictures.SMALL else ""
    text = html.escape(f"{label} (given)" if marked else label)
    frame = ' class="given"' if marked else ""
    image = f'<img{small} alt="{text}" src="data:image/png;base64,{data}">'
    return f"<figure{frame}>{image}<figcaption>{text}</figcaption></figure>"
