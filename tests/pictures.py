"""Pictures of the dashboard with a dozen tenants: `python -m tests.pictures` takes them for docs/pictures/."""

import asyncio
from io import BytesIO
from pathlib import Path

from PIL import Image  # matplotlib brings it

from tests.rigs.browser import PHONE, Scheme, chromium, visit
from tests.rigs.dashboard import Pages
from tests.rigs.deployment import ROOT
from tests.rigs.served_pages import served

FOLDER = Path("docs/pictures")
MOST_BYTES = 150_000

_REJECTED, _PARTLY = "/certificate?name=reisebuero-ost/new.pfx", "/certificate?name=optik-sander/www.pfx"
PICTURES: dict[str, tuple[str, tuple[int, int], Scheme]] = {
    "fleet": ("", (1280, 1010), "light"),
    "dark": ("", (1280, 1010), "dark"),
    "certificate": (_PARTLY, (1280, 1180), "light"),
    "rejected": (_REJECTED, (1280, 800), "light"),
    "phone": ("", (PHONE[0], 1240), "light"),
}
"""By file name: which page, how much of it, and what the person prefers."""


async def _take() -> None:
    made = Pages()
    async with served() as server, chromium() as browser:
        server.made = {
            "": lambda query: made.fleet(query=query),
            "certificate": lambda query: made.certificate(query["name"]),
        }
        for name, (path, size, scheme) in PICTURES.items():
            async with visit(browser, size=size, scheme=scheme) as visitor:
                await visitor.page.goto(server.url + path)
                _keep(ROOT / FOLDER / f"{name}.png", await visitor.page.screenshot())


def _keep(path: Path, picture: bytes) -> None:
    """Write a picture with 256 colours, which takes less than half; by octree, which keeps rare ones too."""
    with Image.open(BytesIO(picture)) as full:
        few = full.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(path, "PNG", optimize=True)


if __name__ == "__main__":
    (ROOT / FOLDER).mkdir(parents=True, exist_ok=True)
    asyncio.run(_take())
