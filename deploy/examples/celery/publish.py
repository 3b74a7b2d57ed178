#!/usr/bin/env python3
"""Publishes one event by kombu, and exits with 0 only if RabbitMQ has it in a queue.

usage: publish.py ENTITY KEY SEQUENCE DESTINATION BODY        (SEQUENCE may be -, for none)

Needs kombu, 5.3 or later, and ONCEWARD_AMQP_URL; hands TRACEPARENT on.
"""

import os
import sys

from amqp.exceptions import AMQPError, ChannelError
from kombu import Connection, Producer
from kombu.exceptions import OperationalError

TIME_LIMIT = 30  # seconds
# With confirm_publish, publish() waits for the broker's confirm. Without max_retries, kombu tries to connect for ever.
TRANSPORT_OPTIONS = {"confirm_publish": True, "max_retries": 3, "interval_start": 0, "interval_step": 0.2}


class Unroutable(Exception):
    pass


# What may be over when the event is published once more.
PASSING_ERRORS = (AMQPError, OperationalError, OSError, Unroutable)


def publish(producer, entity, key, body, headers):
    """Returns when the event is in a queue and the broker has confirmed it, else raises."""
    try:
        producer.publish(
            body,  # bytes: kombu sends them as they are
            # By its name alone: the worker declares it, and kombu would declare another type.
            exchange=os.environ.get("ONCEWARD_EXCHANGE", "events"),
            routing_key=entity,  # whose order is kept
            mandatory=True,  # what no queue takes is returned, and py-amqp raises
            delivery_mode=2,  # persistent
            message_id=key,  # the idempotency key: the same in every try to publish this event
            content_type="application/json",
            # Else kombu says "binary", or "utf-8" of a str, which the receiver would get as content-encoding.
            content_encoding="identity",
            headers={name: value for name, value in headers.items() if value is not None},
            timeout=TIME_LIMIT,
            confirm_timeout=TIME_LIMIT,
        )
    except Exception as error:
        # The confirm of this event may still come, and must not pass for that of the next one: start anew.
        producer.connection.collect()
        producer.revive(producer.connection)
        if isinstance(error, ChannelError) and error.reply_code == 312:
            raise Unroutable("no queue takes it; start a worker, which declares the queues") from error
        raise


def headers(sequence, destination):
    return {
        "destination": destination,
        "sequence": None if sequence == "-" else int(sequence),
        "traceparent": os.environ.get("TRACEPARENT"),
    }


def main(entity, key, sequence, destination, body):
    with Connection(os.environ["ONCEWARD_AMQP_URL"], transport_options=TRANSPORT_OPTIONS) as connection:
        publish(Producer(connection), entity, key, body.encode(), headers(sequence, destination))


if __name__ == "__main__":
    if len(sys.argv) != 6 or "ONCEWARD_AMQP_URL" not in os.environ:
        sys.exit("usage: ONCEWARD_AMQP_URL=amqp://… publish.py ENTITY KEY SEQUENCE DESTINATION BODY")
    try:
        main(*sys.argv[1:])
    except (*PASSING_ERRORS, ValueError) as error:
        sys.exit(f"not published: {error!r}")
