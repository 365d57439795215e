package tracewatch

import (
	"fmt"
	"strings"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Sampling says which traces are recorded. A span with a parent follows its parent's decision; these are for roots.
//
// The decision is consistent by trace id, and its threshold is written to tracestate (`ot=th:`), so that counts
// can be weighted by it and rates stay right.
type Sampling struct {
	// Ratio of traces, 0 to 1.
	Ratio float64
	// RouteRatios override Ratio for requests whose path begins with the key; the longest key wins.
	RouteRatios map[string]float64
	// MaxTracesPerSecond bounds what Ratio lets through; 0 is no bound.
	MaxTracesPerSecond float64
	// AlwaysErrors exports an unsampled local root that ends with an error, and the errors under it.
	AlwaysErrors bool
}

const (
	// randomnessBits of a trace id's end are random, by W3C Trace Context level 2.
	randomnessBits = 56
	// thresholdDigits that are written: 20 bits are a ratio to a millionth.
	thresholdDigits = 5
)

type sampler struct {
	sampling Sampling
	limiter  *limiter
}

func newSampler(sampling Sampling) (sdktrace.Sampler, error) {
	if sampling.Ratio < 0 || sampling.Ratio > 1 {
		return nil, &InvalidSettingError{"Sampling.Ratio", fmt.Sprintf("%v is not within 0 and 1", sampling.Ratio)}
	}
	for route, ratio := range sampling.RouteRatios {
		if ratio < 0 || ratio > 1 {
			return nil, &InvalidSettingError{"Sampling.RouteRatios", fmt.Sprintf("%s: %v is not within 0 and 1", route, ratio)}
		}
	}
	root := sampler{sampling: sampling}
	if sampling.MaxTracesPerSecond > 0 {
		root.limiter = &limiter{perSecond: sampling.MaxTracesPerSecond, burst: max(1, sampling.MaxTracesPerSecond)}
	}
	return sdktrace.ParentBased(root), nil
}

func (s sampler) Description() string { return fmt.Sprintf("Tracewatch{%g}", s.sampling.Ratio) }

func (s sampler) ShouldSample(parameters sdktrace.SamplingParameters) sdktrace.SamplingResult {
	state := trace.SpanContextFromContext(parameters.ParentContext).TraceState()
	threshold, possible := thresholdOf(s.ratioOf(parameters))
	if !possible || randomnessOf(parameters.TraceID) < threshold || !s.limiter.allows(time.Now()) {
		decision := sdktrace.Drop
		if s.sampling.AlwaysErrors {
			decision = sdktrace.RecordOnly
		}
		return sdktrace.SamplingResult{Decision: decision, Tracestate: state}
	}
	if stated, err := state.Insert("ot", "th:"+thresholdText(threshold)); err == nil {
		state = stated
	}
	return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: state}
}

func (s sampler) ratioOf(parameters sdktrace.SamplingParameters) float64 {
	ratio, longest := s.sampling.Ratio, -1
	for _, attribute := range parameters.Attributes {
		if attribute.Key != "url.path" {
			continue
		}
		for prefix, override := range s.sampling.RouteRatios {
			if strings.HasPrefix(attribute.Value.AsString(), prefix) && len(prefix) > longest {
				ratio, longest = override, len(prefix)
			}
		}
	}
	return ratio
}

// thresholdOf is what randomness must reach; false if nothing is sampled.
func thresholdOf(ratio float64) (uint64, bool) {
	if ratio <= 0 {
		return 0, false
	}
	rejected := uint64((1 - ratio) * (1 << randomnessBits))
	// Only what is written is decided by: every reader computes the same.
	const unit = uint64(1) << (randomnessBits - 4*thresholdDigits)
	return min(rejected/unit, 1<<(4*thresholdDigits)-1) * unit, true
}

// thresholdText is hex without trailing zeros, as `ot=th:` has it.
func thresholdText(threshold uint64) string {
	text := strings.TrimRight(fmt.Sprintf("%014x", threshold), "0")
	if text == "" {
		return "0"
	}
	return text
}

func randomnessOf(traceID trace.TraceID) uint64 {
	var value uint64
	for _, b := range traceID[9:] {
		value = value<<8 | uint64(b)
	}
	return value
}

// limiter is a token bucket; nil allows everything.
type limiter struct {
	perSecond, burst float64

	mu     sync.Mutex
	tokens float64
	filled time.Time
}

func (l *limiter) allows(now time.Time) bool {
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.filled.IsZero() {
		l.tokens = l.burst
	} else {
		l.tokens = min(l.burst, l.tokens+now.Sub(l.filled).Seconds()*l.perSecond)
	}
	l.filled = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}
