"""A client for loads: requests and their streams over asyncio, with the moment at which each piece came."""
import asyncio
import json
import socket
import struct
import time


class Reply:
    """status; pieces: (time, bytes) of the body as it came; is_whole: it came to its end."""

    def __init__(self):
        self.status, self.pieces, self.is_whole, self.sent_at = 0, [], False, 0.0

    def body(self):
        return b"".join(data for _, data in self.pieces)

    def events(self):
        """(time, document) of each event of a stream; [DONE] is the text itself."""
        buffer, found = b"", []
        for moment, data in self.pieces:
            buffer += data
            while b"\n\n" in buffer:
                event, buffer = buffer.split(b"\n\n", 1)
                for line in event.split(b"\n"):
                    if line.startswith(b"data: "):
                        text = line[6:].decode()
                        found.append((moment, text if text == "[DONE]" else json.loads(text)))
        return found


async def read_reply(reader, reply):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    reply.status = int(head.split(" ", 2)[1])
    fields = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in head.split("\r\n")[1:] if ":" in line)}
    if fields.get("transfer-encoding") == "chunked":
        while True:
            n = int(await reader.readline(), 16)
            data = await reader.readexactly(n + 2)
            if n == 0:
                break
            reply.pieces.append((time.monotonic(), data[:-2]))
    elif int(fields.get("content-length", 0)):
        data = await reader.readexactly(int(fields["content-length"]))
        reply.pieces.append((time.monotonic(), data))
    reply.is_whole = True


async def ask(port, path, body, leave_after=None, cut=None, is_rude=False):
    """Posts a document. leave_after: seconds until the connection is closed, whatever has come by then;
    cut: bytes of the body that are sent before; is_rude: with a reset instead of an end."""
    reply, data = Reply(), json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        reply.sent_at = time.monotonic()
        writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(data)))
        writer.write(data if cut is None else data[:cut])
        try:
            await asyncio.wait_for(read_reply(reader, reply), leave_after)
        except asyncio.IncompleteReadError:
            if cut is None: # else the server has waited for the rest as long as it should
                raise
        except asyncio.TimeoutError:
            if is_rude:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        writer.close()
    return reply
