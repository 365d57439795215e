package tracewatch

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

type contextKey int

const (
	// namedTraceKey: a trace id that came without a span id (X-Trace-ID alone) waits here for the root span.
	namedTraceKey contextKey = iota
	// tracestateKey: a valid tracestate that OpenTelemetry's type refuses (level 2's keys) is passed on from here.
	tracestateKey
)

// Propagator reads W3C traceparent and tracestate, else b3, else X-B3-*, else X-Trace-ID / X-Span-ID, and baggage
// always; it writes W3C's three and the X- pair.
func Propagator() propagation.TextMapPropagator { return propagator{} }

type propagator struct{ baggage propagation.Baggage }

func (p propagator) Fields() []string {
	return []string{"traceparent", "tracestate", "baggage", "X-Trace-ID", "X-Span-ID"}
}

func (p propagator) Inject(ctx context.Context, carrier propagation.TextMapCarrier) {
	span := trace.SpanContextFromContext(ctx)
	if span.IsValid() {
		traceID, spanID := span.TraceID(), span.SpanID()
		flags := hex.EncodeToString([]byte{byte(span.TraceFlags())})
		carrier.Set("traceparent", "00-"+traceID.String()+"-"+spanID.String()+"-"+flags)
		state := span.TraceState().String()
		if passed, ok := ctx.Value(tracestateKey).(string); ok && state == "" {
			state = passed
		}
		if state != "" {
			carrier.Set("tracestate", state)
		}
		carrier.Set("X-Trace-ID", traceID.String())
		carrier.Set("X-Span-ID", spanID.String())
	}
	p.baggage.Inject(ctx, carrier)
}

func (p propagator) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	ctx = p.baggage.Extract(ctx, carrier)
	found, states, ok := callerOf(carrier)
	if !ok {
		return ctx
	}
	if !found.spanID.IsValid() {
		return context.WithValue(ctx, namedTraceKey, found.traceID)
	}
	config := trace.SpanContextConfig{TraceID: found.traceID, SpanID: found.spanID, TraceFlags: found.flags, Remote: true}
	if state := parseTracestate(states); state != "" {
		var err error
		if config.TraceState, err = trace.ParseTraceState(state); err != nil {
			ctx = context.WithValue(ctx, tracestateKey, state)
		}
	}
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(config))
}

func callerOf(carrier propagation.TextMapCarrier) (parent, []string, bool) {
	if values := valuesOf(carrier, "traceparent"); len(values) > 0 {
		// Two traceparents are none: the specification lets neither win.
		if len(values) == 1 {
			if found, ok := parseTraceparent(values[0]); ok {
				return found, valuesOf(carrier, "tracestate"), true
			}
		}
	}
	if found, ok := parseB3Single(carrier.Get("b3")); ok {
		return found, nil, true
	}
	if found, ok := parseB3Multiple(carrier.Get("X-B3-TraceId"), carrier.Get("X-B3-SpanId"),
		carrier.Get("X-B3-Sampled"), carrier.Get("X-B3-Flags")); ok {
		return found, nil, true
	}
	found, ok := parseXIDs(carrier.Get("X-Trace-ID"), carrier.Get("X-Span-ID"))
	return found, nil, ok
}

func valuesOf(carrier propagation.TextMapCarrier, key string) []string {
	if multiple, ok := carrier.(propagation.ValuesGetter); ok {
		return multiple.Values(key)
	}
	if value := carrier.Get(key); value != "" {
		return []string{value}
	}
	return nil
}

// idGenerator makes random ids; a root span takes the trace id that its caller named.
type idGenerator struct{}

var _ sdktrace.IDGenerator = idGenerator{}

func (idGenerator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	traceID, named := ctx.Value(namedTraceKey).(trace.TraceID)
	if !named {
		randomID(traceID[:])
	}
	var spanID trace.SpanID
	randomID(spanID[:])
	return traceID, spanID
}

func (idGenerator) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	var spanID trace.SpanID
	randomID(spanID[:])
	return spanID
}

func randomID(id []byte) {
	// crypto/rand never fails, by its documentation. Zero is no id.
	_, _ = rand.Read(id)
	if id[0] == 0 {
		id[0] = 1
	}
}
