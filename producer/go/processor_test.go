package tracewatch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// exports notes what a processor passes on, and when.
type exports struct {
	mu      sync.Mutex
	batches []int
	at      []time.Time
	blocked chan struct{}
}

func (e *exports) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	if e.blocked != nil {
		<-e.blocked
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.batches, e.at = append(e.batches, len(spans)), append(e.at, time.Now())
	return nil
}

func (e *exports) Shutdown(context.Context) error { return nil }

func (e *exports) total() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	total := 0
	for _, batch := range e.batches {
		total += batch
	}
	return total
}

func tracerInto(t *testing.T, exporter sdktrace.SpanExporter, settings producerSettings) (trace.Tracer, *processor, *Counters) {
	t.Helper()
	counters := &Counters{}
	processor := newProcessor(exporter, nil, settings, counters)
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(processor))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = provider.Shutdown(ctx)
	})
	return provider.Tracer("test"), processor, counters
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestALocalRootIsExportedAtOnceAndAChildLingers(t *testing.T) {
	sink := &exports{}
	settings := producerSettings{linger: time.Hour, earlyFlushInterval: time.Millisecond, maxQueueSpans: 100}
	tracer, _, _ := tracerInto(t, sink, settings)
	ctx, root := tracer.Start(context.Background(), "root")
	_, child := tracer.Start(ctx, "child")
	child.End()
	if sink.total() != 0 {
		t.Error("a child alone was exported before its linger")
	}
	root.End()
	eventually(t, "root and child exported", func() bool { return sink.total() == 2 })
}

func TestAnErrorIsExportedAtOnce(t *testing.T) {
	sink := &exports{}
	settings := producerSettings{linger: time.Hour, earlyFlushInterval: time.Millisecond, maxQueueSpans: 100}
	tracer, _, _ := tracerInto(t, sink, settings)
	ctx, root := tracer.Start(context.Background(), "root")
	defer root.End()
	_, child := tracer.Start(ctx, "child")
	child.SetStatus(codes.Error, "failed")
	child.End()
	eventually(t, "error exported", func() bool { return sink.total() == 1 })
}

func TestEarlyFlushesKeepTheirDistance(t *testing.T) {
	const interval = 40 * time.Millisecond
	sink := &exports{}
	tracer, _, _ := tracerInto(t, sink, producerSettings{linger: time.Hour, earlyFlushInterval: interval, maxQueueSpans: 10_000})
	for range 50 {
		_, root := tracer.Start(context.Background(), "root")
		root.End()
		time.Sleep(2 * time.Millisecond)
	}
	eventually(t, "all exported", func() bool { return sink.total() == 50 })
	for i := 1; i < len(sink.at); i++ {
		if gap := sink.at[i].Sub(sink.at[i-1]); gap < interval-5*time.Millisecond {
			t.Errorf("flushes %d and %d are %v apart", i-1, i, gap)
		}
	}
}

func TestAFullQueueDropsAndCountsAndNeverBlocks(t *testing.T) {
	sink := &exports{blocked: make(chan struct{})}
	settings := producerSettings{linger: time.Millisecond, earlyFlushInterval: time.Millisecond, maxQueueSpans: 10}
	tracer, _, counters := tracerInto(t, sink, settings)
	started := time.Now()
	for range 1000 {
		_, root := tracer.Start(context.Background(), "root")
		root.End()
	}
	if took := time.Since(started); took > time.Second {
		t.Errorf("1000 spans took %v while the exporter was stuck", took)
	}
	close(sink.blocked)
	eventually(t, "every span exported or counted", func() bool { return int64(sink.total())+counters.Dropped.Load() == 1000 })
	if counters.Dropped.Load() < 900 {
		t.Errorf("%d dropped", counters.Dropped.Load())
	}
}

func TestFlushEndsWithItsContextWhileTheReceiverIsStuck(t *testing.T) {
	sink := &exports{blocked: make(chan struct{})}
	defer close(sink.blocked)
	tracer, processor, _ := tracerInto(t, sink, producerSettings{linger: time.Hour, earlyFlushInterval: time.Millisecond, maxQueueSpans: 10})
	_, root := tracer.Start(context.Background(), "root")
	root.End()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := processor.ForceFlush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("flush: %v", err)
	}
}
