#!/usr/bin/env python3
"""Open a page of gpt_report in headless Chromium, as a reader would, and complain.

    browse.py CHROMIUM PAGE.html [SCREENSHOT_DIR]

On a phone (390 x 844) and a screen (1400 x 900), light and dark: no message in the console, no request, nothing wider than
the window; every control works, values show under the pointer and by the arrow keys; without scripts the final numbers are
there. Says one line for each thing that is wrong. Speaks the DevTools protocol over a pipe: needs no package.
"""
import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SIZES = {"phone": (390, 844, True), "screen": (1400, 900, False)}


class Browser:
    """A Chromium and one page of it. `events` is what it told so far, answers apart."""

    def __init__(self, program, profile):
        to_browser, self.to = os.pipe()
        self.of, from_browser = os.pipe()

        def place_pipes():  # Chromium reads from 3 and writes to 4
            a, b = os.dup(to_browser), os.dup(from_browser)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
             "--remote-debugging-pipe", "--user-data-dir=" + profile, "--no-first-run", "--disable-extensions"],
            preexec_fn=place_pipes, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.unread, self.next_id, self.session, self.events = b"", 1, None, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(domain + ".enable")

    def receive(self):
        while b"\0" not in self.unread:
            more = os.read(self.of, 1 << 20)
            if not more:
                sys.exit("the browser has gone")
            self.unread += more
        message, self.unread = self.unread.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method, **params):
        request = {"id": self.next_id, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        self.next_id += 1
        os.write(self.to, json.dumps(request).encode() + b"\0")
        while True:
            message = self.receive()
            if message.get("id") == request["id"]:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def await_event(self, method):
        while not any(e.get("method") == method for e in self.events):
            self.events.append(self.receive())

    def open(self, url):
        self.events = []
        self.ask("Page.navigate", url=url)
        self.await_event("Page.loadEventFired")

    def value(self, expression):
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            sys.exit(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def close(self):
        os.close(self.to)
        self.process.wait()


def complaints(browser, url):
    """What the console said, and requests for anything but the page."""
    for e in browser.events:
        params = e.get("params", {})
        if e["method"] == "Runtime.exceptionThrown":
            yield "exception: " + params["exceptionDetails"].get("exception", {}).get("description", "?")
        elif e["method"] == "Runtime.consoleAPICalled":
            yield f"console: {params['args']}"
        elif e["method"] == "Log.entryAdded":
            yield "console: " + params["entry"]["text"]
        elif e["method"] == "Network.requestWillBeSent" and not params["request"]["url"].startswith((url, "data:")):
            yield "asks for " + params["request"]["url"]


CHECKS = """(() => {
    const wrong = [], all = q => [...document.querySelectorAll(q)];
    const wide = all("body *").filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, svg, legend"));
    if (wide.length) wrong.push("wider than the window: " + wide[0].outerHTML.slice(0, 120));
    if (document.documentElement.scrollWidth > innerWidth) wrong.push("scrolls sideways");
    const svgs = all(".chart svg");
    if (svgs.length < 4) wrong.push(svgs.length + " charts");
    if (all("#chart-loss .curve").length < 2) wrong.push("no curves of the loss");
    if (all("svg").some(e => /NaN|undefined|Infinity/.test(e.outerHTML))) wrong.push("a figure that is no number is drawn");
    if (/NaN|undefined|Infinity|\\[object/.test(document.body.innerText)) wrong.push("a word of JavaScript's is shown");
    if (all("button, input").some(e => !(e.innerText || e.labels && e.labels.length))) wrong.push("a control without a label");
    const path = () => all("#chart-loss .curve").map(e => e.getAttribute("d")).join();
    const changes = (name, act) => { const before = path(); act(); if (path() === before) wrong.push(name + " changes nothing"); };
    changes("log scale", () => document.querySelector("#log").click());
    changes("time", () => document.querySelector("input[value=s]").click());
    changes("tokens", () => document.querySelector("input[value=t]").click());
    for (const chip of all("#legend button").filter(e => e.innerText.startsWith("Train, each")))
        { changes("the legend", () => chip.click()); chip.click(); }
    document.querySelector("#log").click();
    document.querySelector("input[value=i]").click();
    for (const svg of svgs) {
        const box = svg.getBoundingClientRect(), tip = svg.parentNode.querySelector(".tip");
        const at = part => ({ clientX: box.left + part * box.width, clientY: box.top + 20, bubbles: true });
        for (const part of [0, .3, .5, .97]) {
            svg.dispatchEvent(new PointerEvent("pointermove", at(part)));
            if (tip.hidden || !/\\d/.test(tip.innerText)) wrong.push("no values under the pointer of " + svg.getAttribute("aria-label"));
            const t = tip.getBoundingClientRect();
            if (t.left < 0 || t.right > innerWidth) wrong.push("values outside the window");
        }
        svg.dispatchEvent(new PointerEvent("pointerleave"));
        if (!tip.hidden) wrong.push("values stay behind");
        svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
        if (tip.hidden) wrong.push("no values by the arrow keys");
        svg.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
    }
    return wrong;
})()"""

# A colour of text on what is behind it: 4.5 is what WCAG 2.1 wants of text this small.
CONTRAST = """(() => {
    const parse = c => c.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => { const f = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
    const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
    const poor = [];
    for (const e of document.querySelectorAll("body *")) {
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
        if (e.closest("script, style")) continue;
        const style = getComputedStyle(e), ink = parse(e.namespaceURI.includes("svg") ? style.fill : style.color);
        const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
        if (ratio < 4.5) poor.push(e.tagName + " " + e.textContent.slice(0, 30) + ": contrast " + ratio.toFixed(2));
    }
    return poor.slice(0, 3);
})()"""


def look(browser, url, name, size, scheme, shots):
    width, height, mobile = size
    browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(url)
    wrong = browser.value(CHECKS) + browser.value(CONTRAST) + list(complaints(browser, url))
    if shots:
        image = browser.ask("Page.captureScreenshot", captureBeyondViewport=True,
                            clip={"x": 0, "y": 0, "width": width, "scale": 1,
                                  "height": browser.value("document.documentElement.scrollHeight")})
        shots.mkdir(parents=True, exist_ok=True)
        (shots / f"{name}-{scheme}.png").write_bytes(base64.b64decode(image["data"]))
    return [f"{name}, {scheme}: {what}" for what in wrong]


def look_without_scripts(browser, url):
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(url)
    text = browser.value("document.body.innerText")
    wrong = [f"without scripts: no {part!r}" for part in ("scripts are off", "Is my loss right?") if part not in text]
    if not browser.value("/\\d\\.\\d{4}/.test(document.querySelector('.numbers').innerText)"):
        wrong.append("without scripts: no final numbers")
    return wrong + [f"without scripts: {what}" for what in complaints(browser, url) if "script" not in what.lower()]


def main():
    program, page = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    shots = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        wrong = [line for name, size in SIZES.items() for scheme in ("light", "dark")
                 for line in look(browser, page.as_uri(), name, size, scheme, shots)]
        wrong += look_without_scripts(browser, page.as_uri())
        browser.close()
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


sys.exit(main())
