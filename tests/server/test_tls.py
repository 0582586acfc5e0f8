"""The server over TLS, with a certificate of its own making. Skipped (77) where there is no openssl to make one."""
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
from service import CHAT, DEMO, PROGRAM, Service, check

LONG = {"model": "demo", "prompt": "Once upon a time", "max_tokens": 2000, "ignore_eos": True, "stream": True}


def make_pair(folder, name):
    cert, key = os.path.join(folder, name + ".crt"), os.path.join(folder, name + ".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True, timeout=60)
    return cert, key


class SecureService(Service):
    """Calls check the certificate."""

    def __init__(self, cert, key, *arguments):
        super().__init__("--tls-cert", cert, "--tls-key", key, *arguments)
        check(self.scheme == "https", self.scheme)
        self.context = ssl.create_default_context(cafile=cert)

    def connect(self):
        return http.client.HTTPSConnection(self.host, self.port, timeout=120, context=self.context)


def test_answers(s, plain):
    check(s.get("/v1/chat/completions", CHAT)["choices"] == plain.get("/v1/chat/completions", CHAT)["choices"])
    body = dict(LONG, max_tokens=96, unmask={"events": "steps"})
    of_one, of_other = (x.events("/v1/completions", body) for x in (s, plain))
    check(of_one[1] == "[DONE]" and [d["choices"] for d in of_one[0]] == [d["choices"] for d in of_other[0]], of_one)
    check(s.call("/v1/nothing")[0] == 404 and s.call("/v1/completions", b"{")[0] == 400)
    check(len(s.call("/page.js")[2]) > 10000 and s.get("/health")["status"] == "ready")


def test_together(s, plain):
    """Streams at once, each with the answer that it has without TLS."""
    bodies = [dict(LONG, max_tokens=48, seed=i, temperature=1.0) for i in range(12)]
    found = [None] * len(bodies)

    def one(i):
        found[i] = s.events("/v1/completions", bodies[i])
    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(bodies))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for body, (documents, last) in zip(bodies, found):
        text = "".join(c["text"] for d in documents for c in d["choices"])
        check(last == "[DONE]" and text == plain.get("/v1/completions", dict(body, stream=False))["choices"][0]["text"], text)


def test_leavers(s):
    """A client that leaves in the midst of a stream, or of a handshake, leaves nothing behind."""
    data = json.dumps(LONG).encode()
    for _ in range(3):
        c = s.context.wrap_socket(socket.create_connection((s.host, s.port)), server_hostname=s.host)
        c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
        check(c.recv(4096).startswith(b"HTTP/1.1 200"), "no stream")
        c.close()
    s.wait_idle()
    for data in (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"", b"\xff" * 4096):
        reply = s.raw(data, half_close=True)
        check(b"ready" not in reply, "an answer without TLS")
    check(s.get("/health")["status"] == "ready")


def test_refused(folder, cert, other_key):
    empty = os.path.join(folder, "empty")
    open(empty, "w").close()
    for arguments, says in ((["--tls-cert", cert], "tls-key"), (["--tls-cert", cert, "--tls-key", "/nonexistent"], "/nonexistent"),
                            (["--tls-cert", cert, "--tls-key", other_key], "do not match"),
                            (["--tls-cert", empty, "--tls-key", empty], "ertificate")):
        done = subprocess.run([PROGRAM, "serve", "-m", DEMO, "--port", "0"] + arguments, capture_output=True, timeout=60)
        check(done.returncode in (1, 2) and says in done.stderr.decode(), (arguments, done))


if __name__ == "__main__":
    if not shutil.which("openssl"):
        print("skipped: openssl is not installed")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        cert, key = make_pair(folder, "a")
        with SecureService(cert, key, "--timeout", "2") as s, Service() as plain:
            for test in (test_answers, test_together):
                test(s, plain)
                print("ok", test.__name__, flush=True)
            test_leavers(s)
            print("ok test_leavers", flush=True)
        test_refused(folder, cert, make_pair(folder, "b")[1])
        print("ok test_refused")
