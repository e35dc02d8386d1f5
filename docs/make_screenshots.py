"""Make the README's picture of a report: ``python docs/make_screenshots.py RUN`` (needs playwright and chromium)."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "figures" / "report.png"
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip


def main() -> None:
    """Take the top of RUN/report.html in light colours."""
    report = Path(sys.argv[1]).resolve() / "report.html"
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1180, "height": 1530}, color_scheme="light")
        page.goto(report.as_uri())
        page.screenshot(path=PICTURE)
        browser.close()
    print(f"{PICTURE}: {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
