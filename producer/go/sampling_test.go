package tracewatch

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func sampledOf(t *testing.T, sampling Sampling, traces int, attributes ...attribute.KeyValue) (int, string) {
	t.Helper()
	sampler, err := newSampler(sampling)
	if err != nil {
		t.Fatal(err)
	}
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
	for _, ratio := range []float64{0, 0.1, 0.5, 1} {
		const traces = 20_000
		sampled, state := sampledOf(t, Sampling{Ratio: ratio}, traces)
		if got := float64(sampled) / traces; math.Abs(got-ratio) > 0.015 {
			t.Errorf("ratio %v: %v sampled", ratio, got)
		}
		if want := map[float64]string{0: "", 0.1: "ot=th:e6666", 0.5: "ot=th:8", 1: "ot=th:0"}[ratio]; state != want {
			t.Errorf("ratio %v: tracestate %q, want %q", ratio, state, want)
		}
	}
}

func TestTheLongestRoutePrefixOverridesTheRatio(t *testing.T) {
	sampling := Sampling{Ratio: 1, RouteRatios: map[string]float64{"/quotes": 0, "/quotes/live": 1}}
	for path, want := range map[string]int{"/quotes/AAPL": 0, "/quotes/live/AAPL": 100, "/other": 100} {
		if got, _ := sampledOf(t, sampling, 100, attribute.String("url.path", path)); got != want {
			t.Errorf("%s: %d of 100 sampled, want %d", path, got, want)
		}
	}
}

func TestTheRateIsBounded(t *testing.T) {
	limiter := &limiter{perSecond: 10, burst: 10}
	now := time.Unix(0, 0).Add(time.Hour)
	allowed := 0
	for range 1000 {
		if limiter.allows(now) {
			allowed++
		}
		now = now.Add(10 * time.Millisecond)
	}
	if allowed < 105 || allowed > 111 {
		t.Errorf("%d of 10 a second for 10 s, burst 10", allowed)
	}
}

func TestASpanFollowsItsParentsDecision(t *testing.T) {
	sampler, err := newSampler(Sampling{Ratio: 0})
	if err != nil {
		t.Fatal(err)
	}
	caller := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled, Remote: true,
	})
	result := sampler.ShouldSample(sdktrace.SamplingParameters{
		ParentContext: trace.ContextWithRemoteSpanContext(context.Background(), caller), TraceID: caller.TraceID(),
	})
	if result.Decision != sdktrace.RecordAndSample {
		t.Error("a sampled caller's trace was cut")
	}
}

func TestARatioOutOfRangeIsRefused(t *testing.T) {
	for _, sampling := range []Sampling{{Ratio: 1.5}, {RouteRatios: map[string]float64{"/": -1}}} {
		if _, err := newSampler(sampling); err == nil || !strings.Contains(err.Error(), "Sampling.") {
			t.Errorf("%+v: %v", sampling, err)
		}
	}
}
