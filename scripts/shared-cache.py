#!/usr/bin/env python3
"""What the shared cache saves and costs: the figures of docs/scale.md.

    scripts/shared-cache.py SIDECAR LOCAL_TENANT [REPLICAS]

SIDECAR is built with the feature shared-cache. Starts a redis-server, sidecars, a slow Entra of its own and the local tenant,
prints a markdown table, and ends with 1 where an answer was wrong.
"""

import asyncio
import concurrent.futures
import http.client
import multiprocessing
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

CALLERS = 50
KEYS = 20
AT_ONCE = 25
TENANT = "10000000-0000-4000-8000-000000000000"
wrong = []


# --- The surroundings -----------------------------------------------------------------------------------------------


def serve_entra(delay, count, ports):
    async def connection(reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = re.search(r"(?im)^content-length: *(\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                body = b'{"keys":[]}'
                if head.split(" ")[1].endswith("/token"):
                    with count.get_lock():
                        count.value += 1
                    await asyncio.sleep(delay.value)
                    body = b'{"token_type":"Bearer","expires_in":3600,"access_token":"%d.%s"}' % (count.value, b"t" * 1400)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run():
        server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=4096)
        ports.send(server.sockets[0].getsockname()[1])
        await asyncio.sleep(3600)

    asyncio.run(run())


class Store:
    def __init__(self, folder):
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.key_file = os.path.join(folder, "key")
        with open(self.key_file, "w", encoding="ascii") as file:
            file.write("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--save", "", "--dir", self.folder], stdout=subprocess.DEVNULL
        )
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionError:
                time.sleep(0.01)

    def ask(self, *words):
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            return connection.recv(65536).decode("latin-1")

    def settings(self):
        return {"Sidecar:SharedCache:Url": f"redis://127.0.0.1:{self.port}", "Sidecar:SharedCache:KeyFile": self.key_file}


class Sidecar:
    def __init__(self, program, instance, tenant, client, secret, further):
        settings = {
            "AzureAd:Instance": instance,
            "AzureAd:TenantId": tenant,
            "AzureAd:ClientId": client,
            "AzureAd:ClientCredentials:0:SourceType": "ClientSecret",
            "AzureAd:ClientCredentials:0:ClientSecret": secret,
            "DownstreamApis:App:Scopes": "api://downstream/.default",
            "DownstreamApis:App:RequestAppToken": "true",
            **further,
        }
        command = [program, "serve", "--urls", "http://127.0.0.1:0"]
        for setting in settings.items():
            command += ["--set", "=".join(setting)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for line in self.process.stderr:
            if b"listening on http://" in line:
                self.port = int(line.rsplit(b":", 1)[1])
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


def ask(connection, key):
    """The token, and the seconds that it took."""
    start = time.perf_counter()
    connection.request("GET", f"/AuthorizationHeaderUnauthenticated/App?optionsOverride.AcquireTokenOptions.FmiPath={key}")
    answer = connection.getresponse()
    body = answer.read()
    took = time.perf_counter() - start
    if answer.status != 200:
        wrong.append(f"{answer.status}: {body[:200]}")
    return body, took


def milliseconds(times):
    times = sorted(times)
    return f"p50 {1000 * statistics.median(times):.2f} ms, p99 {1000 * times[int(len(times) * 0.99)]:.2f} ms"


def row(what, result):
    print(f"| {what} | {result} |", flush=True)


# --- The measurements -----------------------------------------------------------------------------------------------


def crowd(start, count):
    sidecars = [start() for _ in range(3)]
    count.value = 0
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(3 * CALLERS) as pool:
        answers = list(pool.map(lambda n: ask(sidecars[n % 3].connect(), "crowd"), range(3 * CALLERS)))
    took = time.perf_counter() - began
    if len({body for body, _ in answers}) != 1:
        wrong.append("the crowd got several tokens")
    row(f"3 replicas, {CALLERS} callers each, one cold key, Entra at 300 ms", f"{count.value} token requests, all answered within {took:.2f} s")
    for sidecar in sidecars:
        sidecar.stop()


def rollout(start, count, replicas, what):
    def replica(_):
        sidecar = start()
        connection = sidecar.connect()
        for key in range(KEYS):
            ask(connection, f"k{key}")
        sidecar.stop()

    count.value = 0
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(replica, range(replicas)))
    took = time.perf_counter() - began
    row(f"{replicas} replicas, {AT_ONCE} at a time, {KEYS} keys each, {what}", f"{count.value} token requests, in {took:.0f} s")


def hit(start, start_alone, number=1000):
    """A token from the store, against one from the local tenant; each key is asked for once."""
    first, second, alone = start(), start(), start_alone()
    connections = [sidecar.connect() for sidecar in (first, second, alone)]
    for connection in connections:
        ask(connection, "warm")
    miss, found, asked, cached = [], [], [], []
    # In turns, so that a busy machine is as busy for all.
    for key in range(number):
        if key % 2:
            asked.append(ask(connections[2], f"h{key}")[1])
        miss.append(ask(connections[0], f"h{key}")[1])
        found.append(ask(connections[1], f"h{key}")[1])
        cached.append(ask(connections[1], f"h{key}")[1])
        if key % 2 == 0:
            asked.append(ask(connections[2], f"h{key}")[1])
    row("a token from memory", milliseconds(cached))
    row("a token from the shared cache", milliseconds(found))
    row("a token from the local tenant, without the shared cache", milliseconds(asked))
    row("a token from the local tenant, with it: asked in vain, locked, written", milliseconds(miss))
    for sidecar in (first, second, alone):
        sidecar.stop()


def outage(start, store, seconds=6.0):
    sidecar = start()
    ask(sidecar.connect(), "cached")
    stop, times = time.perf_counter() + seconds, {"cached": [], "cold": []}

    def load(kind, number):
        connection, key = sidecar.connect(), 0
        while (now := time.perf_counter()) < stop:
            key += 1
            times[kind].append((now, ask(connection, "cached" if kind == "cached" else f"o{number}x{key}")[1]))

    threads = [threading.Thread(target=load, args=("cached", n)) for n in range(2)]
    threads += [threading.Thread(target=load, args=("cold", n)) for n in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 2)
    killed = time.perf_counter()
    store.process.kill()
    store.process.wait()
    for thread in threads:
        thread.join()
    for kind, what in (("cached", "cached answers"), ("cold", "cold keys, Entra at 50 ms")):
        before = [took for at, took in times[kind] if at < killed - 0.2]
        after = [took for at, took in times[kind] if at > killed - 0.2]
        row(f"Redis killed under load: {what}, before", milliseconds(before))
        row(f"the same after", f"{milliseconds(after)}, longest {1000 * max(after):.1f} ms")
    sidecar.stop()


def main():
    program, tenant_program = sys.argv[1:3]
    replicas = int(sys.argv[3]) if len(sys.argv) > 3 else 500
    count, delay = multiprocessing.Value("i", 0), multiprocessing.Value("d", 0.3)
    here, there = multiprocessing.Pipe()
    entra = multiprocessing.Process(target=serve_entra, args=(delay, count, there), daemon=True)
    entra.start()
    instance = f"http://127.0.0.1:{here.recv()}/"
    tenant = subprocess.Popen([tenant_program], stdout=subprocess.PIPE, text=True)
    told = {}
    for line in tenant.stdout:
        name, _, value = line.strip().partition("=")
        told[name] = value.strip("'")
        if name == "USER_IDENTITY_CLIENT_ID":
            break
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        shared = {**store.settings(), "Sidecar:SharedCache:Timeout": "0.1"}

        def slow(further):
            return lambda: Sidecar(program, instance, TENANT, TENANT, "s3cret", further)

        def local(further):
            return lambda: Sidecar(program, told["BASE_URL"] + "/", told["TENANT_ID"], told["CLIENT_ID"], told["CLIENT_SECRET"], further)

        try:
            print("| what | result |\n|---|---|")
            crowd(slow(shared), count)
            delay.value = 0.1
            rollout(slow({}), count, replicas, "without the shared cache")
            rollout(slow(shared), count, replicas, "with it")
            row(f"the store with {KEYS + 1} tokens of 1.4 KB", re.search(r"used_memory_dataset:(\d+)", store.ask("INFO", "memory"))[1] + " bytes of data")
            hit(local(shared), local({}))
            delay.value = 0.05
            outage(slow(shared), store)
        finally:
            store.process.kill()
            tenant.kill()
            entra.kill()
    for problem in wrong[:10]:
        print(f"wrong: {problem}", file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
