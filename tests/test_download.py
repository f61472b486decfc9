"""Downloads from servers that break off, lie, lead astray, or send something else."""

from __future__ import annotations

import hashlib
import random
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from tests import webserver
from tests.webserver import Server, file, in_turn, silence, status
from vfi_cli.errors import ModelError
from vfi_cli.models import download as downloading
from vfi_cli.models.archive import take_out
from vfi_cli.models.download import (
    Policy,
    WebPageError,
    claimed,
    direct_address,
    discard,
    download,
)

BODY = random.Random(7).randbytes(300_000)
DIGEST = hashlib.sha256(BODY).hexdigest()
QUICK = Policy(timeout=5, attempts=2, pause=0.01)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with webserver.serving() as running:
        yield running


def ranges(server: Server) -> list[str | None]:
    return [headers.get("Range") for _, headers in server.seen]


def refused(server: Server, folder: Path, path: str = "/f", **options: object) -> str:
    """The one line that a download fails with."""
    with pytest.raises(ModelError) as error:
        download(server.url(path), folder, **({"policy": QUICK} | options))  # type: ignore[arg-type]
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


def test_a_file_arrives_whole(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = file(BODY)
    seen: list[tuple[int, int | None]] = []
    done = download(
        server.url("/f"),
        tmp_path / "new",
        size=len(BODY),
        sha256=DIGEST.upper(),
        progress=lambda here, total: seen.append((here, total)),
    )
    assert done.path.read_bytes() == BODY
    assert (done.size, done.sha256) == (len(BODY), DIGEST)
    assert seen[-1] == (len(BODY), len(BODY))
    assert [here for here, _ in seen] == sorted(here for here, _ in seen)
    discard(tmp_path / "new", server.url("/f"))
    assert list((tmp_path / "new").iterdir()) == []


def test_breaks_are_gone_on_from_where_they_were(server: Server, tmp_path: Path) -> None:
    """More breaks than attempts are allowed without progress: each one got further."""
    server.paths["/f"] = file(BODY, breaks=[70_000, 1, 50_000, 10])
    assert download(server.url("/f"), tmp_path, policy=QUICK).path.read_bytes() == BODY
    starts = [0, 70_000, 70_001, 120_001, 120_011]
    assert ranges(server) == [None, *(f"bytes={start}-" for start in starts[1:])]
    assert all(headers["If-Range"] == '"one"' for _, headers in server.seen[1:])


def test_a_later_run_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = file(BODY, breaks=[1000, 0, 0])
    message = refused(server, tmp_path)
    assert "breaks off after 1000 of 300000 bytes; 1000 bytes are kept" in message
    server.seen.clear()
    assert download(server.url("/f"), tmp_path, policy=QUICK).sha256 == DIGEST
    assert ranges(server) == ["bytes=1000-"]


def test_a_part_of_another_version_is_not_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = file(BODY[::-1], breaks=[1000, 0, 0], tag='"old"')
    refused(server, tmp_path)
    server.paths["/f"] = file(BODY, tag='"new"')
    assert download(server.url("/f"), tmp_path, policy=QUICK).path.read_bytes() == BODY
    assert server.seen[-1][1]["If-Range"] == '"old"'


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_without_a_firm_tag_a_download_begins_anew(
    server: Server, tmp_path: Path, tag: str | None
) -> None:
    server.paths["/f"] = file(BODY, breaks=[1000], tag=tag)
    assert download(server.url("/f"), tmp_path, policy=QUICK).path.read_bytes() == BODY
    assert ranges(server) == [None, None]


def test_a_date_serves_where_there_is_no_tag(server: Server, tmp_path: Path) -> None:
    date = "Fri, 20 Nov 2026 10:00:00 GMT"
    server.paths["/f"] = file(BODY, breaks=[1000], tag=None, Last_Modified=date)
    assert download(server.url("/f"), tmp_path, policy=QUICK).path.read_bytes() == BODY
    assert server.seen[1][1]["If-Range"] == date


def test_a_server_without_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = file(BODY, breaks=[1000], ranges=False)
    assert download(server.url("/f"), tmp_path, policy=QUICK).path.read_bytes() == BODY


def test_a_server_that_always_breaks_off_at_the_same_place_ends(
    server: Server, tmp_path: Path
) -> None:
    server.paths["/f"] = file(BODY, breaks=[1000] * 9, ranges=False)
    assert "breaks off after 1000 of 300000 bytes" in refused(server, tmp_path)
    assert len(server.seen) == 1 + QUICK.attempts


def test_progress_does_not_go_on_for_ever(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = file(BODY, breaks=[1] * 99)
    policy = Policy(timeout=5, attempts=2, pause=0, most_attempts=5)
    assert "breaks off after 5 of" in refused(server, tmp_path, policy=policy)


@pytest.mark.parametrize(
    "content_range", ["bytes 5-299999/300000", "bytes 1000-299999/999999", "", "items 1000-2/3"]
)
def test_a_wrong_part_is_thrown_away(server: Server, tmp_path: Path, content_range: str) -> None:
    """It must not be appended to what is here: everything is fetched again."""
    whole = file(BODY, breaks=[1000], ranges=False)

    def wrong(handler: webserver.Handler) -> None:
        if handler.headers.get("Range"):
            handler.answer(206, b"x" * 299_000, {"Content-Range": content_range})
        else:
            whole(handler)

    server.paths["/f"] = wrong
    assert download(server.url("/f"), tmp_path, policy=QUICK).path.read_bytes() == BODY
    assert ranges(server) == [None, "bytes=1000-", None]


def test_beginning_anew_again_and_again_is_no_progress(server: Server, tmp_path: Path) -> None:
    def wrong(handler: webserver.Handler) -> None:
        if handler.headers.get("Range"):
            handler.answer(206, b"x", {"Content-Range": "bytes 5-5/9"})
        else:
            file(BODY, breaks=[1000])(handler)

    server.paths["/f"] = wrong
    refused(server, tmp_path)
    assert len(server.seen) <= 2 * QUICK.attempts


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = in_turn(file(BODY, breaks=[1000]), status(416), file(BODY[:500]))
    assert download(server.url("/f"), tmp_path, policy=QUICK).path.read_bytes() == BODY[:500]


def test_lies_about_the_length(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = file(BODY, Content_Length="400000", ranges=False)
    assert "breaks off after 300000 of 400000 bytes" in refused(server, tmp_path)
    server.paths["/f"] = file(BODY, Content_Length="1000")
    message = refused(server, tmp_path, size=len(BODY))
    assert "the server announces 1000 bytes, not 300000" in message
    # Where the right length is not known, what was sent is cut there: only the digest tells.
    assert "is not the file that was published" in refused(server, tmp_path, sha256=DIGEST)
    server.paths["/f"] = file(BODY, Content_Length=str(10**15))
    assert f"announces {10**15} bytes; not downloaded" in refused(server, tmp_path)


def test_a_file_without_a_length_is_bounded(server: Server, tmp_path: Path) -> None:
    def chunked(handler: webserver.Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))

    server.paths["/f"] = chunked
    assert download(server.url("/f"), tmp_path, policy=QUICK).path.read_bytes() == BODY
    policy = Policy(timeout=5, attempts=1, largest=100_000)
    assert "larger than 100000 bytes" in refused(server, tmp_path, policy=policy)
    assert not list(tmp_path.glob("*.part"))


def test_a_chunked_answer_that_breaks_off(server: Server, tmp_path: Path) -> None:
    def chunked(handler: webserver.Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"1000\r\nabc")
        handler.close_connection = True

    server.paths["/f"] = chunked
    assert "breaks off after" in refused(server, tmp_path)


def test_another_file_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = file(BODY[::-1])
    message = refused(server, tmp_path, sha256=DIGEST)
    assert f"not {DIGEST[:12]}…); it was not kept" in message
    assert list(tmp_path.glob("*.part")) == []
    server.paths["/f"] = file(BODY)
    assert download(server.url("/f"), tmp_path, sha256=DIGEST).sha256 == DIGEST


def test_redirects_are_followed_with_the_range(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = status(302, Location="/there")
    server.paths["/there"] = file(BODY, breaks=[1000])
    assert download(server.url("/f"), tmp_path, policy=QUICK).path.read_bytes() == BODY
    assert ranges(server)[-1] == "bytes=1000-"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/f", "from address to address and to no file"),
        ("file:///etc/passwd", "from address to address and to no file"),
        ("ftp://127.0.0.1/f", "leads to ftp://127.0.0.1/f, which is no web page"),
    ],
)
def test_redirects_that_lead_nowhere(
    server: Server, tmp_path: Path, target: str, expected: str
) -> None:
    server.paths["/f"] = status(302, Location=target)
    assert expected in refused(server, tmp_path)
    assert len(server.seen) < 12


def test_a_long_way_of_redirects_ends(server: Server, tmp_path: Path) -> None:
    for number in range(30):
        server.paths[f"/{number}"] = status(307, Location=f"/{number + 1}")
    assert "from address to address" in refused(server, tmp_path, "/0")


def test_nothing_leads_out_of_https() -> None:
    handler = downloading._Redirects()
    asked = downloading.request.Request("https://example.org/f")
    with pytest.raises(ModelError, match="leads out of https"):
        handler.redirect_request(asked, BytesIO(), 302, "", None, "http://example.org/f")  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_file_that_is_gone(server: Server, tmp_path: Path, code: int) -> None:
    server.paths["/f"] = status(code)
    assert f"the server answers {code} " in refused(server, tmp_path)
    assert len(server.seen) == 1, "asking again does not help"


def test_a_server_in_trouble_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = in_turn(status(503), file(BODY))
    assert download(server.url("/f"), tmp_path, policy=QUICK).sha256 == DIGEST
    server.paths["/g"] = status(500)
    assert "the server answers 500 Internal Server Error" in refused(server, tmp_path, "/g")


def test_a_server_that_falls_silent(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = silence(1.5)
    policy = Policy(timeout=0.2, attempts=1, pause=0)
    assert "nothing came for 0.2 seconds" in refused(server, tmp_path, policy=policy)


def test_no_server_and_no_address(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = file(b"")
    assert "sends an empty file" in refused(server, tmp_path)
    for address in ("file:///etc/passwd", "ftp://example.org/f", "http://", "nonsense"):
        with pytest.raises(ModelError, match="is not an address that begins with https://"):
            download(address, tmp_path)
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(ModelError, match="the connection fails"):
        download(f"http://127.0.0.1:{port}/f", tmp_path, policy=QUICK)


@pytest.mark.parametrize(
    "answer",
    [
        file(b"anything", Content_Type="text/html; charset=utf-8"),
        file(b"\n <!DOCTYPE html><html><title>Virus scan warning</title>"),
        file(b"<html>", tag=None),
        file(b'\xef\xbb\xbf<?xml version="1.0"?>'),
    ],
)
def test_a_page_in_place_of_the_file(server: Server, tmp_path: Path, answer: object) -> None:
    server.paths["/f"] = answer  # type: ignore[assignment]
    with pytest.raises(WebPageError, match=r"127\.0\.0\.1 answers with a web page"):
        download(server.url("/f"), tmp_path, policy=QUICK)
    assert not list(tmp_path.glob("*.part"))


def test_an_encoding_that_was_not_asked_for(server: Server, tmp_path: Path) -> None:
    server.paths["/f"] = file(BODY, Content_Encoding="gzip")
    assert "encoding" in refused(server, tmp_path)
    assert server.seen[0][1]["Accept-Encoding"] == "identity"


def test_a_note_that_is_damaged_means_a_new_beginning(server: Server, tmp_path: Path) -> None:
    for text in ("", "[]", "{", '{"url": 3}', '{"url": "x", "total": "y", "validator": 1}'):
        server.paths["/f"] = file(BODY, breaks=[1000, 0, 0])
        refused(server, tmp_path)
        next(tmp_path.glob("*.json")).write_text(text)
        assert download(server.url("/f"), tmp_path, policy=QUICK).path.read_bytes() == BODY
        discard(tmp_path, server.url("/f"))


def test_two_programs_do_not_write_the_same_parts(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(ModelError, match="another vfi is downloading"):
        claimed(tmp_path).__enter__()
    with claimed(tmp_path):
        pass


def test_shared_links_have_a_download_form() -> None:
    drive = "https://drive.google.com/file/d/1h42aG_YP-N/view?usp=sharing"
    assert direct_address(drive) == "https://drive.google.com/uc?export=download&id=1h42aG_YP-N"
    folder = "https://www.dropbox.com/sh/abc/DEF?dl=0"
    assert direct_address(folder) == "https://www.dropbox.com/sh/abc/DEF?dl=1"
    assert direct_address("https://www.dropbox.com/scl/fi/a/f.pth?rlkey=k&dl=0") == (
        "https://www.dropbox.com/scl/fi/a/f.pth?rlkey=k&dl=1"
    )
    for other in ("https://1drv.ms/u/s!A?e=b", "https://github.com/a/b", "nonsense"):
        assert direct_address(other) is None


# Archives


def write_zip(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def complaint(path: Path, member: str = "flownet.pkl") -> str:
    target = path.with_suffix(".out")
    with pytest.raises(ModelError) as error:
        take_out(path, member, target, source="somewhere")
    message = str(error.value)
    assert message.startswith("somewhere: ")
    assert "\n" not in message
    return message


def test_only_the_one_member_is_taken_out(tmp_path: Path) -> None:
    path = write_zip(
        tmp_path / "a.zip",
        **{"train_log/flownet.pkl": b"weights", "train_log/._flownet.pkl": b"x", "run.py": b"code"},
    )
    before = set(tmp_path.iterdir())
    assert take_out(path, "flownet.pkl", tmp_path / "new") == "train_log/flownet.pkl"
    assert (tmp_path / "new").read_bytes() == b"weights"
    assert set(tmp_path.iterdir()) - before == {tmp_path / "new"}


def test_the_member_is_found_by_as_much_of_its_path_as_fits(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", **{"x/a/f.pth": b"1", "x/b/f.pth": b"2", "f/g.pth": b"3"})
    for member, expected in (("b/f.pth", b"2"), ("x/a/f.pth", b"1"), ("other/g.pth", b"3")):
        take_out(path, member, tmp_path / "new")
        assert (tmp_path / "new").read_bytes() == expected
    assert "2 files f.pth (x/a/f.pth, x/b/f.pth); unpack" in complaint(path, "f.pth")
    assert "has no h.pth (in it are x/a/f.pth, x/b/f.pth, f/g.pth)" in complaint(path, "h.pth")


def test_what_is_no_archive_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\x80\x02 no zip")
    checkpoint = write_zip(tmp_path / "c", **{"archive/data.pkl": b"x", "archive/data/0": b"y"})
    for path in (tmp_path / "f", checkpoint):
        assert take_out(path, "flownet.pkl", tmp_path / "new") is None
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "name",
    ["../flownet.pkl", "a/../../flownet.pkl", "/etc/flownet.pkl", "C:/flownet.pkl", "..\\x.pkl"],
)
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    """Even where another member is the one that is wanted: whoever made this meant no good."""
    path = write_zip(tmp_path / "a.zip", **{"flownet.pkl": b"weights", name: b"x"})
    assert "leads out of the archive" in complaint(path)
    assert not path.with_suffix(".out").exists()


def test_links_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("flownet.pkl")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "is no plain file" in complaint(tmp_path / "a.zip")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "a.zip", **{"flownet.pkl": bytes(2_000_000)})
    assert "would grow from" in complaint(path)
    path = write_zip(tmp_path / "t.zip", **{"a/data.pkl": b"x", "a/data/0": bytes(2_000_000)})
    assert "a/data/0 would grow from" in complaint(path), "torch would unpack it"
    monkeypatch.setattr("vfi_cli.models.archive.LARGEST", 1000)
    path = write_zip(tmp_path / "b.zip", **{"flownet.pkl": BODY[:2000]})
    assert "would grow from" in complaint(path)
    monkeypatch.setattr("vfi_cli.models.archive.MOST_MEMBERS", 3)
    path = write_zip(tmp_path / "c.zip", **{f"{number}": b"" for number in range(4)})
    assert "has 4 members" in complaint(path)


def test_a_bomb_that_understates_its_size_is_cut_off(tmp_path: Path) -> None:
    """Both headers say 10 bytes; deflate would give a thousand times as many."""
    path = write_zip(tmp_path / "a.zip", **{"flownet.pkl": bytes(10_000)})
    data = path.read_bytes().replace((10_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(data)
    assert "damaged" in complaint(path)
    assert not path.with_suffix(".out").exists()


def test_damaged_archives(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", **{"flownet.pkl": BODY})
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert "damaged or breaks off" in complaint(path)
    path.write_bytes(whole[:1000] + b"\xff\xff\xff" + whole[1003:])
    assert "damaged or breaks off" in complaint(path)
    path.write_bytes(b"PK\x03\x04" + b"\xff" * 99)
    assert "damaged or breaks off" in complaint(path)
    encrypted = bytearray(whole)
    encrypted[6] |= 1
    encrypted[whole.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(encrypted)
    assert "is encrypted" in complaint(path)
