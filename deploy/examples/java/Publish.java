import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Publishes one event, and exits with 0 only if RabbitMQ has it in a queue.
 *
 * <p>usage: java -cp 'target/dependency/*' Publish.java ENTITY KEY SEQUENCE DESTINATION BODY (SEQUENCE may be -, for
 * none)
 *
 * <p>Needs com.rabbitmq:amqp-client (mvn dependency:copy-dependencies) and ONCEWARD_AMQP_URL; hands TRACEPARENT on.
 */
class Publish {
    private final Channel channel;
    private final AtomicBoolean returned = new AtomicBoolean();

    /** Has a channel to itself and publishes one event at a time, so that what is returned is that event. */
    Publish(Connection connection) throws IOException {
        channel = connection.createChannel();
        channel.confirmSelect();
        channel.addReturnListener((code, text, exchange, key, properties, body) -> returned.set(true));
    }

    /** Returns when the event is in a queue and the broker has confirmed it, else throws. */
    void publish(String entity, BasicProperties properties, byte[] body) throws Exception {
        String exchange = System.getenv().getOrDefault("ONCEWARD_EXCHANGE", "events");
        boolean mandatory = true; // what no queue takes is returned
        returned.set(false);
        // The routing key is the entity, whose order is kept.
        channel.basicPublish(exchange, entity, mandatory, properties, body);
        channel.waitForConfirmsOrDie(30_000);
        // A returned message is confirmed all the same; the return comes before the confirm.
        if (returned.get()) {
            throw new IOException("no queue takes it; start a worker, which declares the queues");
        }
    }

    static void run(String[] args) throws Exception {
        String url = System.getenv("ONCEWARD_AMQP_URL");
        if (url == null || args.length != 5) {
            throw new IllegalArgumentException(
                "usage: ONCEWARD_AMQP_URL=amqp://… Publish.java ENTITY KEY SEQUENCE DESTINATION BODY");
        }
        Map<String, Object> headers = new HashMap<>();
        headers.put("destination", args[3]);
        if (!args[2].equals("-")) {
            headers.put("sequence", Long.valueOf(args[2]));
        }
        if (System.getenv("TRACEPARENT") != null) {
            headers.put("traceparent", System.getenv("TRACEPARENT"));
        }
        BasicProperties properties = new BasicProperties.Builder()
            .messageId(args[1]) // the idempotency key: the same in every try to publish this event
            .deliveryMode(2) // persistent
            .contentType("application/json")
            .headers(headers)
            .build();
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(url);
        try (Connection connection = factory.newConnection()) {
            new Publish(connection).publish(args[0], properties, args[4].getBytes(StandardCharsets.UTF_8));
        }
    }

    public static void main(String[] args) {
        try {
            run(args);
        } catch (Exception error) {
            System.err.println("not published: " + error);
            System.exit(1);
        }
    }
}
