import com.rabbitmq.client.Channel;
import com.rabbitmq.client.ShutdownSignalException;
import java.net.URI;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.springframework.amqp.core.MessagePostProcessor;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory.ConfirmType;
import org.springframework.amqp.rabbit.connection.ChannelListener;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitTemplate;

/**
 * Publishes one event by Spring AMQP, and exits with 0 only if RabbitMQ has it in a queue.
 *
 * <p>usage: java -cp 'target/dependency/*' Publish.java ENTITY KEY SEQUENCE DESTINATION BODY (SEQUENCE may be -, for
 * none)
 *
 * <p>Needs org.springframework.amqp:spring-rabbit (mvn dependency:copy-dependencies) and ONCEWARD_AMQP_URL; hands
 * TRACEPARENT on.
 */
class Publish {
    private final RabbitTemplate template;
    private final CompletableFuture<String> closed = new CompletableFuture<>();

    /** Spring Boot does the same by three properties, see deploy/docs/recipes.md. */
    Publish(CachingConnectionFactory connections) {
        connections.setPublisherConfirmType(ConfirmType.CORRELATED);
        connections.setPublisherReturns(true);
        // Why the broker closed the channel; the confirm may know no more than that it is closed.
        connections.addChannelListener(new ChannelListener() {
            @Override
            public void onCreate(Channel channel, boolean transactional) {}

            @Override
            public void onShutDown(ShutdownSignalException signal) {
                closed.complete(signal.getMessage());
            }
        });
        template = new RabbitTemplate(connections);
        template.setMandatory(true); // what no queue takes is returned
    }

    /** Returns when the event is in a queue and the broker has confirmed it, else throws. */
    void publish(String entity, String body, MessagePostProcessor properties) throws Exception {
        String exchange = System.getenv().getOrDefault("ONCEWARD_EXCHANGE", "events");
        CorrelationData correlation = new CorrelationData();
        // The routing key is the entity, whose order is kept. Messages are persistent unless one says otherwise.
        template.convertAndSend(exchange, entity, body, properties, correlation);
        CorrelationData.Confirm confirm = correlation.getFuture().get(30, TimeUnit.SECONDS);
        if (!confirm.ack()) {
            String reason = closed.completeOnTimeout(confirm.reason(), 1, TimeUnit.SECONDS).get();
            throw new IllegalStateException("the broker did not confirm it: " + reason);
        }
        // A returned message is confirmed all the same; the return comes before the confirm.
        if (correlation.getReturned() != null) {
            throw new IllegalStateException("no queue takes it; start a worker, which declares the queues");
        }
    }

    /** What makes a message of Spring's an event. */
    static MessagePostProcessor event(String key, Long sequence, String destination) {
        return message -> {
            var properties = message.getMessageProperties();
            properties.setMessageId(key); // the idempotency key: the same in every try; Spring sets none
            properties.setHeader("destination", destination);
            if (sequence != null) {
                properties.setHeader("sequence", sequence);
            }
            if (System.getenv("TRACEPARENT") != null) {
                properties.setHeader("traceparent", System.getenv("TRACEPARENT"));
            }
            properties.setContentType("application/json"); // of a String, the converter says text/plain
            properties.setContentEncoding(null); // and "UTF-8", which the receiver would get as content-encoding
            return message;
        };
    }

    static void run(String[] args) throws Exception {
        String url = System.getenv("ONCEWARD_AMQP_URL");
        if (url == null || args.length != 5) {
            throw new IllegalArgumentException(
                "usage: ONCEWARD_AMQP_URL=amqp://… Publish.java ENTITY KEY SEQUENCE DESTINATION BODY");
        }
        Long sequence = args[2].equals("-") ? null : Long.valueOf(args[2]);
        CachingConnectionFactory connections = new CachingConnectionFactory(URI.create(url));
        try {
            new Publish(connections).publish(args[0], args[4], event(args[1], sequence, args[3]));
        } finally {
            connections.destroy();
        }
    }

    public static void main(String[] args) {
        int status = 0;
        try {
            run(args);
        } catch (Exception error) {
            System.err.println("not published: " + error);
            status = 1;
        }
        System.exit(status); // idle threads of the factory would keep the process for another minute
    }
}
