#!/usr/bin/env python3
"""Publishes one event with the bytes and properties of MassTransit's, by pika: to see what becomes of it without a .NET.

usage: publish.py [--envelope] ENTITY KEY SEQUENCE DESTINATION BODY        (SEQUENCE may be -, for none)

As UseRawJsonSerializer() has it, the body is the message alone; with --envelope, it is in MassTransit's default envelope.
Needs pika, 1.2 or later, and ONCEWARD_AMQP_URL; hands TRACEPARENT on.
"""

import json
import os
import sys

import pika
from pika.exceptions import AMQPError, UnroutableError

MESSAGE_TYPE = "urn:message:Shop:OrderPaid"


def envelope(key, message):
    """What a receiver finds around the message; MassTransit adds more, such as addresses and the host."""
    fields = {"messageId": key, "messageType": [MESSAGE_TYPE], "message": json.loads(message), "headers": {}}
    return json.dumps(fields, ensure_ascii=False).encode()


def headers(sequence, destination):
    """What the service sets on the SendContext, and what MassTransit adds: Onceward reads only the first."""
    own = {"destination": destination}
    if sequence != "-":
        own["sequence"] = int(sequence)
    if "TRACEPARENT" in os.environ:
        own["traceparent"] = os.environ["TRACEPARENT"]
    return own | {"MT-MessageType": MESSAGE_TYPE, "publishId": "1"}


def main(arguments):
    wrapped = arguments[0] == "--envelope"
    entity, key, sequence, destination, message = arguments[wrapped:]
    parameters = pika.URLParameters(os.environ["ONCEWARD_AMQP_URL"])
    # A broker that is short of memory or disk blocks who publishes; that is no reason to wait for ever.
    parameters.blocked_connection_timeout = 30
    properties = pika.BasicProperties(
        message_id=key,  # of MassTransit's, a GUID
        delivery_mode=2,
        content_type="application/vnd.masstransit+json" if wrapped else "application/json",
        headers=headers(sequence, destination),
    )
    channel = pika.BlockingConnection(parameters).channel()
    channel.confirm_delivery()
    channel.basic_publish(
        exchange=os.environ.get("ONCEWARD_EXCHANGE", "events"),
        routing_key=entity,
        body=envelope(key, message) if wrapped else message.encode(),
        mandatory=True,
        properties=properties,
    )
    channel.connection.close()


if __name__ == "__main__":
    if len(sys.argv) - ("--envelope" in sys.argv[1:2]) != 6 or "ONCEWARD_AMQP_URL" not in os.environ:
        sys.exit("usage: ONCEWARD_AMQP_URL=amqp://… publish.py [--envelope] ENTITY KEY SEQUENCE DESTINATION BODY")
    try:
        main(sys.argv[1:])
    except UnroutableError:
        sys.exit("not published: no queue takes it; start a worker, which declares the queues")
    except (AMQPError, OSError, ValueError) as error:
        sys.exit(f"not published: {error!r}")
