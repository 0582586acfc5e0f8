"""A small terminal for the tests: runs a program in a pty and keeps what its screen would show.

Understands what the program writes: carriage return, newline, cursor up, clearing, styles. Anything
else fails the test, so that garbage is noticed."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")


class Screen:
    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.lines, self.row, self.column = [[]], 0, 0
        self.is_cursor_hidden = False
        self.styles = set()
        self.unknown = []

    def put(self, character):
        if self.column >= self.columns:
            self.column = 0
            self.down()
        line = self.lines[self.row]
        line.extend(" " * (self.column + 1 - len(line)))
        line[self.column] = character
        self.column += 1

    def down(self):
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append([])

    def top(self):
        return max(0, len(self.lines) - self.rows)

    def sequence(self, private, numbers, letter):
        if private:
            if numbers == "25" and letter in "hl":
                self.is_cursor_hidden = letter == "l"
            return
        if letter == "m":
            self.styles.update(numbers.split(";"))
        elif letter == "A":
            self.row = max(self.top(), self.row - int(numbers or 1))
        elif letter == "K" and not numbers:
            del self.lines[self.row][self.column:]
        elif letter == "J" and not numbers:
            del self.lines[self.row][self.column:]
            del self.lines[self.row + 1:]
        else:
            self.unknown.append((numbers, letter))

    def feed(self, text):
        at = 0
        while at < len(text):
            found = SEQUENCE.match(text, at)
            if found:
                self.sequence(*found.groups())
                at = found.end()
                continue
            character = text[at]
            at += 1
            if character == "\r":
                self.column = 0
            elif character == "\n":
                self.down()
            elif character == "\b":
                self.column = max(0, self.column - 1)
            elif character == "\x07":
                pass
            elif character < " ":
                self.unknown.append(character)
            else:
                self.put(character)

    def text(self):
        return "\n".join("".join(line).rstrip() for line in self.lines).rstrip("\n")


class Session:
    """A program in a pty."""

    def __init__(self, arguments, columns=80, rows=24, environment=None):
        self.screen = Screen(columns, rows)
        self.raw = ""
        self.pending = b""
        environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "", **(environment or {})}
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execvpe(arguments[0], arguments, environment)
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds, until=None):
        """Reads until a pattern has appeared, the program has ended, or time is up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if until and re.search(until, self.raw):
                return True
            if not select.select([self.file], [], [], 0.05)[0]:
                continue
            try:
                data = os.read(self.file, 65536)
            except OSError:
                return until is None
            if not data:
                return until is None
            self.pending += data
            text = self.pending.decode("utf-8", "ignore")
            self.pending = self.pending[len(text.encode()):]
            # A sequence that is cut waits for its rest.
            cut = re.search(r"\x1b(\[[0-9;?]*)?$", text)
            if cut:
                self.pending = text[cut.start():].encode() + self.pending
                text = text[:cut.start()]
            self.raw += text
            self.screen.feed(text)
        return False

    def send(self, text):
        os.write(self.file, text.encode())

    def interrupt(self):
        os.kill(self.pid, signal.SIGINT)

    def wait(self, seconds=300):
        """The exit code."""
        self.read(seconds)
        for _ in range(200):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.file)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("the program does not end")
