"""packaging/: the dashboard names metrics that exist, the unit is what systemd takes and its configuration what the
program takes, and the image installs what the program is linked with."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from service import CHAT, DEMO, PROGRAM, PROJECT, Service, check

FOLDER = os.path.join(PROJECT, "packaging")
BASE = {"libc6"} # in every image


def read(name):
    with open(os.path.join(FOLDER, name)) as file:
        return file.read()


def test_dashboard():
    """Every metric of an expression is there after a request, with the labels by which it is added up."""
    with Service("--log", os.devnull) as s:
        s.get("/v1/chat/completions", CHAT)
        text = s.call("/metrics")[2]
    board, n = json.loads(read("grafana.json")), 0
    check(len({p["id"] for p in board["panels"]}) == len(board["panels"]), "ids of panels")
    for panel in board["panels"]:
        check(panel["targets"], panel["title"])
        for target in panel["targets"]:
            names = re.findall(r"(?:sglang:|unmask_)[a-z0-9_]+", target["expr"])
            check(names, target["expr"])
            for name in names:
                line = re.search(r"^%s(?:\{([^}]*)\})? \S+$" % re.escape(name), text, re.M)
                check(line, "%s: no such metric" % name)
                labels = dict(re.findall(r'(\w+)="([^"]*)"', line.group(1) or ""))
                by = re.search(r"%s\b.*?\) by \((\w+)\)" % re.escape(name), target["expr"])
                check(not by or by.group(1) in labels, (target["expr"], labels))
                n += 1
    print("ok test_dashboard: %d metrics" % n)


def test_unit():
    """systemd finds no fault with the unit; the program runs from a configuration as the unit names it."""
    unit = read("unmask.service")
    command = re.search(r"^ExecStart=(\S+) (.*)$", unit, re.M)
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "unmask.conf")
        with open(config, "w") as file:
            file.write("model = %s\nport = 0\nlog = %s\n" % (DEMO, os.path.join(folder, "log")))
        arguments = command.group(2).replace("/etc/unmask.conf", config).split()
        check(arguments == ["serve", "--config", config], arguments)
        process = subprocess.Popen([PROGRAM] + arguments, stdout=subprocess.PIPE, env=dict(os.environ, UNMASK_API_KEY="x"))
        line = process.stdout.readline().decode()
        process.terminate()
        check(process.wait(60) == 0 and line.startswith("demo is served at http://127.0.0.1:"), line)
        if not shutil.which("systemd-analyze"):
            print("skipped: no systemd-analyze to verify the unit")
            return
        path = os.path.join(folder, "unmask.service")
        with open(path, "w") as file:
            file.write(unit.replace(command.group(1), PROGRAM))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, timeout=60)
        check(done.returncode == 0 and b"unmask.service" not in done.stderr, done)
    print("ok test_unit")


def test_image():
    """The second stage has a package for each library that the program is linked with, by the names of this system."""
    installed = set(re.findall(r"\blib[a-z0-9.+-]+", read("Dockerfile").split("FROM")[2]))
    if not shutil.which("dpkg") or "Debian GNU/Linux 12" not in open("/etc/os-release").read():
        print("skipped: the image is Debian 12, this is not")
        return
    dynamic = subprocess.run(["objdump", "-p", PROGRAM], capture_output=True, check=True).stdout.decode()
    needed = re.findall(r"NEEDED\s+(\S+)", dynamic)
    check("libmicrohttpd.so.12" in needed, needed)
    for soname in needed:
        if re.match(r"lib(asan|ubsan|tsan|gcc_s|stdc\+\+|cu)", soname): # of a build that the image is not made of
            continue
        path = os.path.realpath([line.split()[-1] for line in subprocess.run(
            ["/sbin/ldconfig", "-p"], capture_output=True, check=True).stdout.decode().splitlines() if line.split()[:1] == [soname]][0])
        done = subprocess.run(["dpkg", "-S", "*" + path.split("/usr", 1)[-1]], capture_output=True)
        packages = {line.split(":")[0] for line in done.stdout.decode().splitlines()}
        check(packages & (installed | BASE), "%s is in %s; the image installs %s" % (soname, packages, sorted(installed)))
    print("ok test_image: %d libraries" % len(needed))


if __name__ == "__main__":
    test_dashboard()
    test_unit()
    test_image()
