"""A crawler: fetches all pages of a web site that can be reached by links, and lists the links that are broken.

    python -m http.server --directory some/documentation 8000
    python crawler.py http://127.0.0.1:8000/ --workers 20

A pool of coroutines fetches the pages, level by level: first the one that is given, then those that it links to.  The
exit status is 0 if all could be fetched, 1 if not.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

from program import positive

import coro

LARGEST = 2**24  # bytes of a page


class Page:
    """What came of one address."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.size = 0
        self.links: set[str] = set()
        self.error = ""


class Links(HTMLParser):
    """Collects where the links and images of a page lead to."""

    def __init__(self, base: str, found: set[str]) -> None:
        super().__init__()
        self.base = base
        self.found = found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.found.add(urldefrag(urljoin(self.base, value))[0])


def get(url: str) -> tuple[int, dict[str, str], bytes]:
    """Fetch *url* by HTTP/1.0.  Returns the status, the headers and the body."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\nUser-Agent: coro-crawler\r\n\r\n"
    with coro.create_connection((parts.hostname or "", parts.port or 80)) as conn:
        conn.send(request.encode("ascii"))
        answer = bytearray()
        while data := conn.recv(65536):
            answer += data
            if len(answer) > LARGEST:
                raise ValueError(f"more than {LARGEST:,} bytes")
    head, found, body = bytes(answer).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(maxsplit=2)
    if not found or len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        raise ValueError("the answer is not HTTP")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) != len(body):
        raise ValueError(f"{len(body):,} bytes came instead of {int(length):,}")
    return int(words[1]), headers, body


def visit(url: str, timeout: float) -> Page:
    """Fetch one page and find its links.  Never fails: what went wrong is in the page."""
    page = Page(url)
    try:
        status, headers, body = coro.with_timeout(timeout, get, url)
    except (OSError, ValueError) as error:  # a timeout is an OSError
        page.error = str(error)
        return page
    page.size = len(body)
    if 300 <= status < 400 and "location" in headers:
        page.links.add(urldefrag(urljoin(url, headers["location"]))[0])
    elif status != 200:
        page.error = f"status {status}"
    elif headers.get("content-type", "").startswith("text/html"):
        Links(url, page.links).feed(body.decode("utf-8", "replace"))
    return page


def crawl(start: str, workers: int, most: int, timeout: float) -> list[Page]:
    """Visit all pages of the site of *start*, at most *most*, and return them in the order in which they came."""
    site = urlsplit(start)[:2]
    pages: list[Page] = []
    referrer = {start: ""}  # the page that first led to each address
    level = [start]
    with coro.Pool(workers) as pool:
        while level:
            found: list[str] = []
            for page in pool.imap_unordered(lambda url: visit(url, timeout), level):
                pages.append(page)
                for link in sorted(page.links):
                    if link not in referrer and urlsplit(link)[:2] == site and len(referrer) < most:
                        referrer[link] = page.url
                        found.append(link)
                progress(f"{len(pages):,} of {len(referrer):,} pages, {len(pool)} under way: {page.url}")
            level = found
    progress("")
    for page in pages:
        if page.error:
            print(f"{page.url}: {page.error}" + (f" (linked from {referrer[page.url]})" if referrer[page.url] else ""))
    return pages


def progress(line: str) -> None:
    """Show how far it is on a terminal: one line, drawn again and again."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{line[:width]:{width}}\r", end="", file=sys.stderr, flush=True)


def http_url(text: str) -> str:
    """Read the address of a page from a command line."""
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with http:// and a host")
    return urldefrag(text)[0] if parts.path else urldefrag(text)[0] + "/"


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch all pages of a web site and list the broken links.")
    parser.add_argument("url", metavar="URL", type=http_url, help="where to begin, such as http://127.0.0.1:8000/")
    parser.add_argument("--workers", metavar="N", type=positive, default=20, help="pages at once (default: 20)")
    parser.add_argument("--most", metavar="N", type=positive, default=10_000, help="pages in all (default: 10,000)")
    parser.add_argument("--timeout", metavar="S", type=float, default=30, help="seconds for each page (default: 30)")
    args = parser.parse_args()
    began = coro.get_now()
    try:
        pages = coro.run(crawl, args.url, args.workers, args.most, args.timeout)
    except KeyboardInterrupt:
        sys.exit(130)
    seconds = (coro.get_now() - began) / coro.ticks_per_sec
    broken = sum(bool(page.error) for page in pages)
    print(f"{len(pages):,} pages, {broken:,} broken, {sum(page.size for page in pages):,} bytes, {seconds:.1f} s")
    sys.exit(broken > 0)


if __name__ == "__main__":
    main()
