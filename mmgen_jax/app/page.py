"""The page in the browser: what it has, and what happens when something on it is pressed."""

from __future__ import annotations

import collections
import functools
import html
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmgen_jax.api import MMGen
from mmgen_jax.app import brushes, form
from mmgen_jax.app.form import Form, Part
from mmgen_jax.app.result import Result, figures, large, result
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.sampling.solvers import SOLVERS
from mmgen_jax.system.errors import RunError, UsageError

LONGEST_QUEUE = 16  # requests that wait; more are refused
KEPT = 3600  # seconds for which the files of a result can be downloaded
_HERE = Path(__file__).parent
_FIRST = "Choose, press Make, and look. The first picture of a kind takes some seconds longer, as it is compiled."
_REFUSED = "This was not made; the message in the corner says why."  # by the library: a field's limits, a full queue
# Nothing is fetched from elsewhere, whatever the library has in its templates: fonts, analytics, decoders.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "frame-ancestors 'self'"
)


class Stopped(Exception):
    """A request that was stopped; it is no failure."""


class OnlyFromHere:
    """Adds the policy to all answers: a browser then fetches nothing from elsewhere."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"content-security-policy", _POLICY.encode())]
            await send(message)

        await self._app(scope, receive, with_policy)


class Page:
    """The page of one model. `blocks` is what Gradio shows; one request is computed at a time."""

    def __init__(self, model: MMGen, workdir: str, config: str):
        self._model, self._workdir, self._config = model, workdir, config
        self._stops: dict[str, threading.Event] = {}  # by session, of requests that wait or run
        # The library copies what it offers for download; the newest files are kept until it has surely done so.
        self._folders: collections.deque[tempfile.TemporaryDirectory] = collections.deque(maxlen=2 * LONGEST_QUEUE)
        self.blocks = self._blocks()

    def launch(self, host: str, port: int, wait: bool = True) -> str:
        """Serves the page, until the process is interrupted if `wait`; returns its address."""
        self.blocks.queue(max_size=LONGEST_QUEUE, default_concurrency_limit=1, api_open=False)
        _, address, _ = self.blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=not wait,
            max_file_size=form.MOST_BYTES,
            footer_links=[],
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
            css=(_HERE / "page.css").read_text(encoding="utf-8"),
            app_kwargs={"middleware": [Middleware(OnlyFromHere)], "docs_url": None, "redoc_url": None},
        )
        return address

    def _blocks(self) -> gr.Blocks:
        with gr.Blocks(title="mmgen_jax", analytics_enabled=False, delete_cache=(KEPT, KEPT)) as blocks:
            gr.Markdown(
                f"# mmgen_jax\n{self._workdir}: {', '.join(self._model.modalities)} of one scene, any from any."
            )
            with gr.Row():
                parts = [self._part(m) for m in self._model.modalities]
            settings = self._settings()
            with gr.Row():
                make = gr.Button("Make", variant="primary", elem_id="make")
                stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop")
            line = gr.HTML(_line(_FIRST), elem_id="line")
            looks = gr.HTML("", elem_id="looks")
            shown, before, mesh = gr.State({}), gr.State({}), gr.State(None)
            with gr.Column(visible=False) as more:  # until there is a result
                with gr.Row():
                    with gr.Column(min_width=300):
                        with gr.Row():
                            left = gr.Dropdown([], label="left", elem_id="left", min_width=120)
                            right = gr.Dropdown([], label="right", elem_id="right", min_width=120)
                        slider = gr.ImageSlider(label="compare", format="png", elem_id="slider", buttons=[])
                    with gr.Column(min_width=300):
                        scene = gr.Model3D(label="scene", height=420, elem_id="scene")
                        about = gr.HTML("", elem_id="about")
                with gr.Row():
                    how: dict[str, Any] = {"wrap_lines": True, "show_line_numbers": False, "lines": 1, "min_width": 300}
                    command = gr.Code("", language="shell", label="the same by a command", elem_id="command", **how)
                    snippet = gr.Code("", language="python", label="the same from Python", elem_id="snippet", **how)
                download = gr.DownloadButton("Download everything (zip)", elem_id="download")

            inputs = [*settings, *(x for part in parts for x in part)]
            results = [line, looks, more, left, right, mesh, about, command, snippet, download, shown, before]
            begun = make.click(self._begin, None, [make, stop, line], queue=False, **_private)
            run = begun.then(self._run, [*inputs, shown], results, show_progress_on=[looks], **_private)
            # In one answer with what makes it visible, the library forgets the scene while it loads what draws it.
            run.then(lambda path: path, mesh, scene, queue=False, **_private)
            run.failure(lambda: _line(_REFUSED, wrong=True), None, line, queue=False, **_private)
            run.then(lambda: _buttons(False), None, [make, stop], queue=False, **_private)
            stop.click(self._stop, None, [line], queue=False, **_private)
            for event in (left.change, right.change):
                event(_compared, [left, right, shown, before], slider, **_private)
        return blocks

    def _part(self, m: str) -> tuple[gr.HTML, gr.Radio, gr.Slider]:
        """What the page has for one modality."""
        with gr.Column(min_width=260):
            gr.Markdown(f"### {m}")
            role = gr.Radio(list(form.ROLES), value=form.MADE, show_label=False, elem_id=f"role-{m}")
            painter = gr.HTML(
                {"picture": "", "region": ""},
                html_template=_painter(m, self._model),
                js_on_load=(_HERE / "painter.js").read_text(encoding="utf-8"),
                elem_id=f"painter-{m}",
            )
            upload = gr.UploadButton(f"Upload {m}", type="binary", size="sm", elem_id=f"upload-{m}")
            low, high = form.STRENGTHS
            strength = gr.Slider(low, high, 1, step=0.1, label="strength", elem_id=f"strength-{m}")
            said = gr.HTML("", elem_id=f"said-{m}")
        painter.painted(fn=None, js=f"() => '{form.GIVEN}'", outputs=role, **_private)
        upload.upload(functools.partial(self._uploaded, m), upload, [painter, role, said], **_private)
        return painter, role, strength

    def _settings(self) -> Sequence[gr.components.Component]:
        """The fields that are not of one modality, in the order of `Form`."""
        a = self._model.architecture
        with gr.Row():
            classes = gr.Dropdown(
                [form.NO_CLASS, *a.facts.class_names], value=form.NO_CLASS, label="class", elem_id="class"
            )
            solver = gr.Dropdown(form.solvers(a), value=Form.solver, label="solver", elem_id="solver")
            steps = gr.Slider(1, form.MOST_STEPS, Form.steps, step=1, label="steps", elem_id="steps")
            guidance = gr.Slider(0, form.MOST_GUIDANCE, Form.guidance, step=0.1, label="guidance", elem_id="guidance")
            seed = gr.Number(Form.seed, precision=0, label="seed", elem_id="seed")
            draws = gr.Slider(1, form.MOST_DRAWS, Form.draws, step=1, label="draws", elem_id="draws")
        return classes, solver, steps, guidance, seed, draws

    def _uploaded(self, m: str, data: bytes) -> tuple[object, object, str]:
        """A file as the picture of a modality, or a line that says why not."""
        try:
            picture = form.uploaded(m, data, self._model.architecture)
        except (UsageError, RunError) as error:
            return gr.skip(), gr.skip(), _line(str(error), wrong=True)
        return {"picture": picture, "region": ""}, form.GIVEN, ""

    def _begin(self, request: gr.Request) -> tuple[object, object, str]:
        self._stops[str(request.session_hash)] = threading.Event()
        return *_buttons(True), _line("Waiting, or working.")

    def _stop(self, request: gr.Request) -> str:
        if event := self._stops.get(str(request.session_hash)):
            event.set()
        return _line("Stops after the draw that is computed.")

    def _run(self, request: gr.Request, progress: gr.Progress = gr.Progress(), *values: Any) -> tuple:  # noqa: B008
        """Makes what the form asks for. Whatever is wrong with it, the page stays as it was, and says so."""
        session = str(request.session_hash)
        stop = self._stops.get(session, threading.Event())
        *fields, last = values
        try:
            made, command, snippet = self._made(fields, stop, progress)
        except Stopped:
            return _line("Stopped."), *_UNCHANGED
        except (UsageError, RunError) as error:
            return _line(str(error), wrong=True), *_UNCHANGED
        finally:
            self._stops.pop(session, None)
        return self._shown(made, command, snippet, last)

    def _made(self, fields: Sequence[Any], stop: threading.Event, progress: gr.Progress) -> tuple[Result, str, str]:
        """The result of a form, and how it is made again. Raises Stopped, UsageError and RunError."""
        model, asked = self._model, self._form(fields)
        request = form.parse(asked, model.architecture)
        done = 0

        def drawn(count: int) -> None:
            nonlocal done
            done += count
            progress((done, asked.draws), desc="draws", unit="draws")
            if stop.is_set():
                raise Stopped

        drawn(0)
        out = model.generate(**request.arguments(model.architecture), progress=drawn)
        command, snippet = request.command(self._workdir, self._config), request.snippet(self._workdir)
        calls = SOLVERS[asked.solver].evaluations(asked.steps)
        out.caption = f"{out.caption}, {calls} evaluations of each draw"
        return result(out, request, command, snippet), command, snippet

    def _form(self, fields: Sequence[Any]) -> Form:
        """The values of `_settings` and of all `_part`s as a form."""
        names, parts = self._model.modalities, {}
        settings, rest = fields[: -3 * len(names)], fields[-3 * len(names) :]
        for i, m in enumerate(names):
            painted, role, strength = rest[3 * i : 3 * i + 3]
            painted = painted if isinstance(painted, dict) else {}
            parts[m] = Part(role, painted.get("picture", ""), painted.get("region", ""), strength)
        return Form(parts, *settings)

    def _shown(self, made: Result, command: str, snippet: str, last: dict[str, np.ndarray]) -> tuple:
        """What the page shows of a result, in the order of its parts."""
        self._folders.append(tempfile.TemporaryDirectory(prefix="mmgen-page-"))
        folder = Path(self._folders[-1].name)
        archive, mesh = folder / "mmgen.zip", folder / "scene.glb"
        archive.write_bytes(made.archive)
        if made.mesh:
            mesh.write_bytes(made.mesh)
        labels, before = list(made.looks), {f"{label} (last)": picture for label, picture in last.items()}
        left = next((label for label in labels if label in made.given), labels[0])
        right = next((label for label in labels if label != left), left)
        choices = [*labels, *before]
        return (
            _line(made.caption),
            figures(made),
            gr.Column(visible=True),
            gr.Dropdown(choices, value=left),
            gr.Dropdown(choices, value=right),
            str(mesh) if made.mesh else None,
            _line(made.about),
            command,
            snippet,
            str(archive),
            dict(made.looks),
            before,
        )


_private: dict[str, Any] = {"api_visibility": "private"}
_UNCHANGED = (gr.skip(),) * 11  # all results but the line


def _compared(left: str, right: str, shown: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> object:
    looks = shown | before
    return (large(looks[left]), large(looks[right])) if left in looks and right in looks else gr.skip()


def _buttons(busy: bool) -> tuple[object, object]:
    return gr.Button(interactive=not busy), gr.Button(interactive=busy)


def _line(text: str, wrong: bool = False) -> str:
    role = ' role="alert"' if wrong else ""
    return f'<div class="line{" wrong" if wrong else ""}"{role}>{html.escape(text)}</div>'


def _painter(m: str, model: MMGen) -> str:
    """HTML of a painter; `painter.js` works it."""
    a, kind = model.architecture, MODALITIES[m]
    size, own, free = a.image_size, brushes.of(kind, a.facts), brushes.free(kind, a.facts)
    named = " named" if kind.interval is None else ""  # regions, whose names say more than their colours
    buttons = "".join(
        f'<button type="button" data-colour="{color}" title="{html.escape(name)}" aria-label="{html.escape(name)}" '
        f'aria-pressed="{str(i == 0).lower()}" style="{"border-left-color" if named else "background"}: {color}">'
        f"{html.escape(name) if named else ''}</button>"
        for i, (name, color) in enumerate(own)
    )
    field = {"colour": '<input type="color" data-free value="#c83c32">', "level": _LEVEL}.get(free, "")
    canvas = f'<canvas width="{size}" height="{size}"></canvas>'
    return f"""<div class="painter" data-size="{size}" data-ground="{own[0][1]}" data-state="empty">
<div class="stack">{canvas}{canvas}</div>
<div class="row{named}">{buttons}{field}</div>
<div class="row"><select data-layer aria-label="what is painted"><option value="picture">paint picture</option>
<option value="region">region to make anew</option></select>
<label>brush <input type="range" data-width min="1" max="{size // 2}" value="{max(1, size // 8)}"></label></div>
<div class="row"><button type="button" data-fill>fill</button><button type="button" data-undo>undo</button>
<button type="button" data-clear>clear</button></div></div>"""


_LEVEL = '<label>far <input type="range" data-free min="0" max="255" value="0"> near</label>'
