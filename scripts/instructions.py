#!/usr/bin/env python3
"""Counts the instructions of a request with callgrind: the one figure that repeats exactly on a busy machine.

    scripts/instructions.py SIDECAR LOCAL_TENANT

Run by scripts/bench.sh --instructions. Prints a markdown table; needs valgrind and a sidecar for this machine.
"""

import glob
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import urllib.request

REQUESTS = 500
HEADER = "/AuthorizationHeaderUnauthenticated/reports"


def start_tenant(program):
    process = subprocess.Popen([program, "--port", "0"], stdout=subprocess.PIPE, text=True)
    told = {}
    for line in process.stdout:
        name, _, value = line.partition("=")
        told[name] = shlex.split(value)[0] if value.strip() else ""
        if name == "USER_IDENTITY_CLIENT_ID":
            return process, told
    sys.exit("the local tenant did not start")


class Sidecar:
    """A sidecar under callgrind."""

    def __init__(self, program, tenant, folder, apis=1):
        self.folder = folder
        settings = {
            "AzureAd:Instance": tenant["BASE_URL"] + "/",
            "AzureAd:TenantId": tenant["TENANT_ID"],
            "AzureAd:ClientId": tenant["CLIENT_ID"],
            "AzureAd:ClientSecret": tenant["CLIENT_SECRET"],
            "DownstreamApis:users:Scopes": tenant["DOWNSTREAM_SCOPE"],
            # A limit that the growth of the cache does not meet.
            "Sidecar:Limits:TokenCacheEntries": "100000",
        }
        # The one that is asked for is the last that a search from the front would find.
        for name in [f"other{number}" for number in range(apis - 1)] + ["reports"]:
            settings[f"DownstreamApis:{name}:Scopes"] = tenant["DOWNSTREAM_APP_SCOPE"]
            settings[f"DownstreamApis:{name}:RequestAppToken"] = "true"
        command = ["valgrind", "--tool=callgrind", "-q", f"--callgrind-out-file={folder}/out"]
        command += [program, "serve", "--urls", "http://127.0.0.1:0"]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        # With the allocator's setting there the program does not start itself again, which valgrind does not follow.
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "MALLOC_ARENA_MAX": "4"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder)
        self.port = None
        for line in self.process.stderr:
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
            self.port = int(found[1]) if found else self.port
            if "signing keys from" in line:
                return
        sys.exit("the sidecar did not start")

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port))

    def ask(self, targets, header="", form=None):
        """One request after the other on one connection: GET, or POST of a form."""
        method = "GET" if form is None else "POST"
        if form is not None:
            header += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n"
        with self.connect() as stream:
            for target in targets:
                stream.sendall(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n{header}\r\n{form or ''}".encode())
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += stream.recv(65536)
                head, _, body = answer.partition(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    sys.exit(f"{target}: {answer[:500]}")
                length = int(re.search(rb"Content-Length: (\d+)", head)[1])
                while len(body) < length:
                    body += stream.recv(65536)

    def counted_since_last_time(self):
        control = ["callgrind_control", "--dump", str(self.process.pid)]
        subprocess.run(control, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        last = max(glob.glob(f"{self.folder}/out.*"), key=lambda name: int(name.rsplit(".", 1)[1]))
        with open(last, encoding="utf-8") as dump:
            return int(re.search(r"^(?:totals|summary): (\d+)", dump.read(), re.MULTILINE)[1])

    def cost(self, target, header="", form=None):
        """Instructions of one request, once everything is warm."""
        self.ask([target] * 20, header, form)
        self.counted_since_last_time()
        self.ask([target] * REQUESTS, header, form)
        return round(self.counted_since_last_time() / REQUESTS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def main():
    program, tenant_program = (os.path.abspath(path) for path in sys.argv[1:3])
    process, tenant = start_tenant(tenant_program)
    rows = []
    try:
        token = urllib.request.urlopen(tenant["BASE_URL"] + "/_control/mint").read().decode()
        bearer = f"Authorization: Bearer {token}\r\n"
        with tempfile.TemporaryDirectory() as folder, Sidecar(program, tenant, folder) as sidecar:
            rows.append(("`/healthz`", sidecar.cost("/healthz")))
            rows.append(("`/AuthorizationHeaderUnauthenticated`, cached", sidecar.cost(HEADER)))
            rows.append(("`/AuthorizationHeader` on behalf of a user, cached", sidecar.cost("/AuthorizationHeader/users", bearer)))
            rows.append(("`/Validate`, token seen before", sidecar.cost("/Validate", bearer)))
            exchange = (f"grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}"
                        "&subject_token_type=urn:ietf:params:oauth:token-type:access_token")
            resource = tenant["DOWNSTREAM_APP_SCOPE"].removesuffix("/.default")
            rows.append(("POST `/AuthorizationHeaderUnauthenticated`, cached", sidecar.cost(HEADER, form="")))
            rows.append(("`/identity/token`, cached", sidecar.cost(
                f"/identity/token?resource={resource}&api-version=2019-08-01", "X-IDENTITY-HEADER: any\r\n")))
            rows.append(("`/oauth2/token`, client credentials, cached",
                         sidecar.cost("/oauth2/token/reports", form="grant_type=client_credentials")))
            rows.append(("`/oauth2/token`, token exchange, cached", sidecar.cost("/oauth2/token/users", form=exchange)))
            rows.append(("`/oauth2/introspect`, token seen before", sidecar.cost("/oauth2/introspect", form=f"token={token}")))
            rows.append(("`/ForwardAuth`, token seen before", sidecar.cost("/ForwardAuth", bearer)))
            for cached in (10, 1000, 10000):
                path = HEADER + "?optionsOverride.AcquireTokenOptions.FmiPath=p/"
                sidecar.ask([f"{path}{number}" for number in range(cached)])
                rows.append((f"cached, with {cached:,} tokens in the cache", sidecar.cost(HEADER)))
            idle = []
            for connections in (100, 1000):
                idle += [sidecar.connect() for _ in range(connections - len(idle))]
                rows.append((f"cached, with {connections:,} more connections open", sidecar.cost(HEADER)))
        for apis in (100, 1000):
            with tempfile.TemporaryDirectory() as folder, Sidecar(program, tenant, folder, apis) as sidecar:
                rows.append((f"cached, with {apis:,} configured APIs", sidecar.cost(HEADER)))
    finally:
        process.kill()
    print("| request | instructions |\n|---|---|")
    for name, cost in rows:
        print(f"| {name} | {cost:,} |")


if __name__ == "__main__":
    main()
