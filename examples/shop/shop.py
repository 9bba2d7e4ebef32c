"""The shop: counts its visitors in PostgreSQL, and remembers the last count in Redis. Python's standard library only.

GET /        one more visit
GET /health  200 when both the database and the cache answer, 503 and the reason otherwise
"""

import os
import signal
import socket
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DB = ("127.0.0.1", int(os.environ["SHOP_DB_PORT"]))
CACHE = ("127.0.0.1", int(os.environ["SHOP_CACHE_PORT"]))
TIMEOUT = 2.0


def query(sql):
    """Runs one statement over PostgreSQL's protocol 3.0 and returns the first column of its rows."""
    with socket.create_connection(DB, TIMEOUT) as connection, connection.makefile("rb") as answers:
        fields = b"user\0shop\0database\0postgres\0\0"
        connection.sendall(struct.pack("!ii", 8 + len(fields), 196608) + fields)
        rows, asked = [], False
        while True:
            kind = answers.read(1)
            if not kind:
                raise ConnectionError("the database closed the connection")
            (length,) = struct.unpack("!i", answers.read(4))
            body = answers.read(length - 4)
            if kind == b"E":
                raise RuntimeError(body.replace(b"\0", b" ").decode(errors="replace"))
            if kind == b"D":
                (size,) = struct.unpack("!i", body[2:6])
                rows.append(body[6 : 6 + size].decode())
            if kind == b"Z" and asked:
                return rows
            if kind == b"Z":
                text = sql.encode() + b"\0"
                connection.sendall(b"Q" + struct.pack("!i", 4 + len(text)) + text)
                asked = True


def cache(*words):
    """Sends one command to Redis and returns the first line of its answer."""
    with socket.create_connection(CACHE, TIMEOUT) as connection, connection.makefile("rb") as answers:
        parts = [f"*{len(words)}\r\n"] + [f"${len(str(word))}\r\n{word}\r\n" for word in words]
        connection.sendall("".join(parts).encode())
        line = answers.readline().decode().strip()
        if line.startswith("-"):
            raise RuntimeError(line[1:])
        return line


class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            if self.path == "/health":
                query("SELECT 1")
                cache("PING")
                self.answer(200, "fine")
            elif self.path == "/":
                query("INSERT INTO visit DEFAULT VALUES")
                (count,) = query("SELECT count(*) FROM visit")
                cache("SET", "visits", count)
                self.answer(200, f"visit {count}")
            else:
                self.answer(404, "no such page")
        except (OSError, RuntimeError) as error:
            self.answer(503, f"not now: {error}")

    def answer(self, status, text):
        body = (text + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["SHOP_PORT"])), Shop)
    print(f"the shop is open on port {server.server_port}")
    server.serve_forever()


if __name__ == "__main__":
    main()
