// Publishes one event, and exits with 0 only if RabbitMQ has it in a queue.
//
// usage: node publish.js ENTITY KEY SEQUENCE DESTINATION BODY        (SEQUENCE may be -, for none)
//
// Needs amqplib (npm ci) and ONCEWARD_AMQP_URL; hands TRACEPARENT on.
"use strict";

const amqp = require("amqplib");

/** Resolves when the event is in a queue and the broker has confirmed it, else rejects. */
async function publish(channel, entity, key, body, headers) {
  const options = {
    messageId: key, // the idempotency key: the same in every try to publish this event
    persistent: true,
    mandatory: true, // what no queue takes is returned
    contentType: "application/json",
    headers,
  };
  // The routing key is the entity, whose order is kept.
  const exchange = process.env.ONCEWARD_EXCHANGE || "events";
  let timer, onError, onReturn;
  await new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error("no confirm within 30 s")), 30_000);
    // Why the broker closes a channel is told here; without a listener it would end the process.
    channel.on("error", (onError = reject));
    // A returned message is confirmed all the same; the return comes before the confirm.
    onReturn = ({ properties }) => {
      if (properties.messageId === key)
        reject(new Error("no queue takes it; start a worker, which declares the queues"));
    };
    channel.on("return", onReturn);
    const onConfirm = (error) => (error ? reject(error) : resolve());
    channel.publish(exchange, entity, Buffer.from(body), options, onConfirm);
  }).finally(() => {
    clearTimeout(timer);
    channel.off("error", onError).off("return", onReturn);
  });
}

async function main([entity, key, sequence, destination, body, ...more]) {
  const url = process.env.ONCEWARD_AMQP_URL;
  if (!url || body === undefined || more.length > 0)
    throw new Error("usage: ONCEWARD_AMQP_URL=amqp://… node publish.js ENTITY KEY SEQUENCE DESTINATION BODY");
  const headers = { destination };
  if (sequence !== "-") headers.sequence = Number(sequence);
  if (Number.isNaN(headers.sequence)) throw new Error(`the sequence is no number: ${sequence}`);
  if (process.env.TRACEPARENT) headers.traceparent = process.env.TRACEPARENT;
  const connection = await amqp.connect(url);
  connection.on("error", () => {}); // a connection that breaks closes its channels, and those tell
  const channel = await connection.createConfirmChannel();
  await publish(channel, entity, key, body, headers);
  await connection.close();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`not published: ${error.message}`);
  process.exit(1);
});
