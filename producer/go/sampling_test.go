package tracewatch

import (
	"context"
	"math"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func sampledOf(sampler sdktrace.Sampler, traces int, attributes ...attribute.KeyValue) (int, string) {
	sampled, state := 0, ""
	for range traces {
		traceID, _ := idGenerator{}.NewIDs(context.Background())
		result := sampler.ShouldSample(sdktrace.SamplingParameters{
			ParentContext: context.Background(), TraceID: traceID, Attributes: attributes,
		})
		if result.Decision == sdktrace.RecordAndSample {
			sampled++
			state = result.Tracestate.String()
		}
	}
	return sampled, state
}

func TestTheRatioIsKeptAndWrittenToTracestate(t *testing.T) {
	for ratio, want := range map[float64]string{0: "", 0.1: "ot=th:e6666666666666", 0.5: "ot=th:8", 1: "ot=th:0"} {
		const traces = 20_000
		sampled, state := sampledOf(Ratio(ratio), traces)
		if got := float64(sampled) / traces; math.Abs(got-ratio) > 0.015 {
			t.Errorf("ratio %v: %v sampled", ratio, got)
		}
		if state != want {
			t.Errorf("ratio %v: tracestate %q, want %q", ratio, state, want)
		}
	}
}

func TestALowerRatiosTracesAreAmongAHighers(t *testing.T) {
	low, high := ratioOf(0.2), ratioOf(0.6)
	for range 5000 {
		traceID, _ := idGenerator{}.NewIDs(context.Background())
		parameters := sdktrace.SamplingParameters{ParentContext: context.Background(), TraceID: traceID}
		if low.ShouldSample(parameters).Decision == sdktrace.RecordAndSample &&
			high.ShouldSample(parameters).Decision != sdktrace.RecordAndSample {
			t.Fatalf("%v is sampled at 0.2 and not at 0.6", traceID)
		}
	}
}

func TestTheFirstRouteThatMatchesDecides(t *testing.T) {
	sampler := PerRoute([]Route{{"GET /quotes/live", 1}, {"/quotes/{symbol}", 0}, {"/static/*", 0}}, 1)
	for request, want := range map[[2]string]int{
		{"GET", "/quotes/live"}:       100,
		{"POST", "/quotes/live"}:      0,
		{"GET", "/quotes/AAPL"}:       0,
		{"GET", "/quotes/AAPL/day"}:   100,
		{"GET", "/static/css/a.css"}:  0,
		{"GET", "/static2/css/a.css"}: 100,
	} {
		got, _ := sampledOf(sampler, 100,
			attribute.String("http.request.method", request[0]), attribute.String("url.path", request[1]))
		if got != want {
			t.Errorf("%v: %d of 100 sampled, want %d", request, got, want)
		}
	}
}

func TestTheRateIsBounded(t *testing.T) {
	sampler := newRateSampler(10)
	now := time.Unix(3600, 0)
	sampler.now = func() time.Time { return now }
	allowed := 0
	for range 1000 {
		sampled, state := sampledOf(sampler, 1)
		if state != "" {
			t.Fatalf("tracestate %q", state)
		}
		allowed += sampled
		now = now.Add(10 * time.Millisecond)
	}
	if allowed < 105 || allowed > 111 {
		t.Errorf("%d of 10 a second for 10 s, burst 10", allowed)
	}
}

func TestASpanFollowsItsParentsDecision(t *testing.T) {
	caller := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled, Remote: true,
	})
	result := Ratio(0).ShouldSample(sdktrace.SamplingParameters{
		ParentContext: trace.ContextWithRemoteSpanContext(context.Background(), caller), TraceID: caller.TraceID(),
	})
	if result.Decision != sdktrace.RecordAndSample {
		t.Error("a sampled caller's trace was cut")
	}
}

func TestAFailedRootIsKeptWithItsLocalSpansThoughItWasNotSampled(t *testing.T) {
	sink := &exports{}
	counters := &Counters{}
	next := newProcessor(sink, nil, producerSettings{
		linger: time.Hour, earlyFlushInterval: time.Millisecond, maxQueueSpans: 100,
	}, counters)
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(errorsToo{Ratio(0)}), sdktrace.WithSpanProcessor(newKeptErrors(next)))
	defer func() { _ = provider.Shutdown(context.Background()) }()
	tracer := provider.Tracer("test")
	for _, failed := range []bool{false, true, false} {
		ctx, root := tracer.Start(context.Background(), "root")
		_, child := tracer.Start(ctx, "child")
		child.End()
		if failed {
			root.SetStatus(codes.Error, "failed")
		}
		root.End()
	}
	eventually(t, "the failed trace exported", func() bool { return sink.total() == 2 })
	if err := provider.ForceFlush(context.Background()); err != nil || sink.total() != 2 {
		t.Errorf("%d spans exported, %v", sink.total(), err)
	}
}
