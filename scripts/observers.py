#!/usr/bin/env python3
"""Prometheus watches a running sidecar: the dashboard of deploy/ shows data, and alerts fire when their fault is caused.

    scripts/observers.py SIDECAR LOCAL_TENANT

Every expression of the dashboard, and the measured side of every alert, must return a value. While all is well no alert fires.
Then each fault that can be caused in seconds is, until Prometheus reports its alert. Prometheus reads the alerts without their
`for`: how long each waits is shown by `promtool test rules` (tests/data/alerts-test.yaml).
"""

import json
import math
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEYS = ROOT / "tests/local-tenant/keys"
APP, USER = "/AuthorizationHeaderUnauthenticated/reports", "/AuthorizationHeader/users"
STARTED = "max(max_over_time(process_start_time_seconds[1h]))"
PATIENCE = 120
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url, token=None, post=False):
    """The status and the body, whatever the status."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers, method="POST" if post else "GET")
    try:
        with OPENER.open(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Scene:
    """The tenant, the sidecar and Prometheus."""

    def __init__(self, sidecar, tenant, folder):
        self.program, self.folder, self.processes, self.sidecar = sidecar, folder, [], None
        self.told = {}
        for line in self.start([tenant], stdout=subprocess.PIPE).stdout:
            name, _, value = line.partition("=")
            self.told[name] = shlex.split(value)[0] if value.strip() else ""
            if name == "USER_IDENTITY_CLIENT_ID":
                break
        self.port, port = free_port(), free_port()
        self.url, self.prometheus = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{port}"
        self.serve("client-1")
        self.token = fetch(self.told["BASE_URL"] + "/_control/mint")[1].decode()
        self.observe(port)
        self.asked = 0

    def start(self, command, **pipes):
        process = subprocess.Popen(command, env={}, text=True, cwd=self.folder, **pipes)
        self.processes.append(process)
        return process

    def serve(self, certificate):
        """Small limits, for there to be enough of what is counted."""
        credentials = "AzureAd:ClientCredentials"
        settings = {
            "AzureAd:Instance": self.told["BASE_URL"] + "/",
            "AzureAd:TenantId": self.told["TENANT_ID"],
            "AzureAd:ClientId": self.told["CLIENT_ID"],
            f"{credentials}:0:SourceType": "Path",
            f"{credentials}:0:CertificateDiskPath": KEYS / f"{certificate}.crt.pem",
            f"{credentials}:0:CertificateKeyDiskPath": KEYS / f"{certificate}.pem",
            f"{credentials}:1:SourceType": "ClientSecret",
            f"{credentials}:1:ClientSecret": self.told["CLIENT_SECRET"],
            "DownstreamApis:users:Scopes": self.told["DOWNSTREAM_SCOPE"],
            "DownstreamApis:reports:BaseUrl": self.told["DOWNSTREAM_URL"],
            "DownstreamApis:reports:Scopes": self.told["DOWNSTREAM_APP_SCOPE"],
            "Sidecar:Limits:TokenCacheEntries": 50,
            "Sidecar:Limits:UpstreamCalls": 4,
        }
        command = [self.program, "serve", "--urls", self.url]
        for setting in settings.items():
            command += ["--set", "{}={}".format(*setting)]
        with (self.folder / "sidecar.log").open("w") as log:
            self.sidecar = self.start(command, stderr=log)
        until("the sidecar serves", lambda: "is ready" in (self.folder / "sidecar.log").read_text())

    def end_sidecar(self):
        self.sidecar.kill()
        self.sidecar.wait()

    def observe(self, port):
        rules = (ROOT / "deploy/prometheus/alerts.yaml").read_text()
        (self.folder / "alerts.yaml").write_text(re.sub(r"(?m)^ +for: .*\n", "", rules))
        (self.folder / "prometheus.yaml").write_text(f"""
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: [alerts.yaml]
scrape_configs:
  - job_name: entra-sidecar
    static_configs: [{{ targets: ["127.0.0.1:{self.port}"] }}]
""")
        flags = ["--config.file=prometheus.yaml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"]
        with (self.folder / "prometheus.log").open("w") as log:
            self.start(["prometheus", *flags], stdout=log, stderr=log)
        until("Prometheus scrapes", lambda: self.values("up == 1"))

    def api(self, path, **parameters):
        try:
            status, body = fetch(f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        except OSError:
            return None  # It has not started yet.
        answer = json.loads(body) if status != 503 else {}
        if status == 400:
            sys.exit(f"observers: Prometheus refuses {parameters}: {answer['error']}")
        return answer.get("data")

    def values(self, expression):
        """The finite values of an instant query."""
        result = (self.api("query", query=expression) or {"result": []})["result"]
        found = [float(one["value"][1]) for one in result]
        return [value for value in found if math.isfinite(value)]

    def firing(self):
        """The summaries of the alerts that fire, by name."""
        alerts = (self.api("alerts") or {"alerts": []})["alerts"]
        return {one["labels"]["alertname"]: one["annotations"]["summary"] for one in alerts if one["state"] == "firing"}

    def ask(self, target, token=None):
        try:
            return fetch(self.url + target, token)[0]
        except OSError:
            return 0

    def cold(self, count, scopes=None):
        """Requests for tokens that were never asked for."""
        for _ in range(count):
            self.asked += 1
            query = {"optionsOverride.AcquireTokenOptions.FmiPath": f"seen/{self.asked}"}
            query |= {"optionsOverride.Scopes": scopes} if scopes else {}
            self.ask(f"{APP}?{urllib.parse.urlencode(query)}")

    def control(self, request, **parameters):
        status, body = fetch(f"{self.told['BASE_URL']}/_control/{request}?{urllib.parse.urlencode(parameters)}", post=True)
        assert status == 204, body

    def stop(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()


def until(what, holds, again=lambda: None):
    end = time.monotonic() + PATIENCE
    while not (found := holds()):
        if time.monotonic() > end:
            sys.exit(f"observers: never came: {what}")
        again()
        time.sleep(0.2)
    return found


def dashboard():
    """Title and expression of each query, with every variable at its widest."""
    board = json.loads((ROOT / "deploy/grafana/entra-sidecar.json").read_text())
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel["targets"]]
    found += [(entry["name"], entry["expr"]) for entry in board["annotations"]["list"] if "expr" in entry]
    widest = {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m"}
    for name, value in widest.items():
        found = [(title, expression.replace(name, value)) for title, expression in found]
    return found


def measured(alert):
    """An alert's expression without the limits at its end."""
    return re.sub(r"( (>=|==|>|<) [\d* .]+)+$", "", alert)


def ordinary(scene):
    """What an application asks for, and one thing that Entra refuses."""
    for _ in range(12):
        for target, token in ((APP, None), (USER, scene.token), ("/Validate", scene.token), ("/healthz", None)):
            scene.ask(target, token)
    scene.ask(f"{APP}?optionsOverride.AcquireTokenOptions.ForceRefresh=true")
    scene.ask("/DownstreamApiUnauthenticated/reports")
    scene.ask(f"{APP}?optionsOverride.Scopes=api://nobody/.default")


def all_is_well(scene):
    rules = until("the rules", lambda: (scene.api("rules") or {"groups": []})["groups"])
    alerts = [(rule["name"], measured(rule["query"])) for group in rules for rule in group["rules"]]
    # The series of failures has to be there; that nothing is amiss is said by no data.
    panels, empty = dashboard(), {"Starts"}
    missing = []

    def complete():
        missing[:] = [title for title, expression in panels + alerts if title not in empty and not scene.values(expression)]
        return not missing

    try:
        until("data", complete, lambda: ordinary(scene))
    except SystemExit:
        sys.exit(f"observers: no data in {PATIENCE} s: {missing}")
    for label in ("job", "instance"):
        assert scene.api(f"label/{label}/values", **{"match[]": "entra_sidecar_build_info"}), label
    assert not scene.firing(), scene.firing()
    print(f"observers: {len(panels)} expressions of the dashboard and {len(alerts)} of alerts return data, no alert fires")
    return {name for name, _ in alerts}


def faults(scene):
    """Causes what the alerts report, and returns their names."""
    seen = {}

    def fires(alert, again=lambda: None):
        seen[alert] = until(alert, lambda: scene.firing().get(alert), again)
        print(f"observers: {alert}: {seen[alert]}", flush=True)

    fires("EntraTokenCacheTooSmall", lambda: scene.cold(40))
    fires("EntraRefuses", lambda: scene.cold(20, "api://nobody/.default"))

    scene.control("faults", kind="token", delay_ms=4000, times=12)
    callers = [threading.Thread(target=scene.cold, args=(1,)) for _ in range(12)]
    for caller in callers:
        caller.start()
    fires("EntraUpstreamCallsWait")
    for caller in callers:
        caller.join()

    scene.control("faults", kind="token", status=503, times=1000000)
    fires("EntraUnreachable", lambda: scene.cold(5))
    fires("EntraSidecarFailing", lambda: scene.cold(5))

    scene.end_sidecar()
    fires("EntraSidecarDown")
    for _ in range(4):
        scene.end_sidecar()
        before = scene.values(STARTED)
        scene.serve("client-expired")
        until("the next process is scraped", lambda: scene.values(STARTED) > before)
    fires("EntraSidecarRestarts")
    fires("EntraCertificateExpired")
    return seen


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    programs = [str(Path(path).resolve()) for path in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        scene = None
        try:
            scene = Scene(*programs, Path(folder))
            alerts = all_is_well(scene)
            seen = faults(scene)
        finally:
            if scene:
                scene.stop()
    print(f"observers: {len(seen)} of {len(alerts)} alerts fired when their fault was caused; by promtool alone:",
          ", ".join(sorted(alerts - seen.keys())))


if __name__ == "__main__":
    main()
