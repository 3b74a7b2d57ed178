#!/usr/bin/env python3
"""Publishes what is in the outbox (outbox.sql), and deletes it when RabbitMQ has confirmed it.

Needs pika 1.2, psycopg 3.1 or later of each, ONCEWARD_AMQP_URL, and DATABASE_URL, where the outbox is. On any trouble
it ends with 1: let systemd or Kubernetes start it again.

Nothing is lost: a row is deleted after its confirm. If the relay dies in between, the event is published again under
the same key, and the worker drops it. Run two: one publishes at a time, and the other takes over when it dies.
SKIP LOCKED would let both publish events of one entity side by side; here a lock on the whole outbox keeps the order.
Should a relay that was cut off from the database go on for a moment, the numbers put right what it publishes.
"""

import os
import sys

import pika
import psycopg
from pika.exceptions import AMQPError, UnroutableError

BATCH = 100
LOCK = 0x0E7B0C  # any number that nothing else in this database locks
# A relay whose machine is gone loses its lock after a minute.
OPTIONS = "-c idle_in_transaction_session_timeout=60000"
# From the lowest id each time: a lower one than the last may have been committed since.
OLDEST = """
    select id, entity, sequence, key, destination, content_type, traceparent, body
    from outbox order by id limit %s
"""


def publish(channel, entity, sequence, key, destination, content_type, traceparent, body):
    """Returns when the event is in a queue and the broker has confirmed it, else raises."""
    headers = {"destination": destination, "sequence": sequence}
    if traceparent:
        headers["traceparent"] = traceparent
    properties = pika.BasicProperties(message_id=key, delivery_mode=2, content_type=content_type, headers=headers)
    exchange = os.environ.get("ONCEWARD_EXCHANGE", "events")
    channel.basic_publish(exchange, routing_key=entity, body=body, properties=properties, mandatory=True)


def relay(database, channel):
    """Publishes a batch: how many events."""
    with database.transaction():
        if not database.execute("select pg_try_advisory_xact_lock(%s)", (LOCK,)).fetchone()[0]:
            return 0
        rows = database.execute(OLDEST, (BATCH,)).fetchall()
        for _, *event in rows:
            publish(channel, *event)
        database.execute("delete from outbox where id = any(%s)", ([row[0] for row in rows],))
    return len(rows)


def main():
    parameters = pika.URLParameters(os.environ["ONCEWARD_AMQP_URL"])
    parameters.blocked_connection_timeout = 30
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.confirm_delivery()
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, options=OPTIONS) as database:
        while True:
            if relay(database, channel) < BATCH:
                # Asked five times a second, rather than notified: NOTIFY makes commits wait for each other.
                connection.sleep(0.2)


if __name__ == "__main__":
    if not {"ONCEWARD_AMQP_URL", "DATABASE_URL"} <= os.environ.keys():
        sys.exit("relay: set ONCEWARD_AMQP_URL and DATABASE_URL")
    try:
        main()
    except UnroutableError:
        sys.exit("relay: no queue takes the oldest event; start a worker, which declares the queues")
    except (AMQPError, OSError, psycopg.Error) as error:
        sys.exit(f"relay: {error!r}")
