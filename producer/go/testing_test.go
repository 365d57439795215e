package tracewatch

import (
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// recorded makes everything traced in this test end in the returned recorder.
func recorded(t testing.TB, options ...sdktrace.TracerProviderOption) *tracetest.SpanRecorder {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	options = append(options, sdktrace.WithSpanProcessor(recorder), sdktrace.WithIDGenerator(idGenerator{}))
	otel.SetTracerProvider(sdktrace.NewTracerProvider(options...))
	otel.SetTextMapPropagator(Propagator())
	return recorder
}

func attributesOf(span sdktrace.ReadOnlySpan) map[string]attribute.Value {
	found := map[string]attribute.Value{}
	for _, pair := range span.Attributes() {
		found[string(pair.Key)] = pair.Value
	}
	return found
}
