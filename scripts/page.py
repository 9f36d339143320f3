"""Looks at the page of a sidecar in Chromium: that it fills its tables, judges tokens, and is of no use to other origins.

    page.py SIDECAR TENANT FOLDER

Takes a picture of it in light and in dark. Speaks the DevTools protocol over a pipe: each message is JSON and ends with a zero byte.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

SIDECAR, TENANT, FOLDER = sys.argv[1:]
PATIENCE = 20


def fetch(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(url, timeout=PATIENCE).read().decode()


class Browser:
    """One tab."""

    def __init__(self):
        self.profile = tempfile.mkdtemp()
        ours, theirs = os.pipe(), os.pipe()
        # It reads commands from descriptor 3 and writes answers to 4.
        command = ['exec "$@" 3<&%d 4>&%d' % (ours[0], theirs[1])]
        options = ["--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
                   "--no-proxy-server", "--hide-scrollbars", f"--user-data-dir={self.profile}"]
        if os.geteuid() == 0:
            options.append("--no-sandbox")
        self.process = subprocess.Popen(["bash", "-c", *command, "bash", name(), *options, "about:blank"],
                                        pass_fds=(ours[0], theirs[1]), stderr=subprocess.DEVNULL)
        os.close(ours[0])
        os.close(theirs[1])
        self.out, self.answers = ours[1], os.fdopen(theirs[0], "rb", buffering=0)
        self.number, self.rest, self.session, self.complaints = 0, b"", None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def receive(self):
        while b"\0" not in self.rest:
            piece = self.answers.read(65536)
            if not piece:
                raise SystemExit("page: the browser has ended")
            self.rest += piece
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(json.dumps(answer["params"]))
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"page: {method}: {answer['error']}")
                return answer["result"]

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise SystemExit(f"page: {expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, what, expression):
        end = time.monotonic() + PATIENCE
        while not self.value(expression):
            if time.monotonic() > end:
                raise SystemExit(f"page: {what}: never; it shows\n{self.value('document.body.innerText')}\n{self.complaints}")
            time.sleep(0.05)

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.until(f"{url} is there", f"location.href.startsWith('{url}') && document.readyState === 'complete'")

    def picture(self, path, scheme):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        height = self.value("document.documentElement.scrollHeight")
        self.call("Emulation.setDeviceMetricsOverride", width=1120, height=height, deviceScaleFactor=1, mobile=False)
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


def name():
    found = [shutil.which(own) for own in ("chromium", "chromium-browser", "google-chrome")]
    return next(path for path in found if path)


def text(selector):
    return f"(document.querySelector('{selector}') || {{}}).innerText || ''"


def look(browser):
    browser.open(SIDECAR + "/")
    browser.call("Emulation.setDeviceMetricsOverride", width=1120, height=900, deviceScaleFactor=1, mobile=False)
    browser.until("it tells that it is well", f"({text('#state')}).endsWith('Healthy')")
    for table, rows in [("registrations", 2), ("requests", 3)]:
        browser.until(f"{table} is filled", f"document.querySelectorAll('#{table} tr').length > {rows}")
    browser.until("a certificate's end is told", f"({text('#registrations')}).includes('Path, until 2')")
    browser.until("each API is there", "document.querySelectorAll('#apis details').length === 3")
    browser.until("what went wrong is told", f"({text('#requests')}).includes('Downstream API \\'invoices\\' not configured')")
    # The lines to copy, run as they stand.
    for api, lines in [("orders", 4), ("reports", 5)]:
        browser.value(f"[...document.querySelectorAll('details')].find((one) => one.innerText.startsWith('{api}')).open = true")
        copied = browser.value(
            "[...document.querySelectorAll('details')].find((one) => one.innerText.startsWith('%s'))"
            ".querySelectorAll('pre').values().map((one) => one.textContent).toArray()" % api)
        assert len(copied) == lines, copied
        for line in copied:
            environment = {"PATH": os.environ["PATH"], "NO_PROXY": "*", "TOKEN": fetch(f"{TENANT}/_control/mint?user=alice")}
            if line.startswith("http"):
                line = f'curl -H "Authorization: Bearer $TOKEN" {line}'
            line = line.replace("curl ", "curl --silent --show-error --fail --max-time 10 ", 1)
            done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
    for words, outcome in [("user=alice", "passed"), ("user=alice&aud=api://somebody-else", "FAILED")]:
        token = json.dumps("Bearer " + fetch(f"{TENANT}/_control/mint?{words}"))
        browser.value("document.getElementById('checks').replaceChildren()")
        browser.value(f"document.getElementById('token').value = {token}")
        browser.value("document.querySelector('#judge button').click()")
        row = "[...document.querySelectorAll('#checks tr')].find((one) => one.innerText.startsWith('audience'))"
        browser.until(f"a token is judged: {outcome}", f"(({row}) || {{}}).innerText?.includes('{outcome}')")
    browser.value("document.getElementById('token').value = 'eyJ…'")
    browser.value("document.querySelectorAll('details')[2].open = false")
    assert not browser.complaints, browser.complaints
    # A script that somebody got into it would not run.
    browser.value("const made = document.createElement('script'); made.textContent = 'window.ran = true'; document.body.append(made)")
    assert browser.value("window.ran === undefined")
    for scheme, file in [("light", "page.png"), ("dark", "page-dark.png")]:
        browser.picture(os.path.join(FOLDER, file), scheme)


def look_from_elsewhere(browser):
    """Another origin can neither read it nor ask it, nor frame it."""
    browser.open(TENANT + "/_control/journal")
    for mode in ("cors", "no-cors"):
        for headers in ("{}", "{Accept: 'application/json'}"):
            wanted = f"fetch('{SIDECAR}/', {{mode: '{mode}', headers: {headers}}})"
            seen = browser.value(f"{wanted}.then((answer) => answer.text(), () => '')")
            assert seen == "", seen
    browser.value(f"const frame = document.createElement('iframe'); frame.src = '{SIDECAR}/'; document.body.append(frame)")
    end = time.monotonic() + PATIENCE
    while 'endpoint="/",method="GET",status="403"} 5\n' not in fetch(SIDECAR + "/metrics"):
        assert time.monotonic() < end, "each of the five requests is refused"
        time.sleep(0.05)


tab = Browser()
try:
    look(tab)
    look_from_elsewhere(tab)
finally:
    tab.close()
