"""The HTTP/1.1 front: one listening socket on loopback, one thread per connection, keep-alive.

It knows nothing of notes. `serve(connection, request)` answers one request on its connection, in whatever
way it likes, and returns whether the connection may go on. The front can close and reopen its port (the
service is down, then up again) and reset connections under the feet of their threads.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable

from .message import Reply, Request

BACKLOG = 512
MAX_HEAD_BYTES = 64 * 1024
MAX_TARGET_BYTES = 8 * 1024
POLL_MS = 50
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL


class BadMessage(Exception):
    """What came is no HTTP request that we take; `reply` says why, before the connection closes."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.reply = Reply.html(status)


class Connection:
    def __init__(self, sock: socket.socket, number: int, idle_s: int, max_body: int) -> None:
        self.number = number
        self.served = 0
        self._sock = sock
        self._buffer = b""
        self._max_body = max_body
        self._doomed = False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", idle_s, 0))

    # Reading

    def read_request(self) -> Request | None:
        """The next request, or None when the peer is done, silent for too long, or gone."""
        try:
            head = self._read_head()
            return None if head is None else self._parse(head)
        except (OSError, EOFError):
            return None

    def _read_head(self) -> bytes | None:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadMessage(431)
            data = self._sock.recv(65536)
            if not data:
                return None
            self._buffer = self._buffer + data if self._buffer else data
        head, self._buffer = self._buffer[:end], self._buffer[end + 4:]
        return head

    def _parse(self, head: bytes) -> Request:
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or not words[1].startswith("/"):
            raise BadMessage(400)
        if len(words[1]) > MAX_TARGET_BYTES:
            raise BadMessage(414)
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadMessage(400)
            headers[name.lower()] = value.strip()
        if "host" not in headers and words[2] == "HTTP/1.1":
            raise BadMessage(400)
        keep = headers.get("connection", "").lower() != "close" and words[2] == "HTTP/1.1"
        return Request(words[0], words[1], headers, self._read_body(headers), keep)

    def _read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            self._continue(headers)
            return self._read_chunks()
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise BadMessage(400)
        if int(length) > self._max_body:
            raise BadMessage(413)
        if int(length) > len(self._buffer):
            self._continue(headers)
        return self._take(int(length))

    def _continue(self, headers: dict[str, str]) -> None:
        if headers.get("expect", "").lower() == "100-continue":
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take(self, count: int) -> bytes:
        if count > len(self._buffer):
            parts, have = [self._buffer], len(self._buffer)
            while have < count:
                data = self._sock.recv(min(1 << 20, max(65536, count - have)))
                if not data:
                    raise EOFError
                parts.append(data)
                have += len(data)
            self._buffer = b"".join(parts)
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _read_chunks(self) -> bytes:
        parts, total = [], 0
        while True:
            while (end := self._buffer.find(b"\r\n")) < 0:
                self._buffer += self._take_some()
            line, self._buffer = self._buffer[:end], self._buffer[end + 2:]
            try:
                size = int(line.split(b";")[0], 16)
            except ValueError:
                raise BadMessage(400) from None
            total += size
            if total > self._max_body:
                raise BadMessage(413)
            parts.append(self._take(size))
            if self._take(2) != b"\r\n":
                raise BadMessage(400)
            if size == 0:
                return b"".join(parts)

    def _take_some(self) -> bytes:
        data = self._sock.recv(65536)
        if not data:
            raise EOFError
        return data

    # Writing

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def wait(self, released: Callable[[], bool]) -> bool:
        """Block until `released()`; False as soon as the peer has closed or we were reset."""
        poll = select.poll()
        try:
            poll.register(self._sock, _GONE)
        except (OSError, ValueError):
            return False
        while not self._doomed and not released():
            if any(event & _GONE for _, event in poll.poll(POLL_MS)):
                return False
        return not self._doomed

    def pause(self, seconds: float) -> bool:
        """Sleep, but not longer than the peer stays."""
        end = time.monotonic() + seconds
        return self.wait(lambda: time.monotonic() >= end)

    # Ending

    def finish(self) -> None:
        """Say that nothing more comes, and leave the peer time to read before unread request bytes turn
        our close into a RST."""
        self._sock.shutdown(socket.SHUT_WR)
        self.pause(0.5)

    def reset(self) -> None:
        """End with a TCP RST, from the connection's own thread."""
        self._linger_zero()
        self.close()

    def doom(self) -> None:
        """Make the connection's thread wake up and reset it; from any thread."""
        self._doomed = True
        self._linger_zero()
        try:
            # Unlike SHUT_RDWR this sends nothing; it only ends a recv() in progress. The thread then
            # closes the socket, which with a linger time of zero is a RST.
            self._sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    def close(self) -> None:
        self._sock.close()

    def _linger_zero(self) -> None:
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass


class Front:
    def __init__(self, port: int, serve: Callable[[Connection, Request], bool],
                 settings: Callable[[], tuple[int, int]], date: Callable[[], str]) -> None:
        """`settings()` gives the idle seconds and the largest request body of new connections."""
        self._serve = serve
        self._settings = settings
        self._date = date
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self._numbers = 0
        self._socket = self._bind(port)
        self.port: int = self._socket.getsockname()[1]

    @staticmethod
    def _bind(port: int) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        return sock

    def up(self) -> None:
        self._socket.listen(BACKLOG)
        threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def down(self) -> None:
        """Refuse new connections and reset the open ones. The port stays bound, so that nobody else gets
        it before `up`."""
        listening = self._socket
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        self._socket = self._bind(self.port)
        self.reset_connections()

    def reset_connections(self) -> int:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.doom()
        return len(connections)

    def open_connections(self) -> int:
        with self._lock:
            return len(self._connections)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            idle_s, max_body = self._settings()
            with self._lock:
                self._numbers += 1
                connection = Connection(sock, self._numbers, idle_s, max_body)
                self._connections.add(connection)
            if self._socket is not listening:
                # `down` came between our accept and the add, and has not seen this one.
                connection.doom()
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: Connection) -> None:
        try:
            while (request := connection.read_request()) is not None:
                connection.served += 1
                if not self._serve(connection, request):
                    break
        except BadMessage as bad:
            self._refuse(connection, bad.reply)
        except OSError:
            pass
        except Exception:
            traceback.print_exc(file=sys.stderr)
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _refuse(self, connection: Connection, reply: Reply) -> None:
        try:
            connection.send(reply.head(self._date(), close=True) + reply.body)
            connection.finish()
        except OSError:
            pass
