package tracewatch

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Head sampling: which traces are recorded, decided once, at their root, and said to everyone after.
//
// Ratios are consistent: every service that samples a trace by ratio compares the same 56 random bits of its id,
// so a lower ratio's traces are a subset of a higher's. The threshold travels in tracestate (ot=th:...) and lets
// the pipeline weight what it counts. Source: OpenTelemetry specification, tracestate probability sampling.

const allRandomness = uint64(1) << 56

// Ratio samples a share of all traces, consistently by trace id; spans with a parent follow it.
// The ratio is held within 0 and 1.
func Ratio(ratio float64) sdktrace.Sampler { return sdktrace.ParentBased(ratioOf(ratio)) }

// RateLimited samples at most so many traces a second, with bursts of one second's worth; spans with a parent follow it.
func RateLimited(tracesPerSecond float64) sdktrace.Sampler {
	return sdktrace.ParentBased(newRateSampler(tracesPerSecond))
}

// Route gives the requests of one route a sampler of their own.
type Route struct {
	// Pattern is "/quotes/{symbol}" or "GET /quotes/{symbol}"; * matches anything, {rest...} what remains.
	Pattern string
	// Ratio of this route's traces.
	Ratio float64
}

// PerRoute samples by the first route that matches a request's method and path, and by otherwise for the rest and
// for spans that are no requests; spans with a parent follow it.
func PerRoute(routes []Route, otherwise float64) sdktrace.Sampler {
	sampler := routeSampler{otherwise: ratioOf(otherwise)}
	for _, route := range routes {
		sampler.expressions = append(sampler.expressions, routeExpression(route.Pattern))
		sampler.samplers = append(sampler.samplers, ratioOf(route.Ratio))
	}
	return sdktrace.ParentBased(sampler)
}

type ratioSampler struct {
	ratio     float64
	threshold uint64
}

func ratioOf(ratio float64) ratioSampler {
	ratio = min(max(ratio, 0), 1)
	return ratioSampler{ratio, allRandomness - uint64(math.RoundToEven(ratio*float64(allRandomness)))}
}

func (s ratioSampler) Description() string { return fmt.Sprintf("TracewatchRatio{%g}", s.ratio) }

func (s ratioSampler) ShouldSample(parameters sdktrace.SamplingParameters) sdktrace.SamplingResult {
	state := trace.SpanContextFromContext(parameters.ParentContext).TraceState()
	if randomnessOf(parameters.TraceID, state) < s.threshold {
		return sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: withThreshold(state, "")}
	}
	return sdktrace.SamplingResult{
		Decision: sdktrace.RecordAndSample, Tracestate: withThreshold(state, thresholdText(s.threshold)),
	}
}

type routeSampler struct {
	expressions []*regexp.Regexp
	samplers    []ratioSampler
	otherwise   ratioSampler
}

func (s routeSampler) Description() string {
	return fmt.Sprintf("TracewatchPerRoute{%d routes, %s}", len(s.samplers), s.otherwise.Description())
}

func (s routeSampler) ShouldSample(parameters sdktrace.SamplingParameters) sdktrace.SamplingResult {
	var method, path string
	for _, attribute := range parameters.Attributes {
		switch attribute.Key {
		case "http.request.method":
			method = attribute.Value.AsString()
		case "url.path":
			path = attribute.Value.AsString()
		}
	}
	if path != "" {
		for i, expression := range s.expressions {
			if expression.MatchString(method + " " + path) {
				return s.samplers[i].ShouldSample(parameters)
			}
		}
	}
	return s.otherwise.ShouldSample(parameters)
}

var routePart = regexp.MustCompile(`\{[^}]*\}|\*`)

func routeExpression(pattern string) *regexp.Regexp {
	method, path, hasMethod := strings.Cut(pattern, " ")
	if !hasMethod {
		method, path = "", pattern
	}
	expression := "[^ ]*"
	if method != "" {
		expression = regexp.QuoteMeta(method)
	}
	expression += " "
	last := 0
	for _, part := range routePart.FindAllStringIndex(path, -1) {
		expression += regexp.QuoteMeta(path[last:part[0]])
		if text := path[part[0]:part[1]]; text == "*" || strings.HasSuffix(text, "...}") {
			expression += ".*"
		} else {
			expression += "[^/]+"
		}
		last = part[1]
	}
	return regexp.MustCompile("^" + expression + regexp.QuoteMeta(path[last:]) + "$")
}

// rateSampler is a token bucket. The share that it keeps is not known when it decides: no threshold is written.
type rateSampler struct {
	perSecond, burst float64
	now              func() time.Time

	mu     *sync.Mutex
	tokens *float64
	filled *time.Time
}

func newRateSampler(perSecond float64) rateSampler {
	burst := max(1, perSecond)
	tokens, filled := burst, time.Time{}
	return rateSampler{perSecond, burst, time.Now, &sync.Mutex{}, &tokens, &filled}
}

func (s rateSampler) Description() string {
	return fmt.Sprintf("TracewatchRateLimited{%g}", s.perSecond)
}

func (s rateSampler) ShouldSample(parameters sdktrace.SamplingParameters) sdktrace.SamplingResult {
	state := withThreshold(trace.SpanContextFromContext(parameters.ParentContext).TraceState(), "")
	if s.take() {
		return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: state}
	}
	return sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: state}
}

func (s rateSampler) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if !s.filled.IsZero() {
		*s.tokens = min(s.burst, *s.tokens+now.Sub(*s.filled).Seconds()*s.perSecond)
	}
	*s.filled = now
	if *s.tokens < 1 {
		return false
	}
	*s.tokens--
	return true
}

// thresholdText is a rejection threshold as th writes it: hex without trailing zeros, "0" for none.
func thresholdText(threshold uint64) string {
	text := strings.TrimRight(fmt.Sprintf("%014x", threshold), "0")
	if text == "" {
		return "0"
	}
	return text
}

// withThreshold sets th in the state's ot member, or takes it away if th is ""; the member's other parts stay.
func withThreshold(state trace.TraceState, th string) trace.TraceState {
	var parts []string
	if th != "" {
		parts = append(parts, "th:"+th)
	}
	had := state.Get("ot")
	for _, part := range strings.Split(had, ";") {
		if part != "" && !strings.HasPrefix(part, "th:") {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return state.Delete("ot")
	}
	if changed, err := state.Insert("ot", strings.Join(parts, ";")); err == nil {
		return changed
	}
	return state
}

// randomnessOf is the state's explicit randomness (ot=rv:), or the trace id's last 56 bits.
func randomnessOf(traceID trace.TraceID, state trace.TraceState) uint64 {
	for _, part := range strings.Split(state.Get("ot"), ";") {
		if text, is := strings.CutPrefix(part, "rv:"); is && len(text) == 14 {
			if value, err := strconv.ParseUint(text, 16, 64); err == nil {
				return value
			}
		}
	}
	var value uint64
	for _, b := range traceID[9:] {
		value = value<<8 | uint64(b)
	}
	return value
}
