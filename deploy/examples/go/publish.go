// Publishes one event, and exits with 0 only if RabbitMQ has it in a queue.
//
// usage: go run . ENTITY KEY SEQUENCE DESTINATION BODY        (SEQUENCE may be -, for none)
//
// Needs ONCEWARD_AMQP_URL; hands TRACEPARENT on.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A publisher has a channel to itself and publishes one event at a time, so that what is returned
// is that event. After an error it wants a new channel.
type publisher struct {
	channel  *amqp.Channel
	returned chan amqp.Return
	closed   chan *amqp.Error
}

func newPublisher(connection *amqp.Connection) (*publisher, error) {
	channel, err := connection.Channel()
	if err != nil {
		return nil, err
	}
	returned := channel.NotifyReturn(make(chan amqp.Return, 1))
	closed := channel.NotifyClose(make(chan *amqp.Error, 1))
	return &publisher{channel, returned, closed}, channel.Confirm(false)
}

// publish returns nil only if the event is in a queue and the broker has confirmed it.
func (p *publisher) publish(ctx context.Context, entity string, event amqp.Publishing) error {
	exchange := cmp.Or(os.Getenv("ONCEWARD_EXCHANGE"), "events")
	const mandatory, immediate = true, false // mandatory: what no queue takes is returned
	// The routing key is the entity, whose order is kept.
	confirm, err := p.channel.PublishWithDeferredConfirmWithContext(ctx, exchange, entity, mandatory, immediate, event)
	if err != nil {
		return err
	}
	confirmed, err := confirm.WaitContext(ctx)
	if err != nil {
		return err
	}
	// Both channels are closed with the AMQP channel: then they give nil and false.
	if !confirmed {
		select {
		case reason := <-p.closed:
			if reason != nil {
				return reason
			}
		default:
		}
		return errors.New("the broker did not confirm it")
	}
	select {
	case _, returned := <-p.returned: // it is confirmed all the same; the return comes before the confirm
		if returned {
			return errors.New("no queue takes it; start a worker, which declares the queues")
		}
	default:
	}
	return nil
}

func run(args []string) error {
	url := os.Getenv("ONCEWARD_AMQP_URL")
	if url == "" || len(args) != 5 {
		return errors.New("usage: ONCEWARD_AMQP_URL=amqp://… go run . ENTITY KEY SEQUENCE DESTINATION BODY")
	}
	headers := amqp.Table{"destination": args[3]}
	if args[2] != "-" {
		sequence, err := strconv.ParseInt(args[2], 10, 64)
		if err != nil {
			return err
		}
		headers["sequence"] = sequence
	}
	if traceparent := os.Getenv("TRACEPARENT"); traceparent != "" {
		headers["traceparent"] = traceparent
	}
	connection, err := amqp.Dial(url)
	if err != nil {
		return err
	}
	defer connection.Close()
	publisher, err := newPublisher(connection)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return publisher.publish(ctx, args[0], amqp.Publishing{
		MessageId:    args[1], // the idempotency key: the same in every try to publish this event
		DeliveryMode: amqp.Persistent,
		ContentType:  "application/json",
		Headers:      headers,
		Body:         []byte(args[4]),
	})
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "not published:", err)
		os.Exit(1)
	}
}
