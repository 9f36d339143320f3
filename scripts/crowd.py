#!/usr/bin/env python3
"""What crowds of callers get from the sidecar, and what they cost it, while Entra and APIs take their time.

    scripts/crowd.py SIDECAR [CALLERS]

Starts the sidecar beside a slow Entra and a slow API of its own (asyncio, no signatures: the secret is what is asked for),
sends each crowd, prints a markdown table. It ends with 1 where an answer was neither expected nor allowed.
"""

import asyncio
import collections
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import tempfile
import time

DELAY = 0.3
LARGE = 29 << 20
PASSED = 10 << 20
UPLOAD = 1 << 30
STREAMS = 200
EVENTS = 100
PERIOD = 0.1
CONNECTIONS = 4200
wrong = []


# --- The upstreams --------------------------------------------------------------------------------------------------


async def upstream(reader, writer):
    """One connection of Entra's or the API's: the path says what it is and how it behaves."""
    large = b"x" * (1 << 16)
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            target = head.split(" ")[1]
            length = re.search(r"(?im)^content-length: *(\d+)", head)
            remaining = int(length[1]) if length else 0
            while remaining:
                remaining -= len(await reader.read(min(remaining, 1 << 16)))
            kind, body, size = "application/json", b'{"hello":"world"}', None
            if target.endswith("/token"):
                await asyncio.sleep(DELAY)
                body = b'{"token_type":"Bearer","expires_in":3600,"access_token":"' + b"t" * 1400 + b'"}'
            elif target.startswith("/slow"):
                await asyncio.sleep(DELAY)
            elif target.endswith("/events"):
                await send_events(writer)
                continue
            elif target.endswith("/passed"):
                kind, size = "text/plain", PASSED
            elif target.startswith("/large"):
                kind, size = "text/plain", LARGE
            elif "openid-configuration" in target:
                origin = "http://" + re.search(r"(?im)^host: *(\S+)", head)[1]
                tenant = target.split("/")[1]
                body = (
                    f'{{"issuer":"{origin}/{tenant}/v2.0","jwks_uri":"{origin}/keys",'
                    f'"token_endpoint":"{origin}/{tenant}/oauth2/v2.0/token"}}'
                ).encode()
            elif target.startswith("/keys"):
                body = b'{"keys":[]}'
            writer.write(
                f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {size or len(body)}\r\n\r\n".encode()
            )
            if size is None:
                writer.write(body)
            for _ in range((size or 0) // len(large)):
                writer.write(large)
                await writer.drain()
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def send_events(writer):
    """Server-sent events, each with the time when it was sent."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(EVENTS):
        await asyncio.sleep(PERIOD)
        event = f"data: {time.monotonic():.6f}\n\n".encode()
        writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def serve_upstream(ports):
    async def run():
        servers = [await asyncio.start_server(upstream, "127.0.0.1", 0, backlog=4096) for _ in range(3)]
        ports.send([server.sockets[0].getsockname()[1] for server in servers])
        await asyncio.sleep(3600)

    raise_descriptors()
    asyncio.run(run())


def raise_descriptors():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# --- The sidecar ----------------------------------------------------------------------------------------------------


class Sidecar:
    def __init__(self, program, ports, data_limit=None):
        entra, api, other = (f"http://127.0.0.1:{port}" for port in ports)
        tenant = "10000000-0000-4000-8000-000000000000"
        settings = {
            "AzureAd:Instance": entra + "/",
            "AzureAd:TenantId": tenant,
            "AzureAd:ClientId": tenant,
            "AzureAd:ClientCredentials:0:SourceType": "ClientSecret",
            "AzureAd:ClientCredentials:0:ClientSecret": "s3cret-of-the-crowd",
        }
        bases = {"slow": api, "large": api, "fast": other}
        for name, base in bases.items():
            settings[f"DownstreamApis:{name}:BaseUrl"] = f"{base}/{name}"
            settings[f"DownstreamApis:{name}:Scopes"] = "api://crowd/.default"
            settings[f"DownstreamApis:{name}:RequestAppToken"] = "true"
        command = [program, "serve", "--urls", "http://127.0.0.1:0"]
        for setting in settings.items():
            command += ["--set", "=".join(setting)]

        def limits():
            raise_descriptors()
            if data_limit:
                resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))

        self.folder = tempfile.mkdtemp()
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={}, cwd=self.folder, preexec_fn=limits
        )
        for line in self.process.stderr:
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found[1])
                break
        self.drain = subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=subprocess.DEVNULL)
        time.sleep(0.3)

    def status(self, name):
        """A line of the process's status: KiB or a count."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.drain.wait()
        os.rmdir(self.folder)


# --- The callers ----------------------------------------------------------------------------------------------------


async def call(sidecar, target, body=0, host="localhost"):
    """One caller with a connection of its own: status, seconds, whether it is told when to come back."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    method = "POST" if body else "GET"
    writer.write(
        f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {body}\r\nConnection: close\r\n\r\n".encode()
    )

    async def send():
        try:
            for _ in range(body >> 16):
                writer.write(b"y" * (1 << 16))
                await writer.drain()
        except ConnectionError:
            pass  # Refused from the head: what counts is the answer.

    sending = asyncio.create_task(send())
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        took = time.monotonic() - began
        while await reader.read(1 << 16):
            pass
        status = int(head.split(" ")[1])
        again = "retry-after" in head.lower()
    except (ConnectionError, asyncio.IncompleteReadError):
        took, status, again = time.monotonic() - began, 0, False
    sending.cancel()
    writer.close()
    return status, took, again


async def crowd(callers):
    began = time.monotonic()
    answers = await asyncio.gather(*callers)
    whole = time.monotonic() - began
    statuses = collections.Counter(status for status, _, _ in answers)
    return whole, sorted(took for _, took, _ in answers), statuses, answers


def told(statuses):
    return ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))


def row(*cells):
    print("| " + " | ".join(cells) + " |", flush=True)


async def waiting(sidecar, what, targets):
    """All at once for something that takes `DELAY`; threads and memory while they wait."""
    sidecar.forget_peak()
    threads, resident = sidecar.status("Threads"), sidecar.status("VmRSS")
    task = asyncio.create_task(crowd([call(sidecar, target) for target in targets]))
    during = 0
    while not task.done():
        await asyncio.sleep(0.05)
        during = max(during, sidecar.status("Threads"))
    whole, times, statuses, _ = await task
    if statuses != {200: len(targets)}:
        wrong.append(what)
    peak = sidecar.status("VmHWM")
    row(
        what,
        told(statuses),
        f"all within {whole:.2f} s, the slowest {times[-1]:.2f} s",
        f"{(peak - resident) / len(targets):.0f} KiB a caller",
        f"{threads} threads before, {during} during",
    )


async def large(sidecar, what, callers):
    """Bodies of 29 MiB: all are answered, with 503 and when to come back where memory was short."""
    sidecar.forget_peak()
    whole, _, statuses, answers = await crowd(callers)
    if any(status not in (200, 503) or (status == 503 and not again) for status, _, again in answers):
        wrong.append(what)
    row(what, told(statuses), f"all within {whole:.1f} s", f"at most {sidecar.status('VmHWM') / 1024:.0f} MiB resident", "")


async def refused(sidecar, what, target, **how):
    sidecar.forget_peak()
    before = sidecar.status("VmRSS")
    whole, times, statuses, _ = await crowd([call(sidecar, target, body=LARGE, **how) for _ in range(50)])
    grown = sidecar.status("VmHWM") - before
    if len(statuses) != 1 or min(statuses) < 400:
        wrong.append(what)
    row(what, told(statuses), f"slowest {times[-1] * 1000:.0f} ms", f"{grown} KiB more", "")


async def half_sent(sidecar, what, host):
    """More callers than connections, each with the half of a body; then health is asked for."""
    kept = []
    for _ in range(CONNECTIONS):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
            writer.write(
                f"POST /DownstreamApiUnauthenticated/fast HTTP/1.1\r\nHost: {host}\r\n"
                "Content-Length: 100000\r\n\r\n".encode() + b"z" * 50000
            )
            kept.append(writer)
        except OSError:
            pass
    times, statuses = [], collections.Counter()
    for _ in range(50):
        status, took, _ = await call(sidecar, "/healthz")
        statuses[status] += 1
        times.append(took)
    if statuses != {200: 50} or max(times) > 0.1:
        wrong.append(what)
    row(what, told(statuses), f"health within {max(times) * 1000:.0f} ms", f"{sidecar.status('VmRSS') / 1024:.0f} MiB resident", "")
    for writer in kept:
        writer.transport.abort()


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def events(port, target):
    """One stream of events: how late each was here, in seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    late = []
    async for line in reader:
        if line.startswith(b"data: "):
            late.append(time.monotonic() - float(line[6:]))
        elif line == b"0\r\n":
            break
    writer.close()
    return late


async def cached(sidecar, seconds):
    """One caller that asks for a cached token again and again: how long each answer took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        writer.write(b"GET /AuthorizationHeaderUnauthenticated/fast HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        await reader.readexactly(int(re.search(r"(?i)content-length: *(\d+)", head)[1]))
        times.append(time.monotonic() - began)
        await asyncio.sleep(0.01)
    writer.close()
    return percentile(times[1:], 0.99)


async def passed_through(sidecar, ports):
    """Streams through /ProxyUnauthenticated: memory, and how late events arrive."""
    proxied = "/ProxyUnauthenticated/fast"
    await call(sidecar, proxied + "/x")
    for what, target, count, body in (
        ("64 answers of 10 MiB, passed through", "/passed", 64, 0),
        ("an upload of 1 GiB, passed through", "/x", 1, UPLOAD),
    ):
        sidecar.forget_peak()
        before, threads = sidecar.status("VmRSS"), sidecar.status("Threads")
        whole, _, statuses, _ = await crowd([call(sidecar, proxied + target, body=body) for _ in range(count)])
        if statuses != {200: count}:
            wrong.append(what)
        grown = sidecar.status("VmHWM") - before
        row(what, told(statuses), f"all within {whole:.1f} s", f"{grown / 1024:.1f} MiB more", f"{threads} threads before")
    alone = await cached(sidecar, 3)
    what = f"{STREAMS} streams of events, one each {PERIOD * 1000:.0f} ms"
    for how, port, target in (
        ("without the sidecar", ports[2], "/fast/events"),
        ("passed through", sidecar.port, proxied + "/events"),
    ):
        streams = [asyncio.create_task(events(port, target)) for _ in range(STREAMS)]
        await asyncio.sleep(1)
        beside = await cached(sidecar, EVENTS * PERIOD - 3)
        during = sidecar.status("Threads")
        late = [moment for stream in streams for moment in await stream]
        if len(late) != STREAMS * EVENTS:
            wrong.append(what)
        row(
            f"{what}, {how}",
            f"{len(late)} of {STREAMS * EVENTS} events",
            f"p50 {percentile(late, 0.5) * 1000:.1f} ms, p99 {percentile(late, 0.99) * 1000:.1f} ms after they were sent",
            f"a cached token beside them: p99 {beside * 1000:.1f} ms (alone {alone * 1000:.1f} ms)",
            f"{during} threads during",
        )


async def run(program, callers, ports):
    row("crowd", "answers", "time", "memory", "threads")
    row(*["---"] * 5)
    # Each crowd meets a sidecar that has seen none.
    sidecar = None
    for what, target in (
        ("{0} callers, {0} cold keys, Entra at 300 ms",
         "/AuthorizationHeaderUnauthenticated/slow?optionsOverride.AcquireTokenOptions.FmiPath=crowd/{}"),
        ("{0} calls of an API that takes 300 ms", "/DownstreamApiUnauthenticated/slow"),
    ):
        for number in (callers // 10, callers * 3 // 10, callers * 6 // 10, callers):
            if sidecar:
                sidecar.stop()
            sidecar = Sidecar(program, ports)
            await waiting(sidecar, what.format(number), [target.format(at) for at in range(number)])
    await asyncio.sleep(20)
    row("20 s later", "", "", f"{sidecar.status('VmRSS') / 1024:.0f} MiB resident", f"{sidecar.status('Threads')} threads")
    sidecar.stop()

    sidecar = Sidecar(program, ports)
    await passed_through(sidecar, ports)
    sidecar.stop()

    for limit, name in (None, ""), (192 << 20, ", under `ulimit -d` of 192 MiB"):
        sidecar = Sidecar(program, ports, limit)
        await large(sidecar, "100 answers of 29 MiB" + name,
                    [call(sidecar, "/DownstreamApiUnauthenticated/large") for _ in range(100)])
        await large(sidecar, "100 uploads of 29 MiB" + name,
                    [call(sidecar, "/DownstreamApiUnauthenticated/fast", body=LARGE) for _ in range(100)])
        sidecar.stop()

    sidecar = Sidecar(program, ports)
    target = "/DownstreamApiUnauthenticated/fast"
    await refused(sidecar, "29 MiB behind a Host that is not ours, 50 times", target, host="elsewhere.example")
    await refused(sidecar, "29 MiB for no such API, 50 times", "/DownstreamApiUnauthenticated/none")
    await refused(sidecar, "29 MiB without a token, 50 times", "/DownstreamApi/fast")
    await refused(sidecar, "29 MiB and an unknown option, 50 times", target + "?optionsOverride.Nonsense=1")
    await half_sent(sidecar, f"{CONNECTIONS} half-sent bodies, refused callers", "elsewhere.example")
    await half_sent(sidecar, f"{CONNECTIONS} half-sent bodies, allowed callers", "localhost")
    sidecar.stop()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    raise_descriptors()
    here, there = multiprocessing.Pipe()
    upstreams = multiprocessing.Process(target=serve_upstream, args=(there,), daemon=True)
    upstreams.start()
    asyncio.run(run(os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000, here.recv()))
    upstreams.terminate()
    for what in wrong:
        print(f"crowd: wrong: {what}", file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
