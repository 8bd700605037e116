"""The servers that the image comes from: docker-registry, nginx before it, a proxy that takes its time, a link with a limit.

All of it is on loopback, or in a network namespace that is made here and goes away with this process.
"""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

DEADLINE = 30


def _wait_for(condition, process, what, log):
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{what} does not start:\n" + (log.read_text() if log.exists() else ""))
        time.sleep(0.01)
    return found


@contextmanager
def _stopping(process):
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def registry(folder, host="127.0.0.1", within=()):
    """Debian's docker-registry on a port that the system picks; gives its address. `within` runs it somewhere else."""
    folder.mkdir(exist_ok=True)
    configuration, log = folder / "registry.yml", folder / "registry.log"
    configuration.write_text(
        f"version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\nhttp: {{addr: '{host}:0'}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{folder / 'storage'}'}}}}\n"
    )
    with log.open("wb") as stream:
        command = [*within, "docker-registry", "serve", configuration]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream)
    with _stopping(process):
        pattern = re.compile(rf"listening on ({re.escape(host)}:\d+)")
        yield _wait_for(lambda: pattern.search(log.read_text()), process, "docker-registry", log).group(1)


@contextmanager
def serve(ocipull, layout):
    """A layout over the distribution API, by ocipull itself; gives its address."""
    command = [ocipull, "serve", layout, "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with _stopping(process):
        said = re.search(r"http://(\S+)", process.stdout.readline())
        yield said.group(1) if said else sys.exit("ocipull serve does not start")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def nginx(folder, upstream, storage, *, rate=None, ranges=True):
    """nginx before a registry, which lets each connection have so many bytes a second (`20m`), or refuses ranges.

    It sends blobs from the registry's files, as storage behind a registry does: passing on the registry's bytes would cost more of
    the processors that the tools are measured on.
    """
    folder.mkdir(exist_ok=True)
    port = _free_port()
    limit = f"limit_rate {rate};" if rate else ""
    refusal = "" if ranges else "max_ranges 0;"
    blob = "^/v2/.+/blobs/(?<algorithm>[a-z0-9]+):(?<start>..)(?<rest>[0-9a-f]+)$"
    configuration, log = folder / "nginx.conf", folder / "nginx.log"
    configuration.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {log};\n"
        "events { worker_connections 512; }\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n"
        f"server {{ listen 127.0.0.1:{port}; {limit}\n"
        f"location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Host $http_host;\n"
        "proxy_set_header Connection \"\"; proxy_max_temp_file_size 0; }\n"
        f"location ~ '{blob}' {{ alias {storage}/docker/registry/v2/blobs/$algorithm/$start/$start$rest/data;\n"
        f"default_type application/octet-stream; sendfile on; {refusal} }} }} }}\n"
    )
    log.touch()
    with log.open("ab") as stream:
        process = subprocess.Popen(["nginx", "-c", configuration], stdout=subprocess.DEVNULL, stderr=stream)

    def accepts():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with _stopping(process):
        _wait_for(accepts, process, "nginx", log)
        yield f"127.0.0.1:{port}"


class Relay:
    """Passes connections on to a registry, each byte after `delay` seconds, and counts what comes back."""

    def __init__(self, upstream, delay=0.0):
        host, port = upstream.rsplit(":", 1)
        self.upstream, self.delay = (host, int(port)), delay
        self.received = 0
        self.open = self.most = 0
        self.loop = asyncio.new_event_loop()
        started = threading.Event()

        def run():
            asyncio.set_event_loop(self.loop)
            self.server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]
            started.set()
            self.loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        started.wait()

    async def _serve(self, reader, writer):
        self.open += 1
        self.most = max(self.most, self.open)
        # The kernel's buffers count as delivered, so they are to be small beside an image.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 << 10)
        writer.transport.set_write_buffer_limits(high=64 << 10)
        try:
            # The handshake has gone by without delay: the round trip that it takes comes here.
            await asyncio.sleep(2 * self.delay)
            far_reader, far_writer = await asyncio.open_connection(*self.upstream)
            ways = [self._pass(reader, far_writer, False), self._pass(far_reader, writer, True)]
            ways = [asyncio.create_task(way) for way in ways]
            try:
                # When one side leaves, what it sent has been delivered, and there is nobody left to answer to.
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                far_writer.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _pass(self, reader, writer, counts):
        waiting = asyncio.Queue()

        async def deliver():
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(due - self.loop.time())
                if not data:
                    break
                writer.write(data)
                await writer.drain()
                # What still lies here when the client dies went over no wire.
                if counts:
                    self.received += len(data)
            if writer.can_write_eof():
                writer.write_eof()

        delivering = asyncio.create_task(deliver())
        try:
            while data := await reader.read(1 << 16):
                waiting.put_nowait((self.loop.time() + self.delay, data))
                # What is under way is bounded by what a link with this delay holds.
                while waiting.qsize() > (1024 if self.delay else 1) and not delivering.done():
                    await asyncio.sleep(0.001)
            waiting.put_nowait((self.loop.time() + self.delay, b""))
            await delivering
        except OSError:
            pass
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)

    async def _end(self):
        self.server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def stop(self):
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)


@contextmanager
def relay(upstream, delay=0.0):
    """A relay that ends with the block."""
    made = Relay(upstream, delay)
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def link(rate):
    """A network namespace behind a link of this rate (`1gbit`); gives its address and what runs a program in it.

    None where namespaces cannot be made: that needs root, or a user who may.
    """
    name, here, there = f"ocipull-{os.getpid()}", f"oci{os.getpid() % 100000}a", f"oci{os.getpid() % 100000}b"
    within = ["ip", "netns", "exec", name]
    near, far = "10.213.97.1", "10.213.97.2"
    steps = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", here, "type", "veth", "peer", "name", there],
        ["ip", "link", "set", there, "netns", name],
        ["ip", "address", "add", f"{near}/30", "dev", here],
        ["ip", "link", "set", here, "up"],
        [*within, "ip", "address", "add", f"{far}/30", "dev", there],
        [*within, "ip", "link", "set", there, "up"],
        [*within, "ip", "link", "set", "lo", "up"],
        [*within, "tc", "qdisc", "add", "dev", there, "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms"],
    ]
    can = shutil.which("ip") and shutil.which("tc") and os.geteuid() == 0
    try:
        done = can and all(subprocess.run(step, stderr=subprocess.DEVNULL).returncode == 0 for step in steps)
        yield (far, within) if done else None
    finally:
        if can:
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)
            subprocess.run(["ip", "link", "delete", here], stderr=subprocess.DEVNULL)
