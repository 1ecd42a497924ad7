"""Opens a page in headless Chromium, at the width of a phone and of a desktop, in light and in dark mode."""

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
#: values of Chromium's setting preferredColorScheme
SCHEMES = {"dark": 0, "light": 1}
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


#: what is asked of a page; contrast: the least one of a text with the background that is behind it
_QUESTIONS = """
const rgb = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const behind = (element, view) => {
  for (; element; element = element.parentElement) {
    const color = rgb(view.getComputedStyle(element).backgroundColor);
    if (color.length < 4 || color[3]) return color;
  }
  return [255, 255, 255];
};
const contrast = d => Math.min(...[...d.body.querySelectorAll('*')]
  .filter(e => !e.closest('svg') && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
  .map(e => [light(rgb(d.defaultView.getComputedStyle(e).color)), light(behind(e, d.defaultView))])
  .map(([a, b]) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05)));
const answers = d => ({
  scroll: d.documentElement.scrollWidth, client: d.documentElement.clientWidth, images: d.images.length,
  broken: [...d.images].filter(i => !i.complete || !i.naturalWidth).length, scripts: d.scripts.length,
  requested: d.defaultView.performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:')),
  height: d.documentElement.scrollHeight, contrast: contrast(d),
  dark: d.defaultView.matchMedia('(prefers-color-scheme: dark)').matches,
});
const pages = () => [...document.querySelectorAll('iframe')].map(f => f.contentDocument);
onload = () => {
  for (const d of pages()) for (const i of d.images) i.loading = 'eager';
  setTimeout(() => document.getElementById('out').textContent = JSON.stringify(pages().map(answers)), 2000);
};
"""


def open_page(text: str, folder: Path, scheme: str) -> dict[int, dict[str, Any]]:
    """Returns what the browser says of the page at each width; fails if a script of the page has run.

    The page's security policy is taken out before, because it would also stop scripts that were not escaped.
    """
    assert CHROMIUM is not None
    page = html.escape(_POLICY.sub("", text))
    frames = "".join(
        f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{page}"></iframe>' for width in WIDTHS
    )
    (folder / "frames.html").write_text(
        f'<!doctype html><meta charset="utf-8"><title>none</title>{frames}<pre id="out"></pre>'
        f"<script>{_QUESTIONS}</script>"
    )
    done = run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", f"--user-data-dir={folder / 'profile'}",
         "--window-size=1600,1000", "--virtual-time-budget=20000", "--dump-dom", (folder / "frames.html").as_uri()],
        env={"HOME": str(folder)},
    )  # fmt: skip
    out = re.search(r'<pre id="out">(.*?)</pre>', done.stdout)
    assert out is not None, done.stderr[-2000:]
    assert "<title>none</title>" in done.stdout, "a script of the page ran"
    return dict(zip(WIDTHS, json.loads(html.unescape(out[1])), strict=True))
