package tracewatch

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

const testPartitions = 8

func configuredForKafka(t *testing.T, brokers string) (trace.Tracer, func(context.Context) error, *Counters) {
	t.Helper()
	t.Setenv("TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS", brokers)
	counters := &Counters{}
	provider, err := newProvider(context.Background(), Options{ServiceName: "api-service"}, counters)
	if err != nil {
		t.Fatal(err)
	}
	return provider.Tracer("test"), provider.Shutdown, counters
}

func TestEveryPartitionsSpansOfABatchTravelInOneRecord(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(testPartitions, DefaultTopic))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	t.Setenv("TRACEWATCH_PRODUCER_LINGER_MS", "60000")
	t.Setenv("TRACEWATCH_PRODUCER_EARLY_FLUSH_INTERVAL_MS", "60000")
	tracer, shutdown, counters := configuredForKafka(t, cluster.ListenAddrs()[0])

	// The first root is flushed early, and holds later early flushes back for a minute: shutdown flushes the rest.
	const traces = 200
	for range traces {
		ctx, root := tracer.Start(context.Background(), "root")
		_, child := tracer.Start(ctx, "child")
		child.End()
		root.End()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if got := counters.Exported.Load(); got != 2*traces || counters.Dropped.Load() != 0 {
		t.Fatalf("%d exported, %d dropped", got, counters.Dropped.Load())
	}

	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics(DefaultTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	spans, records := 0, 0
	for spans < 2*traces {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d spans: %v", spans, err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			records++
			var request coltracepb.ExportTraceServiceRequest
			if err := proto.Unmarshal(record.Value, &request); err != nil {
				t.Fatal(err)
			}
			for _, resource := range request.ResourceSpans {
				for _, scope := range resource.ScopeSpans {
					for _, span := range scope.Spans {
						spans++
						if want := partitionOf(span.TraceId, testPartitions); int(record.Partition) != want {
							t.Fatalf("trace %x in partition %d, want %d", span.TraceId, record.Partition, want)
						}
					}
				}
			}
		})
	}
	if records > 2*testPartitions+2 {
		t.Errorf("%d records for %d spans in two or three flushes over %d partitions", records, spans, testPartitions)
	}
}

func TestAServiceRunsOnWhileKafkaIsAway(t *testing.T) {
	t.Setenv("TRACEWATCH_PRODUCER_MAX_QUEUE_SPANS", "50")
	tracer, shutdown, counters := configuredForKafka(t, "127.0.0.1:1")
	started := time.Now()
	for range 1000 {
		_, root := tracer.Start(context.Background(), "root")
		root.End()
	}
	if took := time.Since(started); took > time.Second {
		t.Errorf("1000 spans took %v", took)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	eventually(t, "every span counted as dropped", func() bool { return counters.Dropped.Load() == 1000 })
}

func TestAWrongSettingNamesItsVariable(t *testing.T) {
	for variable, value := range map[string]string{
		"TRACEWATCH_KAFKA_SECURITY_PROTOCOL": "TLS",
		"TRACEWATCH_KAFKA_SASL_MECHANISM":    "GSSAPI",
		"TRACEWATCH_PRODUCER_LINGER_MS":      "soon",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, value)
			_, err := newProvider(context.Background(), Options{ServiceName: "x"}, &Counters{})
			var invalid *InvalidSettingError
			if !errors.As(err, &invalid) || invalid.Variable != variable {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("missing user", func(t *testing.T) {
		t.Setenv("TRACEWATCH_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
		t.Setenv("TRACEWATCH_KAFKA_SASL_PASSWORD", "secret")
		_, err := kafkaFromEnvironment()
		var invalid *InvalidSettingError
		if !errors.As(err, &invalid) || invalid.Variable != "TRACEWATCH_KAFKA_SASL_USERNAME" {
			t.Errorf("error %v", err)
		}
	})
}
