"""Fetching a file over HTTP so that what arrives is whole, or nothing is.

A download goes into a part file, with a note of which version of the file it is a part of. When
the connection breaks it goes on from there, in this run or the next, as long as the server still
has that version. What the server sends in place of the file, web pages above all, is refused.
No torch here.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from vfi_cli.errors import ModelError, OutputError

CHUNK = 1 << 18
#: How web pages begin.
PAGE = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|\?xml|!--)", re.IGNORECASE)
#: Statuses that pass: too early, too many requests, and whatever is wrong inside the server.
PASSING = (425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Policy:
    """How long to wait (seconds) and how often to try without getting any further."""

    timeout: float = 30.0
    attempts: int = 4
    pause: float = 1.0  # before the second attempt; doubled for each further one
    most_attempts: int = 100  # with progress: a server that breaks off every time ends too
    largest: int = 4_000_000_000  # bytes


@dataclass(frozen=True)
class Downloaded:
    """A whole file under a temporary name, which the caller renames or removes."""

    path: Path
    size: int
    sha256: str


#: Called with the bytes there are and the bytes there will be (None: not announced).
ProgressCallback = Callable[[int, int | None], None]


class WebPageError(ModelError):
    """A web page came in place of the file: it has to be fetched by hand."""


class _TransientError(Exception):
    """An attempt failed in a way that another one may not."""


def direct_address(page: str) -> str | None:
    """The download form of a shared link, for hosts that have one; None for other pages.

    Google Drive: ``/file/d/ID/view`` → ``/uc?export=download&id=ID``. Dropbox: ``dl=1`` in place
    of ``dl=0``, which for a folder gives a zip. Both may still answer with a page.
    """
    parts = urlsplit(page)
    host = parts.hostname or ""
    if host == "drive.google.com":
        found = re.fullmatch(r"/file/d/([\w-]+)(?:/.*)?", parts.path)
        if found is not None:
            query = urlencode({"export": "download", "id": found[1]})
            return urlunsplit((parts.scheme, parts.netloc, "/uc", query, ""))
    if host in ("dropbox.com", "www.dropbox.com"):
        asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        return urlunsplit(parts._replace(query=urlencode({**asked, "dl": "1"})))
    return None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_web_page(path: Path) -> bool:
    """Whether a file begins like a web page. Raises OSError."""
    with path.open("rb") as stream:
        return PAGE.match(stream.read(1024)) is not None


def download(
    url: str,
    folder: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    policy: Policy | None = None,
    progress: ProgressCallback | None = None,
) -> Downloaded:
    """Fetch ``url`` into a temporary file in ``folder``; go on with what is there from before.

    size, sha256: what the file must be, where that is known. Raises ModelError with one line for
    everything that a server or the way to it can do wrong, WebPageError for a page in place of
    the file, OutputError where the disk is full. After a break the part stays for the next call;
    a file that is whole but wrong is removed.
    """
    policy = policy or Policy()
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ModelError(f"{url}: is not an address that begins with https://")
    folder.mkdir(parents=True, exist_ok=True)
    part = _Part(folder, url)
    _until_whole(url, part, size, policy, progress)
    if part.size == 0:
        part.reset()
        raise ModelError(f"{url}: the server sends an empty file")
    if is_web_page(part.path):
        part.reset()
        raise _page_error(url)
    digest = sha256_of(part.path)
    if size is not None and part.size != size:
        wrong = f"{part.size} bytes, not {size}"
    elif sha256 is not None and digest != sha256.lower():
        wrong = f"SHA-256 {digest[:12]}…, not {sha256[:12]}…"
    else:
        return Downloaded(part.path, part.size, digest)
    part.reset()
    raise ModelError(f"{url}: is not the file that was published ({wrong}); it was not kept")


def _until_whole(
    url: str, part: _Part, size: int | None, policy: Policy, progress: ProgressCallback | None
) -> None:
    idle, furthest = 0, part.size
    for number in range(1, policy.most_attempts + 1):
        try:
            _attempt(url, part, size, policy, progress)
            return
        except _TransientError as error:
            idle = 0 if part.size > furthest else idle + 1
            furthest = max(furthest, part.size)
            if idle >= policy.attempts or number == policy.most_attempts:
                kept = f"; {part.size} bytes are kept, and the next pull goes on from there"
                raise ModelError(f"{url}: {error}{kept if part.resumable else ''}") from None
        time.sleep(min(policy.pause * 2 ** max(idle - 1, 0), 30))


def _attempt(
    url: str, part: _Part, size: int | None, policy: Policy, progress: ProgressCallback | None
) -> None:
    """One request. Returns when the file is whole, as far as the server says how long it is."""
    if part.resumable and part.size == part.total:
        return
    if not part.resumable:
        part.reset()
    headers = {"User-Agent": "vfi", "Accept": "*/*", "Accept-Encoding": "identity"}
    if part.size:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator or ""}
    with _open(url, headers, policy, part) as response:
        if response.headers.get_content_type() == "text/html":
            raise _page_error(url)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise ModelError(f"{url}: comes in an encoding that was not asked for")
        total = part.begin(response)
        if total is not None and size is not None and total != size:
            part.reset()
            raise ModelError(
                f"{url}: is not the file that was published (the server announces {total} bytes, "
                f"not {size})"
            )
        _check_room(url, (total or 0) - part.size, part.path.parent, policy)
        _receive(url, response, part, policy, progress)
    if part.total is not None and part.size < part.total:
        raise _TransientError(f"breaks off after {part.size} of {part.total} bytes")


def _receive(
    url: str, response: Any, part: _Part, policy: Policy, progress: ProgressCallback | None
) -> None:
    with part.path.open("ab") as stream:
        while True:
            try:
                chunk = response.read1(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _TransientError(_connection(error, policy, part)) from None
            if not chunk:
                break
            if part.size + len(chunk) > policy.largest:
                part.reset()
                raise ModelError(f"{url}: is larger than {policy.largest} bytes; not downloaded")
            try:
                stream.write(chunk)
                stream.flush()
            except OSError as error:
                raise OutputError(f"{part.path}: cannot be written ({error.strerror})") from None
            part.size += len(chunk)
            if progress is not None:
                progress(part.size, part.total)


def _page_error(url: str) -> WebPageError:
    return WebPageError(f"{urlsplit(url).hostname} answers with a web page in place of the file")


def _check_room(url: str, wanted: int, folder: Path, policy: Policy) -> None:
    if wanted > policy.largest:
        raise ModelError(f"{url}: the server announces {wanted} bytes; not downloaded")
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise OutputError(f"{folder}: {wanted} bytes are needed, {free} are free")


def _open(url: str, headers: dict[str, str], policy: Policy, part: _Part) -> Any:
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPDefaultErrorHandler(),
        _Redirects(),
        request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    try:
        return opener.open(request.Request(url, headers=headers), timeout=policy.timeout)
    except HTTPError as error:
        with error:
            raise _of_status(url, error, part) from None
    except URLError as error:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise ModelError(
                f"{url}: the server's certificate is not valid ({reason.verify_message})"
            ) from None
        raise _TransientError(_connection(reason, policy, part)) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _TransientError(_connection(error, policy, part)) from None


def _of_status(url: str, error: HTTPError, part: _Part) -> Exception:
    status = f"{error.code} {http.client.responses.get(error.code, '')}".strip()
    if error.code == 416 and part.size:  # what is here is longer than what is there
        part.reset()
        return _TransientError("the file there has changed")
    if 300 <= error.code < 400:
        return ModelError(f"{url}: the server sends from address to address and to no file")
    if error.code in PASSING:
        return _TransientError(f"the server answers {status}")
    return ModelError(f"{url}: the server answers {status}; the file may have moved")


def _connection(error: object, policy: Policy, part: _Part) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {policy.timeout:g} seconds"
    if isinstance(error, socket.gaierror):
        return "the server's name is not known; is there a network?"
    if isinstance(error, http.client.IncompleteRead | ConnectionResetError):
        of = "" if part.total is None else f" of {part.total}"
        return f"breaks off after {part.size}{of} bytes"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"the connection fails ({' '.join(text.split()) or type(error).__name__})"


class _Redirects(request.HTTPRedirectHandler):
    """Follows a few redirects, to other web servers only and never out of https."""

    max_repeats = 2
    max_redirections = 8

    def redirect_request(
        self,
        req: request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> request.Request | None:
        there = urlsplit(newurl)
        if there.scheme not in ("http", "https"):
            fp.close()
            raise ModelError(f"{req.full_url}: the server leads to {newurl}, which is no web page")
        if there.scheme != "https" and urlsplit(req.full_url).scheme == "https":
            fp.close()
            raise ModelError(f"{req.full_url}: the server leads out of https, to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Part:
    """The part of a file that is here, and of which version of the file it is a part."""

    def __init__(self, folder: Path, url: str) -> None:
        key = hashlib.sha256(url.encode()).hexdigest()[:16]
        self.path = folder / f"{key}.part"
        self._note = folder / f"{key}.json"
        self._url = url
        self.size = 0
        self.total: int | None = None
        self.validator: str | None = None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            note = json.loads(self._note.read_text(encoding="utf-8"))
            total = note["total"]
            size = self.path.stat().st_size
            if note["url"] == url and (total is None or size <= total):
                self.size, self.total, self.validator = size, total, note["validator"]

    @property
    def resumable(self) -> bool:
        """Whether a server can tell that it still has the version this is a part of."""
        return self.size > 0 and self.validator is not None

    def reset(self) -> None:
        """Forget what is here."""
        for path in (self._note, self.path):
            path.unlink(missing_ok=True)
        self.size, self.total, self.validator = 0, None, None

    def begin(self, response: Any) -> int | None:
        """Make ready for an answer's body; returns the whole file's length, if announced."""
        headers = response.headers
        length = headers.get("Content-Length")
        if response.status == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
            total = int(found[2]) if found and found[2] != "*" else None
            if not self.size or found is None or int(found[1]) != self.size:
                self.reset()
                raise _TransientError("the server sends another part than was asked for")
            if self.total is not None and total is not None and total != self.total:
                self.reset()
                raise _TransientError("the file there has changed")
            return self.total
        if response.status != 200:
            raise ModelError(f"{self._url}: the server answers {response.status}")
        self.reset()
        self.total = int(length) if length is not None and length.isdecimal() else None
        tag, modified = headers.get("ETag", ""), headers.get("Last-Modified")
        # A weak tag does not promise the same bytes.
        self.validator = tag if tag.startswith('"') else modified
        note = {"url": self._url, "total": self.total, "validator": self.validator}
        self._note.write_text(json.dumps(note), encoding="utf-8")
        return self.total


def discard(folder: Path, url: str) -> None:
    """Remove what was downloaded from ``url`` into ``folder``."""
    _Part(folder, url).reset()


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for downloads of this program alone. Raises ModelError where another does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("wb") as stream:
        try:
            import fcntl
        except ImportError:  # Windows does not let a file be replaced that another program writes
            pass
        else:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ModelError(f"another vfi is downloading into {folder}") from None
        yield
