#!/usr/bin/env python3
"""A Celery app whose task publishes an event, by the connections that Celery has for its own messages.

usage: celery -A tasks worker                                 runs tasks that others have sent
       tasks.py ENTITY KEY SEQUENCE DESTINATION BODY          runs the task here and now

Needs celery, 5.3 or later, and ONCEWARD_AMQP_URL, which is the app's own broker, too.
"""

import os
import sys

from celery import Celery

from publish import PASSING_ERRORS, TRANSPORT_OPTIONS, headers, publish

app = Celery("shop", broker=os.environ.get("ONCEWARD_AMQP_URL"))
app.conf.broker_transport_options = TRANSPORT_OPTIONS


# Late and again until it is done: a task that runs twice publishes the same event, under the same key.
@app.task(acks_late=True, autoretry_for=PASSING_ERRORS, retry_backoff=True, max_retries=None)
def publish_event(entity, key, sequence, destination, body):
    with app.producer_or_acquire() as producer:
        publish(producer, entity, key, body.encode(), headers(sequence, destination))


if __name__ == "__main__":
    if len(sys.argv) != 6 or "ONCEWARD_AMQP_URL" not in os.environ:
        sys.exit("usage: ONCEWARD_AMQP_URL=amqp://… tasks.py ENTITY KEY SEQUENCE DESTINATION BODY")
    try:
        publish_event(*sys.argv[1:])
    except (*PASSING_ERRORS, ValueError) as error:
        sys.exit(f"not published: {error!r}")
