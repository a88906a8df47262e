"""The web page of a watch: a handful of addresses, all of them of this program's own files."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET6
from typing import Optional, Tuple

from ..base.errors import UserError
from .board import Board

PAGE = Path(__file__).with_name("page")
FILES = {"/": ("index.html", "text/html; charset=utf-8"), "/page.css": ("page.css", "text/css; charset=utf-8"),
         "/page.js": ("page.js", "text/javascript; charset=utf-8")}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {"Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
                                      "frame-ancestors 'none'",
           "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


class PageServer:
    """Serves the page from threads of its own until :meth:`close`.

    Parameters
    ----------
    board : what the page shows.
    host : address to listen at.
    port : 0 is any that is free.

    Attributes
    ----------
    address : of the page, for a browser.

    Raises
    ------
    UserError : the port cannot be had.
    """

    def __init__(self, board: Board, host: str, port: int):
        only_here = host in LOOPBACK

        class Handler(_Handler):
            """Knows the board, and who may ask."""

            shown = board
            local = only_here

        class Server(ThreadingHTTPServer):
            """IPv6 where the address is one."""

            address_family = AF_INET6 if ":" in host else ThreadingHTTPServer.address_family
            daemon_threads = True

        try:
            self._server = Server((host, port), Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"--port {port}: cannot be listened to at {host} ({reason}); choose another port, or 0 for any that is "
                            f"free") from None
        name = f"[{host}]" if ":" in host else host
        self.address = f"http://{name}:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    shown: Board
    local: bool
    server_version, sys_version = "pycaffe_tools", ""
    timeout = 30        # a browser that says nothing does not keep its thread

    def do_GET(self) -> None:
        """Answer a request."""
        content = self._content()
        if content is None:
            self._send(404, "text/plain; charset=utf-8", b"There is no such page.\n")
        else:
            self._send(200, *content)

    do_HEAD = do_GET

    def _content(self) -> Optional[Tuple[str, bytes]]:
        # A page of elsewhere could give its own name to this address, and read what it may not.
        host = re.sub(r":\d+$", "", self.headers.get("Host", "")).strip("[]").lower()
        if self.local and host not in LOOPBACK:
            return None
        path = self.path.split("?")[0]
        if path in FILES:
            name, kind = FILES[path]
            return kind, (PAGE / name).read_bytes()
        if path == "/state.json":
            return "application/json", self.shown.text(time.time()).encode()
        number = re.fullmatch(r"/picture/(\d{1,9})\.png", path)
        file = self.shown.picture(int(number.group(1))) if number else None
        try:
            return ("image/png", file.read_bytes()) if file else None
        except OSError:
            return None

    def _send(self, code: int, kind: str, content: bytes) -> None:
        try:
            self.send_response(code)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **HEADERS}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
        except ConnectionError:     # the browser has gone on
            pass

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal is for the slices."""
