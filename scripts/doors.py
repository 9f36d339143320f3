#!/usr/bin/env python3
"""What each endpoint that gives a cached token, or judges a token, takes beside /AuthorizationHeader*.

    scripts/doors.py SIDECAR LOCAL_TENANT [--seconds N] [--rounds N]

Measures each endpoint and the one it is compared with in alternation with wrk, at 1 and at 16 connections, and prints a
markdown table: medians over rounds, and of the ratios of each pair that ran side by side their median and range.
"""

import argparse
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

REPORT = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d\\n", summary.requests, latency:percentile(50),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
FORM = "application/x-www-form-urlencoded"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
APP, USER = "/AuthorizationHeaderUnauthenticated/reports", "/AuthorizationHeader/users"


def await_line(stream, pattern):
    for line in stream:
        if found := re.search(pattern, line):
            return found
    sys.exit(f"'{pattern}' never came")


class Bench:
    def __init__(self, arguments, folder):
        self.arguments, self.folder, self.processes = arguments, Path(folder), []
        tenant = self.start([arguments.tenant], subprocess.PIPE)
        told = {}
        for line in tenant.stdout:
            name, _, value = line.partition("=")
            told[name] = shlex.split(value)[0] if value.strip() else ""
            if name == "USER_IDENTITY_CLIENT_ID":
                break
        settings = {
            "AzureAd:Instance": told["BASE_URL"] + "/", "AzureAd:TenantId": told["TENANT_ID"],
            "AzureAd:ClientId": told["CLIENT_ID"], "AzureAd:ClientSecret": told["CLIENT_SECRET"],
            "DownstreamApis:users:Scopes": told["DOWNSTREAM_SCOPE"], "DownstreamApis:reports:Scopes": told["DOWNSTREAM_APP_SCOPE"],
        }
        command = [arguments.sidecar, "serve", "--urls", "http://127.0.0.1:0"]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        log = self.start(command, None, subprocess.PIPE).stderr
        self.url = await_line(log, r"listening on (http:\S+)")[1]
        await_line(log, "signing keys from")
        with urllib.request.urlopen(told["BASE_URL"] + "/_control/mint") as answer:
            self.token = answer.read().decode()
        self.resource = told["DOWNSTREAM_APP_SCOPE"].removesuffix("/.default")

    def start(self, command, stdout, stderr=None):
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env={}, text=True)
        self.processes.append(process)
        return process

    def doors(self):
        """Name; target, headers and form; the endpoint that it is compared with."""
        bearer, form = {"Authorization": f"Bearer {self.token}"}, {"Content-Type": FORM}
        exchange = f"grant_type={EXCHANGE}&subject_token={self.token}&subject_token_type={ACCESS_TOKEN}"
        app, user = (APP, {}, None), (USER, bearer, None)
        identity = (f"/identity/token?resource={self.resource}&api-version=2019-08-01", {"X-IDENTITY-HEADER": "any"}, None)
        return [
            ("POST `/AuthorizationHeaderUnauthenticated`", (APP, {}, ""), app),
            ("`/identity/token`", identity, app),
            ("`/oauth2/token`, client credentials", ("/oauth2/token/reports", form, "grant_type=client_credentials"), app),
            ("POST `/AuthorizationHeader`", (USER, bearer, ""), user),
            ("`/oauth2/token`, token exchange", ("/oauth2/token/users", form, exchange), user),
            ("`/oauth2/introspect`", ("/oauth2/introspect", form, f"token={self.token}"), user),
            ("`/ForwardAuth`", ("/ForwardAuth", bearer, None), user),
            ("`/Validate`", ("/Validate", bearer, None), user),
        ]

    def measure(self, request, connections):
        """Requests a second, and the median latency in microseconds."""
        target, headers, form = request
        script = self.folder / "request.lua"
        lines = [f'wrk.method = "{"GET" if form is None else "POST"}"']
        lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
        lines += [f'wrk.body = "{form}"'] if form else []
        script.write_text("\n".join(lines) + REPORT)
        command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{self.arguments.seconds}s",
                   "--script", script, self.url + target]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        requests, median, errors = map(int, re.search(r"RESULT (\d+) (\d+) (\d+)", output).groups())
        if errors or not requests:
            sys.exit(f"{target}: {output}")
        return requests / self.arguments.seconds, median

    def stop(self):
        for process in self.processes:
            process.terminate()
            process.wait()


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("sidecar")
    parser.add_argument("tenant")
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print("| endpoint | connections | requests/s | p50 | p50 beside `/AuthorizationHeader*` (range) |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, folder)
        try:
            for connections in (1, 16):
                for name, request, compared in bench.doors():
                    rates, medians, ratios = [], [], []
                    for number in range(arguments.rounds):
                        # Each goes first in turn.
                        pair = [request, compared][:: -1 if number % 2 else 1]
                        measured = [bench.measure(one, connections) for one in pair][:: -1 if number % 2 else 1]
                        rates.append(measured[0][0])
                        medians.append(measured[0][1])
                        ratios.append(measured[0][1] / measured[1][1])
                    print(f"| {name} | {connections} | {statistics.median(rates):,.0f} | {statistics.median(medians):.0f} µs | "
                          f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f}) |", flush=True)
        finally:
            bench.stop()


if __name__ == "__main__":
    main()
