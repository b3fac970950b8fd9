"""What people see: a notebook run in JupyterLab, and a report opened from disk, in headless Chromium.

Skipped where there is no Chromium or no playwright; `.ci/run` installs both. Screenshots are kept in runs/browser/.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from test_results import record_of

from semback import Run
from semback.report import page as report

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (semback[test] has it)"
)
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium (Debian's package chromium)"
)
ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "runs" / "browser"


@contextmanager
def chromium():
    """A page of 1300 pixels. `outside` lists what it asked of other computers, `complaints` the errors of its scripts."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.outside, page.complaints, here = (
            [],
            [],
            ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "file:"),
        )
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(here) else page.outside.append(request.url)
            ),
        )
        page.on(
            "requestfailed",
            lambda request: (
                page.outside.remove(request.url)  # asked for, and not let out by the page's policy
                if "csp" in str(request.failure).lower() and request.url in page.outside
                else None
            ),
        )
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        yield page
        browser.close()


def shot(page, name, **how):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", **how)


def until(true, seconds=60):
    """What `true` returns, as soon as it is something."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not in {seconds} s"
        time.sleep(0.1)
    return found


class Lab:
    """JupyterLab on loopback, in a home folder with one notebook and the recording that ships."""

    def __init__(self, home: Path, notebook: str):
        self.home, self.notebook = home, notebook
        for folder in ("notebooks", "cache/recordings"):
            (home / folder).mkdir(parents=True)
        shutil.copy(ROOT / "cache/recordings/demo.jsonl.zst", home / "cache/recordings")
        book = nbformat.read(ROOT / "notebooks" / notebook, as_version=4)
        for cell in book.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(book, home / "notebooks" / notebook)
        settings = home / "lab/settings/@jupyterlab"
        for plugin, values in {
            "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
            "notebook-extension/tracker": {"windowingMode": "none"},
        }.items():  # draw the cells out of view too
            path = settings / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(values))
        where = {"CONFIG_DIR": "config", "RUNTIME_DIR": "runtime", "DATA_DIR": "data"}
        environment = {
            **os.environ,
            **{f"JUPYTER_{name}": str(home / "lab" / folder) for name, folder in where.items()},
            "JUPYTERLAB_SETTINGS_DIR": str(home / "lab/settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "lab/workspaces"),
            "IPYTHONDIR": str(home / "lab/ipython"),
            "PYTHONPATH": str(ROOT),
            "SEMBACK_HOME": str(home),
            "SEMBACK_CACHE_MODE": "replay",
        }
        root = ["--allow-root"] if os.name != "nt" and os.geteuid() == 0 else []
        self.log = open(home / "lab/log", "wb")
        self.server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--no-browser",
                "--ip=127.0.0.1",
                "--port=0",
                f"--ServerApp.root_dir={home}",
                "--LabApp.extension_manager=readonly",
                *root,
            ],
            env=environment,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def __enter__(self):
        def told():
            assert self.server.poll() is None, (self.home / "lab/log").read_text()
            return list((self.home / "lab/runtime").glob("jpserver-*.json"))

        (path,) = until(told)
        said = until(lambda: path.read_text())
        self.url, self.token = (json.loads(said)[name] for name in ("url", "token"))
        return self

    def __exit__(self, *error):
        os.killpg(self.server.pid, signal.SIGTERM)  # twice is "yes, shut down"
        try:
            self.server.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()
        self.log.close()

    def api(self, path):
        request = urllib.request.Request(
            f"{self.url}api/{path}", headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def idle(self):
        kernels = [
            session["kernel"] for session in self.api("sessions")
        ]  # "kernels" fails while one is being started
        return kernels and all(
            kernel["execution_state"] == "idle" and kernel["connections"] for kernel in kernels
        )

    def run_all(self, page):
        """Open the notebook, run all its cells and wait for the last."""
        page.goto(f"{self.url}doc/tree/notebooks/{self.notebook}?token={self.token}&reset")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60000)
        until(self.idle)
        cells = page.locator(".jp-CodeCell").count()

        def started():  # "Run All" is swallowed while the session settles
            page.locator(".jp-Notebook").click(position={"x": 5, "y": 5})
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            page.wait_for_timeout(1500)
            return page.locator(".jp-InputPrompt").filter(has_text="[*]").count() or ran()

        def ran():
            done = page.locator(".jp-InputPrompt").all_inner_texts()
            return sum(prompt.strip("[]:\n ").isdigit() for prompt in done) == cells and self.idle()

        until(started)
        until(ran)


def test_a_notebook_runs_in_jupyterlab_and_shows_its_numbers_table_and_figure(own_home):
    with Lab(own_home, "02_bbh.ipynb") as lab, chromium() as page:
        lab.run_all(page)
        page.wait_for_selector(".jp-OutputArea img")
        outputs = page.locator(".jp-Cell-outputArea")
        said = "\n".join(outputs.all_inner_texts())
        saved = nbformat.read(ROOT / "notebooks/02_bbh.ipynb", as_version=4).cells
        texts = [
            output.data["text/plain"]
            for cell in saved
            for output in cell.get("outputs", ())
            if "data" in output
        ]
        scores = [text for text in texts if re.match(r"\d+ of \d+ right", text)]
        assert len(scores) == 2 and all(score in said for score in scores)
        images = outputs.locator("img")
        assert (
            outputs.locator("table").count() >= 3
            and images.count() >= 3
            and outputs.locator("img[src^='data:image/png']").count() == 1
        )
        assert images.evaluate_all(
            "images => images.every(image => image.complete && image.naturalWidth > 50)"
        )
        assert page.locator("[data-mime-type$=stderr], [data-mime-type$=error]").count() == 0
        high = page.evaluate(
            "[...document.querySelectorAll('.jp-Cell')].reduce((sum, cell) => sum + cell.offsetHeight + 4, 250)"
        )
        page.set_viewport_size({"width": 1300, "height": high})
        page.wait_for_timeout(1000)
        page.evaluate(
            "document.querySelectorAll('.jp-WindowedPanel-outer').forEach(each => each.scrollTop = 0)"
        )
        shot(page, "notebook")
        assert page.outside == [] and (own_home / "runs/notebook/results").is_dir()


def test_a_report_opens_from_disk_fits_a_telephone_and_shows_what_is_clicked(task, cache, own_home):
    record_of("trial", task, "liar", cache=cache)
    run = Run.load(own_home / "runs/trial/history/liar-sums-full-seed0-simulated.json")
    gradients = run.steps[1].messages[run.steps[1].examples[0]]
    hint, other = (
        next(text for _, to, text in gradients if to == name) for name in ("hint_1", "hint_2")
    )
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# The notebook\n\n<img src=https://x.example/a>")]
    )
    (own_home / "runs/trial/notebooks").mkdir()
    nbformat.write(book, own_home / "runs/trial/notebooks/liar-sums-full-seed0-simulated.ipynb")
    path = report.write("trial")
    with chromium() as page:
        page.goto(path.as_uri())
        assert "These numbers are simulated" in page.inner_text("header")
        page.get_by_role("link", name="Gradients", exact=True).click()
        graph = page.locator("#gradients ~ .drawn").first
        shown = [
            graph.locator("details[data-node] td").get_by_text(text).first for text in (hint, other)
        ]
        assert hint != other and not shown[0].is_visible()
        graph.get_by_role("button", name=re.compile("^hint_1")).click()
        shown[0].wait_for(state="visible")
        assert not shown[1].is_visible()
        shot(page, "report-click")
        run = page.locator("details.run")
        run.locator("> summary").click()
        run.get_by_text("The notebook as it was executed").click()
        assert page.frame_locator("details.run iframe").locator("h1").inner_text() == "The notebook"
        for wide in (1300, 400):
            page.set_viewport_size({"width": wide, "height": 1000})
            assert page.evaluate("document.documentElement.scrollWidth") <= wide
            shot(page, f"report-{wide}", full_page=True)
        assert page.complaints == [] and page.outside == []
