"""What notebooks show of a value: HTML that stands alone, as `_repr_html_` returns it."""

from __future__ import annotations

import base64
import html


def figure(picture: bytes, kind: str, caption: str) -> str:
    """A picture, the contents of a file of this kind ("png", "gif"), above its caption."""
    text, data = html.escape(caption), base64.b64encode(picture).decode()
    image = f'<img style="max-width: 100%" alt="{text}" src="data:image/{kind};base64,{data}">'
    return f'<figure style="margin: 0">{image}<figcaption>{text}</figcaption></figure>'
