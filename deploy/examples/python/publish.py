#!/usr/bin/env python3
"""Publishes one event, and exits with 0 only if RabbitMQ has it in a queue.

usage: publish.py ENTITY KEY SEQUENCE DESTINATION BODY        (SEQUENCE may be -, for none)

Needs pika, 1.2 or later, and ONCEWARD_AMQP_URL; hands TRACEPARENT on.
"""

import os
import sys

import pika
from pika.exceptions import AMQPError, UnroutableError


def open_channel(url):
    parameters = pika.URLParameters(url)
    # A broker that is short of memory or disk blocks who publishes; that is no reason to wait for ever.
    parameters.blocked_connection_timeout = 30
    channel = pika.BlockingConnection(parameters).channel()
    channel.confirm_delivery()  # from here on, basic_publish waits for the confirm
    return channel


def publish(channel, entity, key, body, headers):
    """Returns when the event is in a queue and the broker has confirmed it, else raises."""
    channel.basic_publish(
        exchange=os.environ.get("ONCEWARD_EXCHANGE", "events"),
        routing_key=entity,  # whose order is kept
        body=body,
        mandatory=True,  # what no queue takes is returned, and UnroutableError is raised
        properties=pika.BasicProperties(
            message_id=key,  # the idempotency key: the same in every try to publish this event
            delivery_mode=2,  # persistent
            content_type="application/json",
            headers={name: value for name, value in headers.items() if value is not None},
        ),
    )


def main(entity, key, sequence, destination, body):
    headers = {
        "destination": destination,
        "sequence": None if sequence == "-" else int(sequence),
        "traceparent": os.environ.get("TRACEPARENT"),
    }
    channel = open_channel(os.environ["ONCEWARD_AMQP_URL"])
    publish(channel, entity, key, body.encode(), headers)
    channel.connection.close()


if __name__ == "__main__":
    if len(sys.argv) != 6 or "ONCEWARD_AMQP_URL" not in os.environ:
        sys.exit("usage: ONCEWARD_AMQP_URL=amqp://… publish.py ENTITY KEY SEQUENCE DESTINATION BODY")
    try:
        main(*sys.argv[1:])
    except UnroutableError:
        sys.exit("not published: no queue takes it; start a worker, which declares the queues")
    except (AMQPError, OSError, ValueError) as error:
        sys.exit(f"not published: {error!r}")
