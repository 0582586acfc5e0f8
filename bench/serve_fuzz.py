"""Malformed requests against a server built with sanitizers: bytes, HTTP, JSON, parameters, slow and half-open connections.

    cmake -S . -B build-asan -G Ninja -DUNMASK_SANITIZE=address,undefined && ninja -C build-asan unmask_program
    python3 bench/serve_fuzz.py build-asan/unmask . [--requests 1000000] [--processes 12] [--seed 1] [--only I/K]

It fails unless: the server lives and says so on /health; every reply is well-formed HTTP of status 2xx or 4xx (503 where
requests are many; 501 and 505 where the frame asks for what HTTP/1.1 has not); a request with a whole frame has one, within
minutes; its memory is flat, and its pages come back. At the end it is told to leave (SIGTERM) while streams run and requests
come in: each stream that was accepted has to come to its [DONE], and the exit code to be 0, which the sanitizers give only
where they found nothing, leaks included. A batch of requests is a function of seed, process and number (--only makes one
again). Leaves with 1 where it fails.
"""
import argparse
import asyncio
import multiprocessing
import os
import queue
import random
import re
import signal
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(HERE, "support"), os.path.join(HERE, "..", "tests", "server")]
import malformed
import small_model
from service import DEMO, Service, check
from streams import ask

PATIENCE, SLOW_SOCKETS, SLACK_KIB = 400, 24, 16384
SANITIZERS = {"ASAN_OPTIONS": "quarantine_size_mb=16:detect_leaks=1:allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1"}


class Finding(Exception):
    pass


class Replies:
    """Reads replies from a socket and checks their form."""

    def __init__(self, connection, is_head=False, until=None):
        self.connection, self.buffer, self.is_head, self.until_time = connection, b"", is_head, until

    def more(self):
        """False at the end of what the server sends, or of the time in which it is looked at."""
        if self.until_time:
            self.connection.settimeout(max(self.until_time - time.time(), 0.001))
        try:
            data = self.connection.recv(1 << 16)
        except ConnectionError:
            return False
        except TimeoutError:
            if self.until_time:
                return False
            raise Finding("no reply within %d s; before: %r" % (PATIENCE, self.buffer[:200]))
        self.buffer += data
        return bool(data)

    def until(self, n_bytes):
        while len(self.buffer) < n_bytes and self.more():
            pass
        return len(self.buffer) >= n_bytes

    def line(self, end):
        while end not in self.buffer:
            if not self.more():
                return None
        text, self.buffer = self.buffer.split(end, 1)
        return text

    def chunks(self):
        """Whether a chunked body came to its end."""
        while True:
            size = self.line(b"\r\n")
            if size is None:
                return False
            if not re.fullmatch(rb"[0-9a-fA-F]+", size):
                raise Finding("a chunk of size %r" % size[:50])
            n = int(size, 16)
            if not self.until(n + 2):
                return False
            if self.buffer[n:n + 2] != b"\r\n":
                raise Finding("a chunk without its end")
            self.buffer = self.buffer[n + 2:]
            if n == 0:
                return True

    def next(self):
        """A reply's status; None at the end, also in the midst of one."""
        head = self.line(b"\r\n\r\n")
        if head is None:
            if self.buffer and not b"HTTP/1.".startswith(self.buffer[:7]):
                raise Finding("no reply: %r" % self.buffer[:200])
            return None
        found = re.match(rb"HTTP/1\.[01] (\d\d\d) [ -~]*(?:\r\n|$)", head)
        if not found:
            raise Finding("no status line: %r" % head[:200])
        status = int(found.group(1))
        if status == 100:
            return self.next()
        if not (200 <= status < 300 or 400 <= status < 500 or status in (501, 503, 505)):
            raise Finding("status %d: %r" % (status, head[:300]))
        fields = dict(re.findall(rb"\r\n([!-9;-~]+): *([^\r\n]*)", head))
        if any(not re.match(rb"[!-9;-~]+:", line) for line in head.split(b"\r\n")[1:]):
            raise Finding("a field without a name: %r" % head[:300])
        if self.is_head:
            return status
        if fields.get(b"Transfer-Encoding") == b"chunked":
            return status if self.chunks() else None
        if status == 200 and b"Content-Length" not in fields: # to HTTP/1.0: until the connection ends
            while self.more():
                pass
            self.buffer = b""
            return status
        n = int(fields.get(b"Content-Length", 0))
        if not self.until(n):
            return None
        if n and self.buffer.startswith(head[:40]): # libmicrohttpd 0.9.75 says the head of some of its own errors twice
            self.until(len(head) + 4 + n)
            n = len(self.buffer)
        self.buffer = self.buffer[n:]
        return status


def connect(port):
    for _ in range(100):
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except OSError:
            time.sleep(0.05)
    raise Finding("no connection")


def send_framed(port, requests, counts):
    """All down one connection; a reply to each. What a closed connection leaves over goes down another."""
    n_vain = 0
    while requests:
        with connect(port) as connection:
            sender = threading.Thread(target=lambda data: send_all(connection, data), args=(b"".join(requests),))
            sender.start()
            replies, n = Replies(connection), 0
            while n < len(requests):
                status = replies.next()
                if status is None:
                    break
                counts[status] = counts.get(status, 0) + 1
                n += 1
            if n < len(requests):
                connection.close()
            sender.join()
            n_vain = 0 if n else n_vain + 1
            if n_vain == 2: # once: this process was held up for longer than the server is patient
                raise Finding("closed without a reply: %r" % requests[0][:2000])
            requests = requests[n:]


def send_all(connection, data):
    try:
        connection.sendall(data)
    except OSError:
        pass


def send_broken(port, requests, draw, counts):
    """Each down a connection of its own, all at once: whatever comes back is HTTP. Most are looked at for a moment; of some
    the end is waited for, which an incomplete request has when the server's patience ends."""
    connections = [connect(port) for _ in requests]
    for connection, data in zip(connections, requests):
        send_all(connection, data)
    until = time.time() + 0.05
    for connection, data in zip(connections, requests):
        kind = draw.randrange(32)
        if kind < 16:
            try:
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        replies = Replies(connection, b"HEAD" in data, until if kind else None)
        while True:
            status = replies.next()
            if status is None:
                break
            counts[status] = counts.get(status, 0) + 1
            if replies.is_head: # which of what follows are bodies can not be told
                break
        if kind % 2: # no port in TIME_WAIT
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


class SlowSockets:
    """Connections that send a byte now and then, stop within a request, or only listen; the server cuts them off."""

    def __init__(self, port):
        self.port, self.open, self.n_opened = port, [], 0

    def turn(self, draw):
        if len(self.open) < SLOW_SOCKETS:
            data = malformed.frame(*[f(x) for f, x in zip((str, malformed.write), draw.choice(malformed.SEEDS))])
            self.open.append([connect(self.port), data, 0])
            self.n_opened += 1
        at = draw.randrange(len(self.open))
        connection, data, n = self.open[at]
        try:
            kind = draw.randrange(8)
            if kind < 5:
                self.open[at][2] += connection.send(data[n:n + draw.choice([1, 1, 5, 50])])
            elif kind == 5:
                connection.shutdown(socket.SHUT_WR)
            if kind == 6 or self.open[at][2] >= len(data):
                raise OSError
        except OSError: # cut off by one side or the other
            connection.close()
            del self.open[at]


def work(port, seed, process, first, until, n_requests, report):
    """Sends batches; tells (number of requests, counts) of each, or what it found."""
    slow, n, number = SlowSockets(port), 0, first
    while n < n_requests and (until is None or number < until):
        draw, counts, began = random.Random("%d/%d/%d" % (seed, process, number)), {}, time.time()
        kind, requests, is_framed = malformed.batch(draw)
        try:
            if is_framed:
                send_framed(port, list(requests), counts)
            else:
                send_broken(port, requests, draw, counts)
            before = slow.n_opened
            for _ in range(3):
                slow.turn(draw)
        except Finding as finding:
            report.put(("found", "%d/%d" % (process, number), kind, str(finding), requests))
            return
        n_new = len(requests) + slow.n_opened - before
        report.put(("sent", n_new, counts, kind, time.time() - began))
        n += n_new
        number += 1
    report.put(("end",))


def watch(s, report, n_processes, memory):
    """Adds up until all processes are done; returns (number of requests, counts by status, by kind)."""
    n, counts, kinds, times, began, said, slowest = 0, {}, {}, {}, time.time(), time.time(), 0
    while n_processes:
        try:
            what, *rest = report.get(timeout=1)
        except queue.Empty:
            check(s.process.poll() is None, "the server is gone")
            what, rest = "", []
        if what == "found":
            with open("serve_fuzz_finding.txt", "w") as file:
                file.write("\n".join(map(repr, rest)))
            raise AssertionError("batch %s (%s): %s; its requests are in serve_fuzz_finding.txt" % tuple(rest[:3]))
        n_processes -= what == "end"
        if what == "sent":
            n += rest[0]
            slowest = max(slowest, rest[3])
            kinds[rest[2]] = kinds.get(rest[2], 0) + rest[0]
            times[rest[2]] = times.get(rest[2], 0) + rest[3]
            for status, k in rest[1].items():
                counts[status] = counts.get(status, 0) + k
        if time.time() - said >= 10:
            said = time.time()
            status = s.call("/health")[0]
            check(status == 200, "/health says %d" % status)
            memory.append(s.memory_kib())
            print("%5d s: %8d requests, slowest batch %5.1f s, %7d KiB, %s, seconds %s" % (
                said - began, n, slowest, memory[-1], counts, {k: round(v, 1) for k, v in times.items()}), flush=True)
            slowest = 0
    return n, counts, kinds


async def drain(s, n_streams):
    """SIGTERM while streams run and more come in."""
    body = {"model": "demo", "prompt": "Once upon a time", "max_tokens": 96, "ignore_eos": True, "stream": True}
    running = [asyncio.create_task(ask(s.port, "/v1/completions", dict(body, seed=i, temperature=1.0))) for i in range(n_streams)]
    while s.metric("sglang:num_running_reqs") < n_streams:
        await asyncio.sleep(0.05)
    late = [asyncio.create_task(ask(s.port, "/v1/completions", body)) for _ in range(n_streams)]
    await asyncio.sleep(0.02)
    s.process.send_signal(signal.SIGTERM)
    for _ in range(20):
        late += [asyncio.create_task(ask(s.port, "/v1/completions", body)) for _ in range(4)]
        await asyncio.sleep(0.02)
    n_refused = 0
    for reply in await asyncio.gather(*running):
        check(reply.status == 200 and reply.is_whole and reply.events()[-1][1] == "[DONE]", "a stream was lost")
    for reply in await asyncio.gather(*late, return_exceptions=True):
        if isinstance(reply, Exception) or reply.status == 503: # before it was accepted
            check(not isinstance(reply, AssertionError), reply)
            n_refused += 1
        else:
            check(reply.status == 200 and reply.is_whole and reply.events()[-1][1] == "[DONE]", "a late stream was lost")
    return len(late) - n_refused, n_refused


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("project")
    parser.add_argument("--requests", type=int, default=1000000)
    parser.add_argument("--processes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="process/number of one batch")
    given = parser.parse_args()
    report, memory = multiprocessing.Queue(), []
    with tempfile.TemporaryDirectory() as folder:
        small_model.write(folder, DEMO)
        s = Service("--log", os.devnull, "--timeout", "2", "--threads", "1", "--served-model-name", "demo", model=folder,
                    environment=SANITIZERS)
    first, until, chosen = 0, None, range(given.processes)
    if given.only:
        process, first = map(int, given.only.split("/"))
        until, chosen = first + 1, [process]
    workers = [multiprocessing.Process(target=work, args=(s.port, given.seed, i, first, until, given.requests // len(chosen), report), daemon=True)
               for i in chosen]
    try:
        for worker in workers:
            worker.start()
        n, counts, kinds = watch(s, report, len(workers), memory)
        s.wait_idle(120)
        print("%d requests %s, replies %s" % (n, kinds, counts))
        if len(memory) >= 12:
            third = len(memory) // 3
            middle, last = statistics.median(memory[third:2 * third]), statistics.median(memory[2 * third:])
            print("memory: median %d KiB in the middle third, %d in the last, %d at most" % (middle, last, max(memory)))
            check(last <= middle * 1.03 + SLACK_KIB, "memory grows")
        n_late, n_refused = asyncio.run(drain(s, 24))
        code = s.wait()
        check(code == 0 and not re.search("Sanitizer|runtime error", s.log), "the server left with %d: %s" % (code, s.log[-6000:]))
    except AssertionError:
        for worker in workers:
            worker.kill()
        if s.process.poll() is None:
            s.process.kill()
        print(s.process.stderr.read().decode(errors="replace")[-6000:])
        raise
    print("ok: 24 streams and %d late ones ended with [DONE] after SIGTERM, %d were refused" % (n_late, n_refused))


if __name__ == "__main__":
    try:
        main()
    except AssertionError as fault:
        sys.exit("failed: %s" % fault)
