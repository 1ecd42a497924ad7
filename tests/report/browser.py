"""Opens a page in headless Chromium, at the width of a phone and of a desktop."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

from tests.processes import run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (390, 1440)
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


def open_page(text: str, folder: Path) -> dict[int, dict[str, Any]]:
    """Returns what the browser says of the page at each width; fails if a script of the page has run.

    The page's security policy is taken out before, because it would also stop scripts that were not escaped.
    """
    assert CHROMIUM is not None
    page = html.escape(_POLICY.sub("", text))
    frames = "".join(
        f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{page}"></iframe>' for width in WIDTHS
    )
    (folder / "frames.html").write_text(
        f'<!doctype html><meta charset="utf-8"><title>none</title>{frames}<pre id="out"></pre><script>'
        "const pages = () => [...document.querySelectorAll('iframe')].map(f => f.contentDocument);"
        "onload = () => { for (const d of pages()) for (const i of d.images) i.loading = 'eager';"
        "setTimeout(() => { document.getElementById('out').textContent = JSON.stringify(pages().map(d => ({"
        "scroll: d.documentElement.scrollWidth, client: d.documentElement.clientWidth, images: d.images.length,"
        "broken: [...d.images].filter(i => !i.complete || !i.naturalWidth).length, scripts: d.scripts.length,"
        "height: d.documentElement.scrollHeight})));"
        "}, 2000); };</script>"
    )
    done = run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         f"--user-data-dir={folder / 'profile'}", "--window-size=1600,1000", "--virtual-time-budget=20000", "--dump-dom",
         (folder / "frames.html").as_uri()],
        env={"HOME": str(folder)},
    )  # fmt: skip
    out = re.search(r'<pre id="out">(.*?)</pre>', done.stdout)
    assert out is not None, done.stderr[-2000:]
    assert "<title>none</title>" in done.stdout, "a script of the page ran"
    return dict(zip(WIDTHS, json.loads(html.unescape(out[1])), strict=True))
