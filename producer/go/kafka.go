package tracewatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	// partitionsRefreshedEvery notices a topic that was given more partitions.
	partitionsRefreshedEvery = 5 * time.Minute
	firstBackoff             = 250 * time.Millisecond
	maxBackoff               = 5 * time.Second
)

// kafkaClient is an otlptrace.Client that writes spans to a topic: one record per partition and batch.
//
// UploadTraces hands records to franz-go, which keeps up to maxPendingBytes of them while Kafka is away
// and delivers them when it is back. What does not fit is dropped and counted.
type kafkaClient struct {
	client   *kgo.Client
	topic    string
	counters *Counters

	mu          sync.Mutex
	partitions  int
	refreshedAt time.Time
}

func newKafkaClient(settings kafkaSettings, producer producerSettings, counters *Counters) (*kafkaClient, error) {
	options := []kgo.Opt{
		kgo.ClientID("tracewatch-producer"),
		kgo.SeedBrokers(settings.bootstrapServers...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(maxRecordBytes + 40_000),
		kgo.MaxBufferedBytes(producer.maxPendingBytes),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		// Every acknowledgement is waited for; without idempotence, because a retry's duplicate is dropped
		// downstream by (trace id, span id), and because not every broker and not every ACL grants it.
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.DisableIdempotentWrite(),
		kgo.UnknownTopicRetries(-1),
		// Later requests bring a producer nothing, and the embedded broker (Tansu 0.6) hangs up on ApiVersions v5.
		kgo.MaxVersions(kversion.V3_9_0()),
	}
	if settings.usesTLS() {
		config, err := settings.tlsConfig()
		if err != nil {
			return nil, err
		}
		options = append(options, kgo.DialTLSConfig(config))
	}
	if settings.usesSASL() {
		options = append(options, kgo.SASL(mechanism(settings)))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, &InvalidSettingError{"TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS", err.Error()}
	}
	return &kafkaClient{client: client, topic: settings.topic, counters: counters}, nil
}

// Start does nothing: the client connects with the first span.
func (k *kafkaClient) Start(context.Context) error { return nil }

// Stop delivers what is buffered until ctx ends, then closes the connections.
func (k *kafkaClient) Stop(ctx context.Context) error {
	err := k.client.Flush(ctx)
	k.client.Close()
	return err
}

// UploadTraces passes spans on to the client's buffer. It waits only for the topic's partition count, the first time.
func (k *kafkaClient) UploadTraces(ctx context.Context, batch []*tracepb.ResourceSpans) error {
	partitions, err := k.partitionCount(ctx)
	if err != nil {
		k.counters.Dropped.Add(spanCount(batch))
		return err
	}
	for _, part := range recordsOf(batch, partitions, maxRecordBytes) {
		spans := int64(part.spans)
		value, err := proto.Marshal(part.request)
		if err != nil {
			k.counters.Dropped.Add(spans)
			slog.Warn("tracewatch: spans could not be encoded and were dropped", "spans", spans, "error", err)
			continue
		}
		k.client.TryProduce(context.WithoutCancel(ctx), &kgo.Record{Topic: k.topic, Partition: part.partition, Value: value},
			func(_ *kgo.Record, err error) {
				if err != nil {
					k.counters.Dropped.Add(spans)
					return
				}
				k.counters.Exported.Add(spans)
			})
	}
	return nil
}

// flush returns when everything buffered is acknowledged, or ctx ends.
func (k *kafkaClient) flush(ctx context.Context) error { return k.client.Flush(ctx) }

// partitionCount asks Kafka for the topic's partitions: until it answers the first time, later now and then.
func (k *kafkaClient) partitionCount(ctx context.Context) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.partitions > 0 && time.Since(k.refreshedAt) < partitionsRefreshedEvery {
		return k.partitions, nil
	}
	for backoff := firstBackoff; ; backoff = min(2*backoff, maxBackoff) {
		partitions, err := k.askForPartitions(ctx)
		if err == nil {
			k.partitions, k.refreshedAt = partitions, time.Now()
			return partitions, nil
		}
		if k.partitions > 0 {
			// Known well enough: Kafka is away, and the records wait for it in the client's buffer.
			k.refreshedAt = time.Now()
			return k.partitions, nil
		}
		if backoff == firstBackoff {
			slog.Warn("tracewatch: Kafka does not take spans yet; is TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS right, "+
				"and does the topic exist?", "topic", k.topic, "error", err)
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return 0, fmt.Errorf("no partitions of topic %s: %w", k.topic, err)
		}
	}
}

func (k *kafkaClient) askForPartitions(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(k.topic)
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(ctx, k.client)
	if err != nil {
		return 0, err
	}
	if len(response.Topics) != 1 {
		return 0, errors.New("Kafka's answer names no topic")
	}
	if err := kerr.ErrorForCode(response.Topics[0].ErrorCode); err != nil {
		return 0, err
	}
	if len(response.Topics[0].Partitions) == 0 {
		return 0, errors.New("the topic has no partitions yet")
	}
	return len(response.Topics[0].Partitions), nil
}

func mechanism(settings kafkaSettings) sasl.Mechanism {
	auth := scram.Auth{User: settings.saslUsername, Pass: settings.saslPassword}
	switch settings.saslMechanism {
	case "SCRAM-SHA-256":
		return auth.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		return auth.AsSha512Mechanism()
	default:
		return plain.Auth{User: settings.saslUsername, Pass: settings.saslPassword}.AsMechanism()
	}
}

func spanCount(batch []*tracepb.ResourceSpans) int64 {
	count := 0
	for _, resource := range batch {
		for _, scope := range resource.ScopeSpans {
			count += len(scope.Spans)
		}
	}
	return int64(count)
}
