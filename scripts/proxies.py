"""Starts the reverse proxies of docs/reverse-proxy.md between a client and an application, and tries to get a forged identity through."""

import atexit
import http.client
import http.server
import os
import re
import shutil
import socket
import subprocess
import threading
import time

NAMES = ["Subject", "Object-Id", "Tenant", "Client", "Name", "User", "Scopes", "Roles", "Kind", "Claims"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Application(http.server.BaseHTTPRequestHandler):
    """Tells the identity that has reached it."""

    def answer(self):
        names = {name.lower() for name in self.headers if name.lower().replace("_", "-").startswith("x-auth")}
        lines = [f"{name}: {', '.join(self.headers.get_all(name))}" for name in sorted(names)]
        body = "\n".join([f"{self.command} {self.path}", *lines, ""]).encode()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PROPFIND = answer

    def log_message(self, *_):
        pass


application = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
threading.Thread(target=application.serve_forever, daemon=True).start()
running = []


class Proxy:
    """One of them, at `port`; `files` are other blocks of its recipe."""

    def __init__(self, kind, text, sidecar, work, files):
        self.port, name = free_port(), f"{kind}-{len(running)}"
        for written, used in [("127.0.0.1:8000", f"127.0.0.1:{self.port}"), (":8000 {", f":{self.port} {{"),
                              ("127.0.0.1:8080", f"127.0.0.1:{application.server_port}"), ("127.0.0.1:5000", sidecar),
                              ("localhost:5000", sidecar.replace("127.0.0.1", "localhost"))]:
            text = text.replace(written, used)
        ports = {"8000": self.port, "8080": application.server_port, "5000": sidecar.rsplit(":")[-1], "5001": free_port()}
        text = re.sub(r"port_value: (\d+)", lambda found: f"port_value: {ports[found[1]]}", text)
        if "lua" in files:
            (work / f"{name}.lua").write_text(files["lua"].replace("127.0.0.1:5000", sidecar))
            text = text.replace("/etc/haproxy/entra.lua", str(work / f"{name}.lua"))
        if kind == "nginx":
            kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            temporary = " ".join(f"{temp}_temp_path {work}/nginx-{temp};" for temp in kinds)
            user = "user root;" if os.getuid() == 0 else ""
            text = (f"{user} daemon off; worker_processes 1; pid {work}/{name}.pid; error_log {work}/{name}.log;\n"
                    f"events {{ worker_connections 64; }}\nhttp {{ access_log off; {temporary}\n{text}\n}}\n")
        if kind == "caddyfile":
            text = "{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n}\n" + text
        file = work / f"{name}.yaml"
        file.write_text(text)
        command = {"nginx": ["-c", file], "caddyfile": ["run", "--adapter", "caddyfile", "--config", file],
                   "traefik": [f"--providers.file.filename={file}", f"--entrypoints.web.address=127.0.0.1:{self.port}"],
                   "haproxy": ["-db", "-f", file], "envoy": ["--log-level", "error", "--disable-hot-restart", "-c", file]}[kind]
        self.log = work / f"{name}.out"
        environment = {"PATH": os.environ["PATH"], "HOME": str(work)}
        self.process = subprocess.Popen([program(kind), *command], stdout=self.log.open("w"), stderr=subprocess.STDOUT, env=environment)
        running.append(self.process)
        deadline = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                # Traefik listens before it knows its routes.
                if self.ask(None)[0] != 404:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.05)
        raise RuntimeError(f"{kind} does not start: {self.log.read_text()[-2000:]}")

    def ask(self, token, *headers, method="GET", body=None, path="/orders/17?scope=none&x=1"):
        """Status, headers and the lines of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, path, skip_host=True)
        for name, value in [("Host", "orders.example"), *headers]:
            connection.putheader(name, value)
        if token:
            connection.putheader("Authorization", f"Bearer {token}")
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode().splitlines()


def program(kind):
    return shutil.which({"caddyfile": "caddy"}.get(kind, kind), path=os.environ["PATH"] + ":/usr/sbin")


def judge(ready, unready, token, app_token, expired):
    """What a recipe does wrong."""
    wrong = []

    def hold(what, good, got):
        if not good:
            wrong.append(f"{what}: {got}")

    def identity(lines):
        return dict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in lines[1:])

    honest, app = ready.ask(token), ready.ask(app_token)
    if (honest[0], app[0]) != (200, 200):
        return [f"good tokens: {honest} {app} {ready.log.read_text()[-2000:]}"]
    alice = identity(honest[2])
    hold("a good token", alice.get("x-auth-kind") == "user" and alice["x-auth-user"].startswith("alice@"), honest)
    hold("the path", honest[2][0] == "GET /orders/17?scope=none&x=1", honest[2][0])
    application = identity(app[2])
    hold("an application", application.get("x-auth-kind") == "app" and not application.get("x-auth-user"), app)
    for form in ("X-Auth-{}", "x-auth-{}", "X_Auth_{}", "X_AUTH-{}", "X-Auth_{}"):
        forged = [(form.format(name if "-{" in form else name.replace("-", "_")), "forged") for name in NAMES]
        for who, own in ((token, alice), (app_token, application)):
            got = ready.ask(who, *forged, *forged)
            hold(f"forged as {form}", got[0] == 200 and identity(got[2]) == own, got)
        hold(f"forged as {form}, without a token", ready.ask(None, *forged)[0] == 401, "let through")
    got = ready.ask(app_token, ("Connection", "close, X-Auth-Kind, X-Auth-User"), ("X-Auth-User", "forged"))
    hold("named in Connection", got[0] == 200 and "forged" not in str(got[2]) and identity(got[2]) == application, got)
    hold("a client's options", ready.ask(token, ("X-Sidecar-Options", "x=1"))[0] == 200, "refused")
    browser = [("Origin", "https://orders.example"), ("Sec-Fetch-Site", "cross-site"), ("Content-Type", "text/plain")]
    for method in ("POST", "PUT", "DELETE", "PROPFIND"):
        got = ready.ask(token, *browser, method=method, body=b"x" * 100_000)
        hold(method, got[0] == 200 and got[2][0].startswith(method) and identity(got[2]) == alice, got)
    for what, who, said in (("no token", None, "Bearer"), ("an expired token", expired, 'Bearer error="invalid_token", error_descr')):
        got = ready.ask(who, *browser, method="POST", body=b"x")
        hold(what, got[0] == 401 and (got[1]["WWW-Authenticate"] or "").startswith(said), (got[0], str(got[1])))
    got = ready.ask(None, ("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {app_token}"))
    hold("two tokens", got[0] >= 400, got)
    got = unready.ask(token)
    hold("a sidecar that is not ready", got[0] == 503 and got[1]["Retry-After"], (got[0], str(got[1])))
    return wrong


@atexit.register
def stop():
    for process in running:
        process.terminate()
    for process in running:
        process.wait()
