"""Where data comes from: pinned, verified, downloaded once; every fault is one clear DataError.

No network but 127.0.0.1.
"""

import functools
import hashlib
import http.server
import os
import threading

import pytest

from semback.errors import DataError, ParameterError
from semback.tasks import data as files

PATH = "bbh/snarks.json"
BODY = b'{"examples": [{"input": "q", "target": "(A)"}]}\n'


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """A loopback server with one file in place of the upstream host; an empty download folder."""
    monkeypatch.delenv("SEMBACK_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = tmp_path / "served" / "owner" / "repo" / "0123abc" / PATH
    served.parent.mkdir(parents=True)
    served.write_bytes(BODY)
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.path)

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path / "served")
    )
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(files, "HOST", f"http://127.0.0.1:{server.server_port}")
    pin = {PATH: (hashlib.sha256(BODY).hexdigest(), f"owner/repo@0123abc:{PATH}")}
    monkeypatch.setattr(files, "registry", lambda: pin)
    yield served, requests
    server.shutdown()
    server.server_close()


def test_a_file_is_downloaded_once_from_the_pinned_commit(upstream):
    _, requests = upstream
    assert files.verify()[0]["state"] == "missing"
    assert files.text(PATH, "full") == BODY.decode()
    assert files.text(PATH, "full") == BODY.decode()
    assert requests == [f"/owner/repo/0123abc/{PATH}"]
    assert files.verify()[0]["state"] == "ok"
    assert [path.read_bytes() for path in files.fetch()] == [BODY]


def test_a_download_with_another_checksum_is_refused_and_not_kept(upstream):
    served, _ = upstream
    served.write_bytes(b"something else")
    with pytest.raises(
        DataError,
        match=rf"{PATH} could not be downloaded from http://127.*SHA256 hash.*SEMBACK_DATA_DIR",
    ):
        files.text(PATH, "full")
    assert files.verify()[0]["state"] == "missing"


def test_an_altered_download_is_downloaded_again(upstream):
    where = files.locate(PATH)
    where.write_bytes(b"altered")
    assert files.verify()[0]["state"] == "altered"
    assert files.text(PATH, "full") == BODY.decode()


def test_no_network_is_one_error_that_says_what_to_do(upstream, monkeypatch):
    monkeypatch.setattr(files, "HOST", "http://127.0.0.1:1")
    with pytest.raises(
        DataError,
        match=rf"{PATH} could not be downloaded.*Check the network, or set SEMBACK_DATA_DIR",
    ):
        files.text(PATH, "full")


def test_a_file_that_is_gone_upstream_is_one_error(upstream):
    upstream[0].unlink()
    with pytest.raises(DataError, match="404"):
        files.text(PATH, "full")


def test_a_local_folder_is_verified_and_nothing_is_downloaded(upstream, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMBACK_DATA_DIR", str(tmp_path / "mine"))
    mine = tmp_path / "mine" / PATH
    with pytest.raises(
        DataError,
        match=r"mine/bbh/snarks.json is missing.*owner/repo@0123abc.*unset SEMBACK_DATA_DIR",
    ):
        files.text(PATH, "full")
    mine.parent.mkdir(parents=True)
    mine.write_bytes(BODY + b" ")
    with pytest.raises(DataError, match=r"mine/bbh/snarks.json is altered"):
        files.text(PATH, "full")
    mine.write_bytes(BODY)
    assert files.text(PATH, "full") == BODY.decode()
    assert upstream[1] == []


def test_the_registry_pins_all_files_to_commits():
    pins = files.registry()
    assert len(pins) == 32
    for path, (sha256, upstream) in pins.items():
        assert len(sha256) == 64 and len(upstream.partition("@")[2].partition(":")[0]) == 40, path


def test_the_sample_says_what_it_has():
    with pytest.raises(
        DataError, match=r"no bbh/snarks.json, only boolean_expressions.*data=\"full\""
    ):
        files.text(PATH, "sample")
    with pytest.raises(ParameterError, match="data='ful' does not exist; did you mean full"):
        files.text(PATH, "ful")


def test_only_a_line_feed_ends_a_line(monkeypatch):
    monkeypatch.setattr(files, "text", lambda path, data: "a\u2028b\x85c\rd\ne\n")
    assert files.lines("any", "sample") == ["a\u2028b\x85c\rd", "e"]


@pytest.mark.skipif(
    not os.environ.get("SEMBACK_DATA_DIR"),
    reason="SEMBACK_DATA_DIR is not set: the full data is not here",
)
def test_the_local_copy_of_the_full_data_is_intact():
    assert {row["state"] for row in files.verify()} == {"ok"}
    assert len(files.fetch()) == 32
