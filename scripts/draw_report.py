"""Draws the pictures of a report for the README, in a headless Chromium: python scripts/draw_report.py report.html"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from chromium import CHROMIUM, Chromium  # noqa: E402

FOLDER = ROOT / "docs" / "pictures"
SHOWN = {"report": (1000, 880, "#rewards", False), "report-phone": (390, 880, ".problem:has(ins)", True)}
"""Name: width and height of the window, what is at its top, whether that is opened. On the phone an edit is shown against that of
the round before."""
ADAPTED = {"adapted": (1000, 680, "#absorbed", False)}
"""Instead, of a report of `seal adapt`."""


def main(page: Path) -> None:
    """One PNG a window."""
    if not CHROMIUM:
        raise SystemExit("draw_report.py needs Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        tab = Chromium(Path(profile))
        tab.open(page.resolve())
        shown = ADAPTED if tab.js("document.querySelector('#absorbed') !== null") else SHOWN
        for name, (width, height, top, opened) in shown.items():
            tab.look(width, height)
            tab.open(page.resolve())
            tab.js("document.documentElement.style.scrollPaddingTop = '0'")
            if opened:
                tab.js(f"document.querySelector('{top}').open = true")
            tab.js("document.querySelector('.controls').style.position = 'static'")
            tab.js(f"document.querySelector('{top}').scrollIntoView()")
            (FOLDER / f"{name}.png").write_bytes(tab.picture())
        tab.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
