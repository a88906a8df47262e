"""The page shows what is going on, in a real browser, and gives away nothing else."""

import http.client
import json
import os
import re
import urllib.error
import urllib.request

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tifffile")

from ..segment import cases as segment_cases
from .browser import CHROMIUM, Browser
from .cases import IMAGES, Watching, events, put

pytestmark = segment_cases.needs_an_engine
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome on the PATH")

NASTY = "<img src=x onerror=document.title=1> \"&amp;'%s.tif"


@pytest.fixture
def watching(tmp_path, folder, model):
    """A watch with a page, and the page's address."""
    with Watching(folder, tmp_path / "live", model, "--port", 0) as watching:
        said = [watching.process.stdout.readline(), watching.process.stdout.readline()]
        watching.address = re.search(r"http://127\.0\.0\.1:\d+/", said[1]).group()
        yield watching


def get(address, path, **headers):
    """Code, headers and content of an answer; the path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", int(address.rstrip("/").rsplit(":", 1)[1]), timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def test_it_serves_its_own_files_and_no_others(tmp_path, folder, watching):
    put(folder, "s1.tif", IMAGES[1])
    watching.wait_for("finished")
    watching.wait(lambda: json.loads(get(watching.address, "/state.json")[2])["slices"])
    code, headers, page = get(watching.address, "/")
    assert code == 200 and b"<title>" in page and "default-src 'self'" in headers["Content-Security-Policy"]
    assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", page + get(watching.address, "/page.js")[2]
                         + get(watching.address, "/page.css")[2])
    code, headers, picture = get(watching.address, "/picture/0.png")
    assert code == 200 and picture == (tmp_path / "live" / "preview" / "s1.png").read_bytes()
    for path in ("/watch.json", "/../watch.json", "/picture/../watch.json", "/picture/%2e%2e/watch.json", "/picture/7.png", "/page/",
                 "/..%2fserver.py", "/preview/s1.png", "//etc/passwd", "/picture/0.png/../../log.jsonl"):
        assert get(watching.address, path)[0] == 404, path
    # A page of elsewhere that gave its own name to this address.
    assert get(watching.address, "/state.json", Host="elsewhere.example")[0] == 404
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(watching.address, data=b"posted")


@needs_browser
def test_the_page_shows_slices_as_they_come_and_escapes_their_names(tmp_path, folder, watching):
    names = [NASTY % number for number in (1, 2, 3)]
    put(folder, names[0], IMAGES[1])
    watching.wait_for("finished", slice=names[0])
    with Browser(tmp_path / "profile") as browser:
        browser.resize(1280)
        browser.open(watching.address)
        browser.wait("document.querySelectorAll('figure').length === 1")
        browser.evaluate("window.loaded = 'once'")
        put(folder, names[1], IMAGES[2])
        put(folder, names[2], (IMAGES[3] // 4).astype(np.uint8))
        (folder / "broken.tif").write_bytes(b"no image")
        browser.wait("document.querySelectorAll('figure').length === 3 && !document.getElementById('troubles').hidden")
        browser.wait("[...document.images].every(image => image.complete && image.naturalWidth === 90)")
        assert browser.evaluate("window.loaded") == "once"          # it was not loaded again
        captions = browser.evaluate("[...document.querySelectorAll('figcaption b')].map(one => one.textContent)")
        assert sorted(captions) == names and captions[-1] == names[0]
        assert browser.evaluate("document.querySelectorAll('figcaption img').length") == 0
        assert browser.evaluate("document.title").startswith("3 slices of ")
        # The red outline is in the picture.
        assert browser.evaluate(
            "(() => { const image = document.querySelector('figure:last-child img'), canvas = document.createElement('canvas');"
            "canvas.width = 90; canvas.height = 70; const pen = canvas.getContext('2d'); pen.drawImage(image, 0, 0);"
            "const pixels = pen.getImageData(0, 0, 90, 70).data; let red = 0;"
            "for (let place = 0; place < pixels.length; place += 4) red += pixels[place] === 255 && pixels[place + 1] === 60;"
            "return red; })()") > 100
        text = browser.evaluate("document.body.innerText")
        last = events(watching.out, "finished")[-1]
        figures = {name: browser.evaluate(f"document.getElementById('{name}').textContent") for name in
                   ("done", "queue", "delay", "seconds", "interval", "model")}
        assert figures["done"] == "3" and figures["queue"] == "0" and figures["model"] == "tiny"
        assert abs(float(figures["delay"].split()[0]) - last["delay"]) < 0.06 and figures["interval"].endswith(" s")
        assert "Keeps up" in text and "broken.tif: is not a readable TIFF" in text
        assert "darker and less contrast" in browser.evaluate("document.querySelector('#slices').innerText")
        assert browser.evaluate("document.querySelectorAll('#drift circle').length") == 3
        assert browser.evaluate("document.querySelectorAll('#drift circle.odd').length") == 1
        for width in (1280, 500):
            browser.resize(width)
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            if "WATCH_SCREENSHOTS" in os.environ:
                browser.screenshot(tmp_path.parent / f"page-{width}.png")
        assert not browser.complaints
        folder.rename(tmp_path / "away")
        browser.wait("document.getElementById('state').textContent.includes('cannot be read')")
        watching.process.kill()
        browser.wait("document.getElementById('state').textContent.includes('has ended')")


@needs_browser
def test_the_page_tells_by_how_much_the_work_is_behind(tmp_path, folder, model, fast):
    images = segment_cases.grey_values(slices=60, rows=300, columns=300)
    with Watching(folder, tmp_path / "live", model, "--port", 0, "--workers", 1, "--tile", "16x16", "--model-when-late",
                  fast) as watching:
        watching.process.stdout.readline()
        address = re.search(r"http://\S+", watching.process.stdout.readline()).group()
        with Browser(tmp_path / "profile") as browser:
            browser.open(address)
            browser.wait("document.getElementById('state').textContent === 'Keeps up'")
            for number, image in enumerate(images):
                put(folder, f"s{number}.tif", image)
            browser.wait("/^\\d+ slices behind, the oldest has waited .*; the faster model is at work/.test("
                         "document.getElementById('state').textContent)")
            assert browser.evaluate("document.getElementById('model').textContent") == "tiny (late)"
            assert browser.evaluate("document.getElementById('state').className") == "late"
