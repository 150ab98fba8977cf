"""The page as people meet it, in a real Chromium: what they search, what they hear, and how."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from browsing import LANGUAGES, PART_SECONDS, RATE, SCENES, indexed, parts, recorded, serving, trained

import tiny
from lapis import audio
from lapis.calibration import FrameCalibration, Logistic
from lapis.search.index import Index
from lapis.search.query import Query
from lapis.serve.limits import Limits

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(path).exists()), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--in-process-gpu", "--renderer-process-limit=1"]
VIOLATIONS = """
    globalThis.violations = [];
    const broken = (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`);
    addEventListener("securitypolicyviolation", broken);
"""
# Whatever the player plays from now on, as samples at the recordings' rate.
RECORD = """() => {
    const context = new AudioContext({ sampleRate: 16000 });
    const source = context.createMediaElementSource(document.getElementById("audio"));
    const tap = context.createScriptProcessor(1024, 1, 1);
    globalThis.heard = [];
    globalThis.began = null;
    document.getElementById("audio").addEventListener("playing", (event) => { began ??= event.target.currentTime; });
    tap.onaudioprocess = (event) => heard.push(...event.inputBuffer.getChannelData(0));
    source.connect(tap);
    tap.connect(context.destination);
    return context.resume();
}"""
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def sounds():
    return parts()


@pytest.fixture(scope="module")
def model(sounds):
    return trained(sounds)


@pytest.fixture(scope="module")
def disk(tmp_path_factory, sounds, model):
    folder = tmp_path_factory.mktemp("page")
    recorded(folder / "sounds", sounds)
    indexed(folder / "index", folder / "sounds", model)
    return folder


@pytest.fixture(scope="module")
def address(disk, model):
    with serving(model, index=disk / "index", root=disk / "sounds") as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, address):
    """Opens the page; nothing in it may fail, break its policy or ask another host."""
    complaints, contexts = [], []

    def open_(at=address, **options):
        context = chromium.new_context(**{"viewport": {"width": 1000, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(20_000)
        context.add_init_script(VIOLATIONS)
        context.on("request", lambda request: request.url.startswith(at) or complaints.append(request.url))
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(at)
        return page

    yield open_
    for context in contexts:
        for page in context.pages:
            complaints += page.evaluate("violations")
        context.close()
    assert complaints == []


def until(page, condition):
    """Wait for a condition; Playwright's own way evaluates text in the page, which its policy forbids."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"in vain: {condition}")


def search(page, words, *, until_told=True):
    page.fill("#query", words)
    page.press("#query", "Enter")
    if until_told:
        until(page, "document.getElementById('status').textContent.includes('“')")


def caption(sounds, label, language):
    return sounds[label][1].captions[language][0]


def place_of(heard, recording):
    """From which second of a recording these samples are, and how surely: their correlation there."""
    piece = heard[: RATE // 2] - heard[: RATE // 2].mean()
    size = 1 << (len(recording) + len(piece)).bit_length()
    found = np.fft.irfft(np.fft.rfft(recording, size) * np.conj(np.fft.rfft(piece, size)), size)
    found = found[: len(recording) - len(piece) + 1]
    energy = np.convolve(recording**2, np.ones(len(piece)), "valid")
    alike = found / np.sqrt(np.maximum(energy, 1e-9) * (piece @ piece))
    return int(alike.argmax()) / RATE, float(alike.max())


def test_a_search_in_any_language_plays_the_right_second(opened, disk, sounds):
    page = opened()
    page.evaluate(RECORD)
    for language, label, name in zip(
        LANGUAGES,
        ("hammering on an anvil", "motor vehicle", "sheep bleating"),
        ("yard/morning.wav", "yard/evening.flac", "town/field.aiff"),  # the last no browser plays as it is
        strict=True,
    ):
        search(page, caption(sounds, label, language))
        hit = page.locator(".hit").filter(has_text=name)
        begin = SCENES[name].index(label) * PART_SECONDS
        assert f"0:0{begin:g}.0 – 0:0{begin + PART_SECONDS:g}.0" in hit.locator(".when").inner_text()
        first = page.locator(".hit h2").first.inner_text()
        assert label in SCENES[first]  # the best is a recording in which it sounds
        page.evaluate("document.getElementById('audio').pause()")
        page.wait_for_timeout(200)
        page.evaluate("globalThis.heard = [], globalThis.began = null")
        hit.locator(".play").click()
        until(page, "heard.filter((value) => value !== 0).length > 10000")
        at, heard = page.evaluate("[began, heard]")
        assert begin <= at < begin + 1
        samples = np.array(heard, np.float32)
        samples = samples[np.flatnonzero(samples)[0] :]
        place, alike = place_of(samples, audio.read(disk / "sounds" / name, sample_rate=RATE))
        assert -0.1 < place - begin < 0.5, f"{place} s was heard, not {begin} s"
        assert alike > 0.9
        assert page.locator("#playing").inner_text() == name and "current" in hit.get_attribute("class")


def test_the_keyboard_does_it_all(opened, sounds):
    page = opened()
    page.locator("h1").click()
    page.keyboard.press("/")
    page.keyboard.type(caption(sounds, "crickets chirping", "eng_Latn"))
    page.keyboard.press("Enter")
    page.wait_for_selector(".hit canvas.wave")
    focused = "document.querySelectorAll('.hit .play').values().toArray().indexOf(document.activeElement)"
    walked = []
    for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
        walked.append(page.evaluate(focused))
    assert walked == [0, 1, 0]
    playing = "!document.getElementById('audio').paused && document.getElementById('audio').currentTime"
    page.keyboard.press("Enter")
    until(page, playing)
    assert page.locator("#toggle").get_attribute("aria-label") == "Pause"
    page.keyboard.press("Space")
    until(page, "document.getElementById('audio').paused")
    before = page.evaluate("document.getElementById('audio').currentTime")
    page.keyboard.press("ArrowLeft")
    until(page, f"Math.abs(document.getElementById('audio').currentTime - {max(0, before - 2)}) < 0.1")
    page.focus("#seek")
    page.keyboard.press("ArrowRight")  # as anywhere: a hundredth of a second was its own step
    until(page, f"Math.abs(document.getElementById('audio').currentTime - {max(0, before - 2) + 2}) < 0.1")
    page.locator(".hit .play").first.focus()
    page.keyboard.press("h")
    page.wait_for_selector(".hit:first-child .spans button")
    assert page.locator(".hit:first-child .strip").is_visible()
    assert page.locator(".hit:first-child .spans").inner_text().startswith(("Stands out ", "No moment stands out"))
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "query"


def test_nothing_matches_is_said(opened, disk, model, monkeypatch):
    monkeypatch.setattr(model, "calibration", tiny.calibration(model, least_score=2.0))
    # The page asks for no more than the server gives.
    with serving(model, index=disk / "index", limits=Limits(results=2)) as calibrated:
        page = opened(calibrated)
        search(page, "a saxophone")
        assert page.locator("#nothing h2").inner_text() == "Nothing here matches “\u2068a saxophone\u2069”."
        assert not page.locator(".hit").first.is_visible()
        page.click("#nothing button")
        assert page.locator(".hit").count() == 2
        assert "Probably not" in page.locator(".hit .sure").first.inner_text()


@pytest.mark.parametrize(
    ("word", "said"), [("Possible", "No moment stands out; nearest at"), ("Probably not", "Stands out once:")]
)
def test_where_it_sounds_does_not_deny_whether(word, said, opened, disk, model, sounds, monkeypatch):
    """A hit's probability is that of a stretch, and may be high where no instant is sure, or low where one is."""
    least = 9.0 if said.startswith("No") else -9.0
    of_instants = FrameCalibration("dense", Logistic(1.0, 0.0), 0.0, (0.0,) * model.width, least, least)
    calibration = tiny.calibration(model, curve=Logistic(0.0, 0.0), least_score=-least, frames=(of_instants,))
    monkeypatch.setattr(model, "calibration", calibration)
    with serving(model, index=disk / "index") as calibrated:
        page = opened(calibrated)
        search(page, caption(sounds, "rain", "eng_Latn"))
        if word == "Probably not":
            page.click("#nothing button")
        assert page.locator(".hit .sure").first.inner_text().splitlines() == [word, "50 %"]
        page.locator(".hit .locate").first.click()
        page.wait_for_selector(".hit .spans button")
        assert page.locator(".hit .spans").first.inner_text().startswith(said)


def test_a_sound_finds_itself_chosen_or_dropped(opened, disk, sounds, tmp_path):
    page = opened()
    clip = tmp_path / "what is this.wav"
    with contextlib.closing(audio_file(clip)) as file:
        file.write(sounds["sheep bleating"][0])
    page.set_input_files("#file", clip)
    page.wait_for_selector(".hit")
    assert page.locator(".hit h2").first.inner_text() == "town/field.aiff"
    assert "0:02.0 – 0:04.0" in page.locator(".hit .when").first.inner_text()
    assert "what is this.wav" in page.locator("#status").inner_text() and page.locator(".locate").count() == 0
    dropped = page.evaluate_handle(
        """(bytes) => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "dropped.wav")); return data; }""",
        list(clip.read_bytes()),
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": dropped})
    assert page.locator("#drop").is_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    until(page, "document.getElementById('status').textContent.includes('nearest to \u2068dropped.wav')")
    assert not page.locator("#drop").is_visible()


def test_words_with_a_sound_and_unlike_others_and_the_way_back(opened, disk, model, sounds):
    page = opened()
    words, other = caption(sounds, "rain", "eng_Latn"), caption(sounds, "crickets chirping", "eng_Latn")
    path = disk / "sounds" / "town" / "field.aiff"
    page.set_input_files("#file", path)
    page.wait_for_selector(".hit")
    search(page, words)
    until(page, "document.getElementById('status').textContent.includes('field.aiff')")
    page.click("#filters summary")
    page.fill("[name=unlike]", other)
    page.press("[name=unlike]", "Tab")
    until(page, "document.getElementById('status').textContent.includes('not like')")
    query = Query(texts=(words,), sounds=(path,), unlike_texts=(other,))
    wanted = Index.open(disk / "index").search_query(query, embedder=model)
    assert page.locator(".hit h2").all_inner_texts() == [str(hit.path.relative_to(disk / "sounds")) for hit in wanted]
    assert page.locator(".hit .sure").first.inner_text().split()[1] == f"{wanted[0].score:.2f}"
    page.click("#forget")
    until(page, "!document.getElementById('status').textContent.includes('field.aiff')")
    page.go_back(), page.go_back()
    until(page, "/nearest to .*field.aiff/.test(document.getElementById('status').textContent)")
    assert page.input_value("[name=unlike]") == "" and page.input_value("#query") == words
    page.go_back(), page.go_back()
    until(page, "!document.getElementById('welcome').hidden && !document.querySelector('.hit')")


def test_late_answers_and_files_that_have_changed(opened, disk, sounds):
    page = opened()
    held = []
    page.route("**/v1/search", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks what it calls
    for number, words in enumerate(("the first", "the second"), start=1):
        page.fill("#query", words)
        page.press("#query", "Enter")
        while len(held) < number:
            page.wait_for_timeout(20)
    held[1].continue_()
    until(page, "document.getElementById('status').textContent.includes('the second')")
    with contextlib.suppress(sync_api.Error):  # nobody waits for it
        held[0].continue_()
    page.set_input_files("#file", disk / "sounds" / "yard" / "evening.flac")
    while len(held) < 3:
        page.wait_for_timeout(20)
    page.click("#forget")
    with contextlib.suppress(sync_api.Error):
        held[2].continue_()
    page.unroute("**/v1/search")
    page.wait_for_timeout(200)
    assert page.locator("#status").inner_text() == "" and page.locator("#welcome").is_visible()
    path = disk / "sounds" / "yard" / "evening.flac"
    at = path.stat().st_mtime_ns
    os.utime(path, ns=(1, 1))
    try:
        search(page, "a" * 4000)
        page.locator(".hit").filter(has_text="evening").locator(".play").click()
        until(page, "document.getElementById('playing').textContent.includes('has changed or gone')")
    finally:
        os.utime(path, ns=(at, at))
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "long words need more than a phone has"


def audio_file(path):
    import soundfile

    return soundfile.SoundFile(path, "w", RATE, 1)


@pytest.mark.slow  # what the fields do is tested at the address
def test_filters_narrow(opened, sounds):
    page = opened()
    search(page, caption(sounds, "rain", "eng_Latn"))
    assert page.locator(".hit").count() == 3
    page.click("#filters summary")
    page.fill("[name=below]", "yard")
    page.fill("[name=longest_seconds]", "5")
    page.press("[name=longest_seconds]", "Tab")
    until(page, "document.querySelectorAll('.hit').length === 1")
    assert page.locator(".hit h2").inner_text() == "yard/evening.flac"
    assert page.locator("#filters-set").inner_text().strip() == "(2)"
    page.fill("[name=below]", "nowhere")
    page.press("[name=below]", "Tab")
    page.wait_for_selector("#nothing:not([hidden])")
    assert "No sound is left by the filters" in page.locator("#nothing").inner_text()
    page.fill("[name=below]", "../..")
    page.press("[name=below]", "Tab")
    until(page, "document.getElementById('status').textContent.startsWith('Folder: expected a folder')")


def test_a_key_is_asked_for_and_stays_in_the_tab(opened, disk, model, sounds):
    key = "k" * 20
    with serving(model, keys=[key], index=disk / "index", root=disk / "sounds") as locked:
        page = opened(locked)
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        until(page, "document.getElementById('key').open")
        page.keyboard.press("Escape")
        until(page, "document.getElementById('status').textContent === 'This server asks for a key.'")
        search(page, "anything", until_told=False)
        until(page, "document.getElementById('key').open")
        page.fill("#key-value", "ключ" * 5)  # what no header can hold
        page.keyboard.press("Enter")
        assert page.locator("#key-wrong").inner_text() and page.evaluate("sessionStorage.length") == 0
        page.fill("#key-value", "wrong" * 5)
        page.keyboard.press("Enter")
        until(page, "sessionStorage.length && document.getElementById('key').open")
        page.fill("#key-value", key)
        page.keyboard.press("Enter")
        page.wait_for_selector("#key:not([open])", state="attached")
        search(page, caption(sounds, "rain", "eng_Latn"))
        page.locator(".hit .play").first.click()
        until(page, "document.getElementById('audio').currentTime > 0.05")
        assert not any(key in url for url in asked) and any("ticket=" in url for url in asked)
        assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]


def test_a_phone_and_the_dark(opened, sounds):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    papers = set()
    for scheme, width in (("light", 1000), ("dark", 390)):
        page = opened(color_scheme=scheme, viewport={"width": width, "height": 844}, reduced_motion="reduce")
        seen = [axe.Axe().run(page)] if width == 390 else []
        search(page, caption(sounds, "rain", "eng_Latn"))
        page.click("#filters summary")
        page.locator(".hit .play").first.click()
        page.locator(".hit .locate").first.click()
        page.wait_for_selector(".hit .spans button")
        seen.append(axe.Axe().run(page))
        worst = [of["id"] for found in seen for of in found.response["violations"] if of["impact"] in SERIOUS]
        assert worst == [], [found.generate_report() for found in seen]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{width} px are too few"
        papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2
