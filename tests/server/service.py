"""A server of the bundled model for the tests of this folder: argv[1] is the program, argv[2] the project."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

PROGRAM, PROJECT = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
DEMO = os.path.join(PROJECT, "models", "demo")
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "What is 12 + 30?"}]}

TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Tells the weather.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"$ref": "#/$defs/days"}},
    "required": ["city", "days"], "additionalProperties": False, "$defs": {"days": {"enum": [1, 2, 3]}}}}},
    {"type": "function", "function": {"name": "stop \"all\""}},
    {"type": "function", "function": {"name": "list", "parameters": {"properties": {"items": {
        "type": "array", "items": {"$ref": "#/$defs/days"}, "minItems": 1, "maxItems": 2}}, "required": ["items"],
        "additionalProperties": False, "$defs": {"days": {"const": "day"}}}}}]


def make_tool_model(folder):
    """The bundled model with a chat template that reads tools."""
    for name in os.listdir(DEMO):
        if name != "tokenizer_config.json":
            os.symlink(os.path.join(DEMO, name), os.path.join(folder, name))
    with open(os.path.join(DEMO, "tokenizer_config.json")) as file:
        settings = json.load(file)
    del settings["chat_template"]
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        json.dump(settings, file)
    shutil.copy(os.path.join(PROJECT, "tests", "data", "chat", "templates", "ling2.jinja"),
                os.path.join(folder, "chat_template.jinja"))


def check(condition, message=""):
    if not condition:
        raise AssertionError(message)


class Service:
    """`unmask serve` on a free port, until the end of a with statement; it must then leave with code 0.
    Without a model the arguments say which."""

    def __init__(self, *arguments, model=DEMO, environment=None):
        words = [PROGRAM, "serve"] + (["-m", model] if model else []) + ["--port", "0"] + list(arguments)
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=dict(os.environ, **(environment or {})))
        line = self.process.stdout.readline().decode()
        found = re.search(r"(https?)://(.*):(\d+)/", line)
        check(found, "no address in %r; %s" % (line, "" if line else self.process.stderr.read().decode()))
        self.scheme, self.host, self.port = found.group(1), found.group(2).strip("[]"), int(found.group(3))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_rest):
        code = self.stop()
        check(kind or code == 0, "the server left with %d: %s" % (code, self.log))

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        self.log = self.process.communicate(timeout=120)[1].decode()
        return self.process.returncode

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=120)

    def call(self, path, body=None, method=None, headers=None):
        """Returns (status, headers, text)."""
        connection = self.connect()
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method or ("GET" if body is None else "POST"), path, data, headers or {})
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        return reply.status, dict(reply.getheaders()), text

    def get(self, path, body=None, code=200):
        status, _, text = self.call(path, body)
        check(status == code, "%s: status %d, expected %d: %s" % (path, status, code, text))
        return json.loads(text)

    def events(self, path, body):
        """The documents of a stream, and its last line."""
        status, headers, text = self.call(path, dict(body, stream=True))
        check(status == 200 and headers["Content-Type"].startswith("text/event-stream"), text)
        lines = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
        return [json.loads(line) for line in lines if line != "[DONE]"], lines[-1]

    def metric(self, name, **labels):
        text = self.call("/metrics")[2]
        pattern = re.escape(name) + r"\{([^}]*)\} (\S+)"
        for found in re.finditer(pattern, text):
            if all('%s="%s"' % item in found.group(1) for item in labels.items()):
                return float(found.group(2))
        raise AssertionError("no metric %s in %s" % (name, text))

    def wait_idle(self, seconds=30):
        """Until no request runs and every page is back."""
        end = time.time() + seconds
        while time.time() < end:
            if self.metric("sglang:num_running_reqs") == 0 and self.metric("unmask_pages", state="used") == 0:
                return
            time.sleep(0.02)
        raise AssertionError("pages or requests are left: " + self.call("/metrics")[2])

    def raw(self, data, half_close=False):
        """Sends bytes; returns what comes back until the server closes."""
        with socket.create_connection((self.host, self.port), timeout=60) as s:
            parts = []
            try:
                s.sendall(data)
                if half_close:
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass # the server has closed already; what it said before is read below
            while True:
                try:
                    part = s.recv(65536)
                except ConnectionResetError:
                    break
                if not part:
                    break
                parts.append(part)
        return b"".join(parts)

    def memory_kib(self):
        with open("/proc/%d/status" % self.process.pid) as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))
