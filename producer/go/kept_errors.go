package tracewatch

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	// Beyond these, spans are let go: a bound for traces whose root never ends.
	maxKeptTraces       = 1024
	maxKeptSpansOfTrace = 128
)

// errorsToo records what its sampler drops, unsampled, so that keptErrors may still export it.
type errorsToo struct{ sampler sdktrace.Sampler }

func (s errorsToo) Description() string {
	return "TracewatchErrorsToo{" + s.sampler.Description() + "}"
}

func (s errorsToo) ShouldSample(parameters sdktrace.SamplingParameters) sdktrace.SamplingResult {
	result := s.sampler.ShouldSample(parameters)
	if result.Decision == sdktrace.Drop {
		result.Decision = sdktrace.RecordOnly
	}
	return result
}

// keptErrors holds the recorded, unsampled spans of this process until their local root ends, and exports them if
// it failed. The parts of the trace in other services are not brought back: they saw an unsampled trace.
type keptErrors struct {
	*processor

	mu   sync.Mutex
	held map[trace.TraceID][]sdktrace.ReadOnlySpan
}

func newKeptErrors(next *processor) *keptErrors {
	return &keptErrors{processor: next, held: map[trace.TraceID][]sdktrace.ReadOnlySpan{}}
}

// OnEnd passes a sampled span on and holds an unsampled one; at its local root, it exports or forgets the trace.
func (k *keptErrors) OnEnd(span sdktrace.ReadOnlySpan) {
	if span.SpanContext().IsSampled() {
		k.processor.OnEnd(span)
		return
	}
	for _, kept := range k.released(span) {
		k.offer(kept)
	}
}

// Shutdown forgets what is held.
func (k *keptErrors) Shutdown(ctx context.Context) error {
	k.mu.Lock()
	clear(k.held)
	k.mu.Unlock()
	return k.processor.Shutdown(ctx)
}

func (k *keptErrors) released(span sdktrace.ReadOnlySpan) []sdktrace.ReadOnlySpan {
	traceID := span.SpanContext().TraceID()
	k.mu.Lock()
	defer k.mu.Unlock()
	held, known := k.held[traceID]
	if parent := span.Parent(); !parent.IsValid() || parent.IsRemote() {
		delete(k.held, traceID)
		if span.Status().Code == codes.Error {
			return append(held, span)
		}
		return nil
	}
	if (known || len(k.held) < maxKeptTraces) && len(held) < maxKeptSpansOfTrace {
		k.held[traceID] = append(held, span)
	}
	return nil
}
