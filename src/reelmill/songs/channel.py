"""Frames of JSON and bytes between two processes, over a socket.

Bytes beyond a few kilobytes (the sound of a song has megabytes) travel as an anonymous file whose descriptor
is passed along, so the receiver reads them where the sender has put them: no copy through the socket.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
from typing import Any

Frame = tuple[dict[str, Any], bytes | memoryview]

_LENGTHS = struct.Struct(">QQ?")  # of the JSON and of the bytes; whether the bytes are in a file
_INLINE = 1 << 16


class Channel:
    """One end of a socket; ``receive`` raises EOFError when the other end is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, header: dict[str, Any], payload: bytes | memoryview = b"") -> None:
        """Send a frame; BrokenPipeError or ConnectionResetError if the other end is gone."""
        text = json.dumps(header).encode()
        filed = len(payload) > _INLINE and hasattr(os, "memfd_create")
        lengths = _LENGTHS.pack(len(text), len(payload), filed)
        if not filed:
            self._connection.sendall(lengths + text + payload)
            return
        descriptor = os.memfd_create("sound")
        try:
            view = memoryview(payload)
            while view:
                view = view[os.write(descriptor, view) :]
            socket.send_fds(self._connection, [lengths], [descriptor])
        finally:
            os.close(descriptor)
        self._connection.sendall(text)

    def receive(self, seconds: float | None = None) -> Frame:
        """The next frame; TimeoutError if one of its parts takes longer than ``seconds``."""
        self._connection.settimeout(seconds)
        start, descriptors, _, _ = socket.recv_fds(self._connection, _LENGTHS.size, 1)
        if not start:
            raise EOFError
        start += self._read(_LENGTHS.size - len(start))
        text, size, filed = _LENGTHS.unpack(start)
        header = json.loads(self._read(text))
        if not filed:
            return header, self._read(size)
        try:
            return header, memoryview(mmap.mmap(descriptors[0], size, prot=mmap.PROT_READ))
        finally:
            os.close(descriptors[0])

    def close(self) -> None:
        """Close this end."""
        self._connection.close()

    def _read(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = self._connection.recv(min(size, 1 << 20))
            if not piece:
                raise EOFError
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)
