#!/usr/bin/env python3
"""Receives events, acts on each once, however often it comes, and only on those that the worker has signed.

usage: receiver.py PORT FILE        (FILE is the SQLite database)

An event adds an amount to an account: {"account": "ada", "amount": 10}. The effect and the idempotency key are written
in one transaction, so that there is never one without the other. Needs standardwebhooks, and SIGNING_SECRET, one of the
worker's --signing-secrets.
"""

import contextlib
import json
import os
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

SCHEMA = """
pragma journal_mode = wal;
create table if not exists handled (key text primary key, at text not null default current_timestamp);
create index if not exists handled_at on handled (at);
create table if not exists account (name text primary key, balance integer not null check (balance >= 0));
"""
BODY_LIMIT = 1024 * 1024


def connect():
    # The worker waits for 5 s: whoever waits longer for the database's lock does so in vain.
    return contextlib.closing(sqlite3.connect(sys.argv[2], timeout=3, isolation_level=None))


def handle(database, key, event):
    """Whether the event was new. When it returns, effect and key are on disk; when it raises, neither is."""
    with database:  # commits or rolls back
        database.execute("begin immediate")
        if database.execute("insert or ignore into handled (key) values (?)", (key,)).rowcount == 0:
            return False
        database.execute("insert or ignore into account (name, balance) values (?, 0)", (event["account"],))
        added = "update account set balance = balance + ? where name = ?"
        database.execute(added, (event["amount"], event["account"]))
        # Longer than the worker's --retention: after that, it never sends an old event.
        database.execute("delete from handled where at < datetime('now', '-8 days')")
    return True


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept open
    disable_nagle_algorithm = True

    def do_POST(self):
        key, length = self.headers["idempotency-key"], int(self.headers["content-length"] or 0)
        if not key or length > BODY_LIMIT:
            self.close_connection = True
            return self.answer(400, "an idempotency-key and at most 1 MiB, please")
        body = self.rfile.read(length)
        try:
            # Before anything else, and on the bytes as they came. It refuses what is older than five minutes, too.
            signed.verify(body, dict(self.headers), json_parse=False)
            if self.headers["webhook-id"] != key:  # the signature is for this header, not for the other
                raise WebhookVerificationError("two different keys")
        except (WebhookVerificationError, ValueError) as error:
            return self.answer(401, f"not signed by the worker: {error}")
        try:
            with connect() as database:
                new = handle(database, key, json.loads(body))
        except Exception as error:  # whatever it is: not done, so let it come again
            return self.answer(500, repr(error))
        # A known key is a success: any other answer would bring it again.
        self.answer(200, "done" if new else "done before")

    def do_GET(self):
        with connect() as database:
            row = database.execute("select balance from account where name = ?", (self.path[1:],)).fetchone()
        self.answer(200 if row else 404, str(row[0]) if row else "no such account")

    def answer(self, status, text):
        content = text.encode() + b"\n"
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    if len(sys.argv) != 3 or "SIGNING_SECRET" not in os.environ:
        sys.exit("usage: SIGNING_SECRET=whsec_… receiver.py PORT FILE")
    signed = Webhook(os.environ["SIGNING_SECRET"])
    with connect() as database:
        database.executescript(SCHEMA)
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
