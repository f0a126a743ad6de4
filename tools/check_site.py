"""Check the built site: no link or anchor is dead, and no page loads anything from another host.

python -m tools.check_site reports/site
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}
"""Elements that a browser loads something for, and the attribute that says from where."""

_NOT_LOADED = {"canonical", "next", "prev"}  # links in the head that only say where something is
_STYLE_URL = re.compile(r"(?:url\(|@import\s+)\s*['\"]?(?P<url>[^'\")\s]+)")


class SitePage(HTMLParser):
    """The anchors and links of a page.

    Attributes
    ----------
    anchors
        Names to which a link may lead.
    links
        Where its links lead.
    loaded
        What a browser loads to show it.

    Examples
    --------
    >>> page = SitePage('<h1 id="a">A</h1> <a href="b.html#c">b</a> <img src="d.png">')
    >>> page.anchors, page.links, page.loaded
    ({'a'}, ['b.html#c'], ['d.png'])
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what an element names, leads to or loads."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if given.get(_LOADED.get(tag, "")) and given.get("rel") not in _NOT_LOADED:
            self.loaded.append(given[_LOADED[tag]])


def find_faults(site: Path) -> Iterator[str]:
    """Yield each dead link, dead anchor and place on another host of a site, with its page.

    Parameters
    ----------
    site
        The folder of the built site. Links are followed as a browser does that opens its files.
    """
    pages = {path: SitePage(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for link in page.loaded:
            if urlsplit(link).netloc:
                yield f"{path.relative_to(site)}: loads {link}"
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            place = unquote(parts.path)
            target = (site / place.lstrip("/") if place.startswith("/") else path.parent / place) if place else path
            target = target.resolve()
            if not target.is_file():
                yield f"{path.relative_to(site)}: no such file: {link}"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{path.relative_to(site)}: no such anchor: {link}"
    for path in sorted(site.rglob("*.css")):
        for match in _STYLE_URL.finditer(path.read_text(encoding="utf-8")):
            if urlsplit(match["url"]).netloc:
                yield f"{path.relative_to(site)}: loads {match['url']}"


def main() -> None:
    """Print the faults of the site in the folder that the command names; exit status 1 if there are any."""
    site = Path(sys.argv[1]).resolve()
    faults = list(find_faults(site))
    print(*faults, sep="\n", end="\n" if faults else "")
    pages = len(list(site.rglob("*.html")))
    print(f"{site}: {pages} pages, {len(faults)} faults")
    sys.exit(1 if faults or not pages else 0)


if __name__ == "__main__":
    main()
