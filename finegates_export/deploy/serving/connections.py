"""HTTP connections with limits: a header has to arrive in time, and there is room for the next client.

uvicorn's h11 protocol refuses headers above 64 KiB and reads no second request while the first is answered; it has
no limit of time before a request is whole, and its limit of connections refuses everybody once idle ones fill it.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from finegates_export.deploy.serving.options import ServeOptions

BACKLOG = 128
"""Connections that the system holds ready, and the most that asyncio takes at once."""
SPARE_FILES = BACKLOG + 96
"""Open files kept for these, for pipes to workers, the model and the log."""
LOST_SECONDS = 30
"""Until a client that no longer reads or is gone loses its connection."""
FULL = json.dumps({"error": "the server has no room for another connection; try again"}).encode()


class Room:
    """The connections of a server, at most so many.

    Args:
        options: the limits.
    """

    def __init__(self, options: ServeOptions) -> None:
        soft = raise_file_limit()
        self.most = max(1, min(options.connections, soft - SPARE_FILES))
        """Connections at once."""
        self.header_seconds = options.header_timeout
        self.count = 0
        self._unfinished: dict[Connection, None] = {}

    def protocol(self) -> type[asyncio.Protocol]:
        """A protocol class for uvicorn, for connections in this room."""

        class Roomed(Connection):
            room = self

        return Roomed

    def waits(self, connection: Connection) -> None:
        """The connection waits for a request, or for the rest of one."""
        self._unfinished[connection] = None

    def works(self, connection: Connection) -> None:
        """The connection's request is whole, or it is closed."""
        self._unfinished.pop(connection, None)

    def enter(self, connection: Connection) -> bool:
        """Make room for a new connection; False if all others are being answered."""
        self.count += 1
        if self.count <= self.most:
            return True
        oldest = next((one for one in self._unfinished if not one.transport.is_closing()), None)
        if oldest is None or oldest is connection:
            return False
        self.works(oldest)
        oldest.transport.abort()
        return True

    def leave(self, connection: Connection) -> None:
        """The connection is closed."""
        self.count -= 1
        self.works(connection)


class Connection(H11Protocol):
    """One connection."""

    room: Room
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client connected."""
        super().connection_made(transport)
        if not self.room.enter(self):
            head = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: application/json\r\n"
            transport.write(head + b"content-length: %d\r\n\r\n" % len(FULL) + FULL)
            transport.close()
            return
        self.room.waits(self)
        self._expect_header()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """An answer was sent."""
        super().on_response_complete()
        self._follow()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._stop_clock()
        self.room.leave(self)
        super().connection_lost(exc)

    def _follow(self) -> None:
        """Note what the connection waits for."""
        state = self.conn.their_state
        if state in (h11.IDLE, h11.SEND_BODY):
            self.room.waits(self)
        else:
            self.room.works(self)
        if state is not h11.IDLE:
            self._stop_clock()
        elif self.conn.trailing_data[0] and self._clock is None:
            self._expect_header()

    def _expect_header(self) -> None:
        self._clock = self.loop.call_later(self.room.header_seconds, self._too_late)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_late(self) -> None:
        self._clock = None
        if self.conn.their_state is h11.IDLE:
            self.transport.abort()


def raise_file_limit() -> int:
    """Allow as many open files as the system lets this process have; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def drop_dead_clients(listening: socket.socket) -> None:
    """Close connections to clients that do not read their answers; those that it accepts inherit it."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * LOST_SECONDS)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
