"""The page in headless Chromium (Debian: chromium-headless-shell). Skipped (77) where there is none.
UNMASK_SCREENSHOTS names a folder to leave pictures in."""
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from service import Service, check

BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser"))), None)


class Page:
    """One page, driven over Chromium's debugging pipe: messages of JSON with a zero behind each."""

    def __init__(self, folder, width, height):
        to_browser, self.sink = os.pipe()
        self.source, from_browser = os.pipe()

        def give_pipes():
            # The browser reads from 3 and writes to 4.
            for end, wanted in ((os.dup(to_browser), 3), (os.dup(from_browser), 4)):
                os.dup2(end, wanted)
        self.process = subprocess.Popen(
            [BROWSER, "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--user-data-dir=" + folder,
             "--window-size=%d,%d" % (width, height)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=give_pipes)
        os.close(to_browser)
        os.close(from_browser)
        self.rest, self.n, self.session, self.complaints = b"", 0, None, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(domain + ".enable")

    def read(self):
        while b"\0" not in self.rest:
            part = os.read(self.source, 1 << 16)
            check(part, "the browser has gone")
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def ask(self, method, **parameters):
        self.n += 1
        message = {"id": self.n, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.sink, json.dumps(message).encode() + b"\0")
        while True:
            reply = self.read()
            if reply.get("id") == self.n:
                check("error" not in reply, reply)
                return reply["result"]
            if reply.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(reply["params"])

    def value(self, expression):
        reply = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        check("exceptionDetails" not in reply, reply)
        return reply["result"].get("value")

    def wait(self, expression, seconds=40):
        end = time.time() + seconds
        while time.time() < end:
            if self.value(expression):
                return
            time.sleep(0.02)
        raise AssertionError("%s never came: %s" % (expression, self.value("document.body.innerText")))

    def key(self, name, **more):
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=name, **more)

    def say(self, text):
        self.ask("Input.insertText", text=text)
        self.key("Enter", code="Enter", text="\r")

    def picture(self, name):
        folder = os.environ.get("UNMASK_SCREENSHOTS")
        if folder:
            data = self.ask("Page.captureScreenshot", format="png")["data"]
            with open(os.path.join(folder, name + ".png"), "wb") as file:
                file.write(base64.b64decode(data))

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        os.close(self.sink)
        os.close(self.source)


LAST = "[...document.querySelectorAll('.assistant')].pop()"
ENDED = "!running && answer && answer.done"


def talk(s, page):
    page.ask("Page.navigate", url="http://%s:%d/" % (s.host, s.port))
    page.wait("document.readyState === 'complete' && typeof model === 'object' && model !== null")
    page.say("What is 12 + 30?")
    page.wait(ENDED)
    check(page.value(LAST + ".textContent") == "12 + 30 = 42")
    check("10.00 tokens per forward" in page.value("$('numbers').textContent"))
    check(page.value("messages.length") == 2)
    page.value("$('new').click()") # the bundled model knows single questions
    page.say("Tell me a story about dog, ball and garden.")
    page.wait("answer && answer.steps.length > 6")
    page.picture("while")
    page.wait(ENDED)
    check(page.value("messages.length") == 2 and page.value("messages[1].content") == page.value(LAST + ".textContent"))
    # The slider shows the answer as it stood: masks at first, none at the end, and the same text again.
    whole = page.value(LAST + ".textContent")
    n = page.value("answer.steps.length")
    check(n > 6 and page.value("Number($('step').max)") == n)
    page.value("$('step').value = 3; $('step').dispatchEvent(new Event('input'))")
    check(page.value(LAST + ".querySelectorAll('.mask').length") > 0 and page.value("$('place').textContent") == "3 / %d" % n)
    check(page.value(LAST + ".querySelectorAll('.new').length") >= 1)
    page.picture("step")
    page.value("$('step').value = %d; $('step').dispatchEvent(new Event('input'))" % n)
    check(page.value(LAST + ".textContent") == whole and page.value(LAST + ".querySelectorAll('.mask').length") == 0)
    # Markup in what is said stays text.
    page.say("<img src=x onerror=fetch('/nothing')>")
    page.wait(ENDED)
    check(page.value("document.querySelectorAll('main img').length") == 0)
    # A gap in a text: the answer stands in it, and the conversation knows nothing of it.
    before = page.value("messages.length")
    page.say("Once upon a ____ was happy.")
    page.wait(ENDED)
    check(page.value(LAST + ".textContent") == "Once upon a " + page.value("answer.text") + " was happy.")
    check(page.value("answer.text.length") > 0 and page.value("messages.length") == before)
    page.value("$('step').value = 1; $('step').dispatchEvent(new Event('input'))")
    check(page.value(LAST + ".textContent.startsWith('Once upon a ')") and page.value(LAST + ".querySelectorAll('.mask').length") > 0)
    page.picture("gap")
    # Escape stops; Alt+N forgets.
    page.value("$('max-tokens').value = 3000; $('raw').checked = true")
    page.say("Once upon a time")
    page.wait("running && answer.steps.length > 3")
    page.key("Escape", code="Escape")
    page.wait("!running")
    check(page.value("$('fault').textContent") == "stopped")
    s.wait_idle()
    page.key("n", code="KeyN", modifiers=1)
    page.wait("document.querySelectorAll('.turn').length === 0 && messages.length === 0")
    check(not page.complaints, page.complaints)


def narrow(s, page):
    """A phone in the dark: nothing is wider than the screen."""
    page.ask("Emulation.setDeviceMetricsOverride", width=390, height=780, deviceScaleFactor=2, mobile=True)
    page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    page.ask("Page.navigate", url="about:blank")
    page.ask("Page.navigate", url="http://%s:%d/#ask=Tell%%20me%%20a%%20story%%20about%%20a%%20cat." % (s.host, s.port))
    page.wait("document.readyState === 'complete' && typeof answer === 'object' && %s" % ENDED)
    check(page.value("document.documentElement.scrollWidth") <= 390)
    check(page.value("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 26)")
    page.picture("phone")
    check(not page.complaints, page.complaints)


if __name__ == "__main__":
    if not BROWSER:
        print("skipped: no Chromium is installed")
        sys.exit(77)
    with Service("--log", os.devnull) as s, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(folder, 900, 720)
        try:
            for test in (talk, narrow):
                test(s, page)
                print("ok", test.__name__, flush=True)
        finally:
            page.close()
