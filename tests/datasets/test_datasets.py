"""Fetching data sets, from a server on this machine: whole, resumed, truncated, wrong, absent."""

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.datasets import __main__ as datasets_command, download as download_module
from pycaffe_tools.datasets.catalogue import files_of, known
from pycaffe_tools.datasets.download import download, fetch

CONTENT = bytes(range(256)) * 4000      # about a megabyte
HASH = hashlib.sha256(CONTENT).hexdigest()


class Server(HTTPServer):
    """Serves CONTENT at every path but /missing; remembers what was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.cut_after, self.ranges = CONTENT, '"one"', None, True
        self.asked, self.stall = [], False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if self.path == "/missing":
            self.send_error(404)
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") in (None, server.etag):
            start = int(wanted[len("bytes="):-1])
        if start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.etag)
        self.end_headers()
        self.wfile.write(body[:server.cut_after if not server.stall else 1000])
        if server.stall:
            time.sleep(0.6)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_whole_and_leaves_nothing_beside_it(server, tmp_path):
    assert download(server.url + "/a.tif", tmp_path / "a.tif", HASH).read_bytes() == CONTENT
    assert names(tmp_path) == ["a.tif"]


def test_a_download_that_was_cut_goes_on_from_there(server, tmp_path):
    server.cut_after = 300_000
    with pytest.raises(UserError, match="after 300,000 of 1,024,000 bytes; the same command goes on"):
        download(server.url + "/a.tif", tmp_path / "a.tif", HASH)
    assert not (tmp_path / "a.tif").exists()
    server.cut_after = None
    assert download(server.url + "/a.tif", tmp_path / "a.tif", HASH).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"] and names(tmp_path) == ["a.tif"]


def test_a_file_that_changed_in_between_begins_anew(server, tmp_path):
    """Half of one version and half of another is neither."""
    server.cut_after = 300_000
    with pytest.raises(UserError):
        download(server.url + "/a.tif", tmp_path / "a.tif")
    server.cut_after, server.etag, server.content = None, '"two"', CONTENT[::-1]
    assert download(server.url + "/a.tif", tmp_path / "a.tif").read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.cut_after, server.ranges = 300_000, False
    with pytest.raises(UserError):
        download(server.url + "/a.tif", tmp_path / "a.tif", HASH)
    server.cut_after = None
    assert download(server.url + "/a.tif", tmp_path / "a.tif", HASH).read_bytes() == CONTENT


def test_bytes_of_another_address_are_not_gone_on_with(server, tmp_path):
    (tmp_path / "a.tif.part").write_bytes(b"x" * 1000)
    (tmp_path / "a.tif.part.json").write_text(json.dumps({"url": "http://elsewhere/a.tif", "version": None}))
    assert download(server.url + "/a.tif", tmp_path / "a.tif", HASH).read_bytes() == CONTENT


def test_killed_after_the_last_byte(server, tmp_path):
    (tmp_path / "a.tif.part").write_bytes(CONTENT)
    (tmp_path / "a.tif.part.json").write_text(json.dumps({"url": server.url + "/a.tif", "version": server.etag}))
    assert download(server.url + "/a.tif", tmp_path / "a.tif", HASH).read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_removed(server, tmp_path):
    with pytest.raises(UserError, match=f"SHA-256 {HASH}, but {'0' * 64} is expected"):
        download(server.url + "/a.tif", tmp_path / "a.tif", "0" * 64)
    assert names(tmp_path) == []


def test_a_file_that_is_there_is_compared_and_not_fetched(server, tmp_path):
    (tmp_path / "a.tif").write_bytes(CONTENT)
    download(server.url + "/a.tif", tmp_path / "a.tif", HASH)
    assert server.asked == []
    (tmp_path / "a.tif").write_bytes(b"other")
    with pytest.raises(UserError, match="is expected"):
        download(server.url + "/a.tif", tmp_path / "a.tif", HASH)
    assert (tmp_path / "a.tif").read_bytes() == b"other"


def test_what_cannot_be_reached_is_said_in_a_sentence(server, tmp_path):
    with pytest.raises(UserError, match="answers 404"):
        download(server.url + "/missing", tmp_path / "a.tif")
    with pytest.raises(UserError, match="cannot be read"):
        download("http://127.0.0.1:9/a.tif", tmp_path / "a.tif")
    with pytest.raises(UserError, match="cannot be read"):
        download("no address", tmp_path / "a.tif")
    assert names(tmp_path) == []


def test_a_server_that_stalls_is_said_in_a_sentence(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "TIMEOUT", 0.2)
    server.stall = True
    with pytest.raises(UserError, match="cannot be read .*goes on where it stopped"):
        download(server.url + "/a.tif", tmp_path / "a.tif", HASH)
    assert not (tmp_path / "a.tif").exists()


def test_terms_are_printed_before_anything_is_asked_for(server, tmp_path):
    answer = CliRunner().invoke(datasets_command.cli, ["fetch", "epfl", "-o", str(tmp_path / "epfl"), "--url", server.url])
    assert answer.exit_code == 0 and len(server.asked) == 4
    assert answer.output.index("not established") < answer.output.index("training.tif")
    assert "IEEE Trans. Medical Imaging" in answer.output and "were not compared" in answer.output
    manifest = json.loads((tmp_path / "epfl" / "dataset.json").read_text())
    assert manifest["files"][0]["sha256"] == HASH and not manifest["files"][0]["compared"]


def test_terms_are_printed_when_the_hash_is_wrong_too(server, tmp_path):
    answer = CliRunner().invoke(datasets_command.cli, ["fetch", "vnc", "-o", str(tmp_path), "--url", server.url])
    assert isinstance(answer.exception, UserError) and "NonCommercial" in answer.output
    assert names(tmp_path) == []


def test_what_its_terms_keep_from_download_is_told(tmp_path):
    with pytest.raises(UserError, match="register on its page"):
        fetch("isbi2012", known()["isbi2012"], tmp_path / "isbi")
    assert not (tmp_path / "isbi").exists()
    answer = CliRunner().invoke(datasets_command.cli, ["fetch", "nothing", "-o", str(tmp_path)])
    assert isinstance(answer.exception, UserError) and "epfl, epfl-boundaries, vnc, isbi2012" in str(answer.exception)


def test_the_list_says_what_a_user_has_to_know():
    answer = CliRunner().invoke(datasets_command.cli, ["list"])
    assert answer.exit_code == 0
    for name, entry in known().items():
        assert {"title", "page", "licence", "citation", "labels", "split", "pixel_size_nm"} <= set(entry)
        assert entry["citation"] in answer.output and entry["licence"] in answer.output
        for file in files_of(entry):
            assert file["url"].startswith("https://") and (file["sha256"] is None or len(file["sha256"]) == 64), name
