"""What people see in headless Chromium: a notebook run in JupyterLab, a report opened from disk.

Skipped where there is no Chromium or no playwright; `.ci/run` installs both. Screenshots are saved
to runs/browser/.
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

from semback.paths import write_text
from semback.report import page as report

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (semback[test] has it)"
)
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.network,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian's package chromium)"),
]
ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "runs" / "browser"


HERE = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "file:")


@contextmanager
def chromium():
    """A page of 1300 pixels.

    `outside` lists its requests to other computers that its policy let out, `complaints` the errors
    of its scripts.
    """
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.outside, page.complaints = [], []

        def note_request(request):
            if not request.url.startswith(HERE):
                page.outside.append(request.url)

        def note_failure(request):
            if "csp" in str(request.failure).lower() and request.url in page.outside:
                page.outside.remove(request.url)

        page.on("request", note_request)
        page.on("requestfailed", note_failure)
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
    """JupyterLab on loopback, in a home folder with one notebook and the recordings that ship."""

    def __init__(self, home: Path, notebook: str):
        self.home, self.notebook = home, notebook
        for folder in ("notebooks", "cache/recordings"):
            (home / folder).mkdir(parents=True)
        for recording in (ROOT / "cache/recordings").glob("*.jsonl.zst"):
            shutil.copy(recording, home / "cache/recordings")
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
        def started():
            assert self.server.poll() is None, (self.home / "lab/log").read_text()
            return list((self.home / "lab/runtime").glob("jpserver-*.json"))

        (path,) = until(started)
        server = json.loads(until(lambda: path.read_text()))
        self.url, self.token = server["url"], server["token"]
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
        shown = "\n".join(outputs.all_inner_texts())
        saved = nbformat.read(ROOT / "notebooks/02_bbh.ipynb", as_version=4).cells
        texts = [
            output.data["text/plain"]
            for cell in saved
            for output in cell.get("outputs", ())
            if "data" in output
        ]
        scores = [text for text in texts if re.match(r"\d+ of \d+ correct", text)]
        assert len(scores) == 2 and all(score in shown for score in scores)
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
        cells = "[...document.querySelectorAll('.jp-Cell')]"
        high = page.evaluate(f"{cells}.reduce((sum, cell) => sum + cell.offsetHeight + 4, 250)")
        page.set_viewport_size({"width": 1300, "height": high})
        page.wait_for_timeout(1000)
        panels = "document.querySelectorAll('.jp-WindowedPanel-outer')"
        page.evaluate(f"{panels}.forEach(panel => panel.scrollTop = 0)")
        shot(page, "notebook")
        assert page.outside == [] and (own_home / "runs/notebook/results").is_dir()


def test_a_report_opens_from_disk_fits_a_telephone_and_shows_what_is_clicked(task, cache, own_home):
    record_of("trial", task, "liar", cache=cache)
    title = "liar-sums-full-seed0-simulated"
    notebook = own_home / f"runs/trial/notebooks/{title}.ipynb"
    write_text(notebook, "")
    path = report.write("trial")
    with chromium() as page:
        page.goto(path.as_uri())
        assert page.get_by_text("These numbers are simulated.").is_visible()
        run = page.locator(f"[id='run-{title}']")
        run.locator("> summary").click()
        questions = run.locator(".questions .q:not(.head)")
        right = run.locator(".questions .still-right").count()
        assert 0 < right < len(task.test) == questions.count()
        run.get_by_label(f"still right {right}").check()
        assert sum(row.is_visible() for row in questions.all()) == right
        run.get_by_label(f"all {len(task.test)}").check()
        assert all(row.is_visible() for row in questions.all())
        questions.first.locator("> summary").click()
        assert questions.first.get_by_text("was given").first.is_visible()
        step = run.locator("> details").first
        step.locator("> summary").click()
        rows = step.locator("table").first.locator("tr")
        step.locator("button[title^='hint_1:']").click()
        shown = [row.inner_text().split()[0] for row in rows.all() if row.is_visible()]
        assert shown == ["node", "hint_1"]
        shot(page, "report-click", full_page=True)
        for back in (
            lambda: step.locator("button[title^='hint_1:']").click(),
            lambda: step.locator("img").first.click(position={"x": 2, "y": 2}),  # beside the nodes
        ):
            back()
            assert all(row.is_visible() for row in rows.all()) and rows.count() == 4
            step.locator("button[title^='answer:']").click()
            assert sum(row.is_visible() for row in rows.all()) == 2
        link = page.get_by_role("link", name="The executed notebook")
        assert link.evaluate("link => link.href") == notebook.as_uri()
        for scheme, wide in (("light", 1300), ("dark", 400)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": wide, "height": 1000})
            assert page.evaluate("document.documentElement.scrollWidth") <= wide
            shot(page, f"report-{wide}-{scheme}", full_page=True)
        assert page.complaints == [] and page.outside == []
