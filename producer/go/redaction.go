package tracewatch

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// Mask stands in place of what must not leave the service in the clear.
const Mask = "[redacted]"

const (
	shortestCard = 14
	longestCard  = 19
	smallestCard = 10_000_000_000_000
)

// secretKeys are ends of keys, after their last dot: http.request.header.cookie. Case and _ for - do not matter.
var secretKeys = []string{
	"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "password", "passwd",
	"secret", "client-secret", "access-token", "refresh-token",
}

// redaction masks values of secret keys, and secrets inside other values: the headers that log a person in, card
// numbers (Luhn-checked), and what TRACEWATCH_REDACT_* adds. tests/vectors/redaction.json keeps it in step with the
// Python instrumentation and the sink.
type redaction struct {
	keys     map[string]bool
	patterns []*regexp.Regexp
	cards    bool
}

func redactionFromEnvironment() (*redaction, error) {
	r := &redaction{keys: map[string]bool{}}
	switch text := strings.ToLower(orDefault("TRACEWATCH_REDACT_DEFAULTS", "true")); text {
	case "true":
		r.cards = true
	case "false":
	default:
		return nil, &InvalidSettingError{"TRACEWATCH_REDACT_DEFAULTS", fmt.Sprintf("%q is not true or false", text)}
	}
	named := strings.Split(os.Getenv("TRACEWATCH_REDACT_KEYS"), ",")
	if r.cards {
		named = append(named, secretKeys...)
	}
	for _, key := range named {
		if key = normalKey(key); key != "" {
			r.keys[key] = true
		}
	}
	var patterns []string
	if err := json.Unmarshal([]byte(orDefault("TRACEWATCH_REDACT_PATTERNS", "[]")), &patterns); err != nil {
		return nil, &InvalidSettingError{"TRACEWATCH_REDACT_PATTERNS", "not a JSON list of regular expressions: " + err.Error()}
	}
	for _, pattern := range patterns {
		compiled, err := regexp.Compile(pattern)
		if err != nil {
			return nil, &InvalidSettingError{"TRACEWATCH_REDACT_PATTERNS", err.Error()}
		}
		r.patterns = append(r.patterns, compiled)
	}
	return r, nil
}

// isSecret tells if every value of key is to be masked. A configured key with a dot means the whole key.
func (r *redaction) isSecret(key string) bool {
	normal := normalKey(key)
	return r.keys[normal] || r.keys[normal[strings.LastIndexByte(normal, '.')+1:]]
}

// text returns text with the secrets in it masked.
func (r *redaction) text(text string) string {
	if r.cards && len(text) >= shortestCard {
		text = withoutCards(text)
	}
	for _, pattern := range r.patterns {
		text = pattern.ReplaceAllLiteralString(text, Mask)
	}
	return text
}

// maskAll masks spans in place: attributes, events, links, names, status messages, resources and scopes.
func (r *redaction) maskAll(batch []*tracepb.ResourceSpans) {
	for _, resourceSpans := range batch {
		r.maskPairs(resourceSpans.GetResource().GetAttributes())
		for _, scopeSpans := range resourceSpans.ScopeSpans {
			r.maskPairs(scopeSpans.GetScope().GetAttributes())
			for _, span := range scopeSpans.Spans {
				r.maskSpan(span)
			}
		}
	}
}

func (r *redaction) maskSpan(span *tracepb.Span) {
	span.Name = r.text(span.Name)
	if span.Status != nil {
		span.Status.Message = r.text(span.Status.Message)
	}
	r.maskPairs(span.Attributes)
	for _, event := range span.Events {
		event.Name = r.text(event.Name)
		r.maskPairs(event.Attributes)
	}
	for _, link := range span.Links {
		r.maskPairs(link.Attributes)
	}
}

func (r *redaction) maskPairs(pairs []*commonpb.KeyValue) {
	for _, pair := range pairs {
		if r.isSecret(pair.Key) {
			pair.Value = masked()
		} else {
			r.maskValue(pair.Value)
		}
	}
}

func (r *redaction) maskValue(value *commonpb.AnyValue) {
	switch kind := value.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		kind.StringValue = r.text(kind.StringValue)
	case *commonpb.AnyValue_IntValue:
		if r.cards && kind.IntValue >= smallestCard && isCard(strconv.FormatInt(kind.IntValue, 10)) {
			value.Value = masked().Value
		}
	case *commonpb.AnyValue_ArrayValue:
		for _, item := range kind.ArrayValue.GetValues() {
			r.maskValue(item)
		}
	case *commonpb.AnyValue_KvlistValue:
		r.maskPairs(kind.KvlistValue.GetValues())
	}
}

// maskingClient masks what its client is to send. It may write into a batch: the exporter makes each anew.
type maskingClient struct {
	otlptrace.Client
	redaction *redaction
}

func (c maskingClient) UploadTraces(ctx context.Context, batch []*tracepb.ResourceSpans) error {
	c.redaction.maskAll(batch)
	return c.Client.UploadTraces(ctx, batch)
}

func masked() *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: Mask}}
}

func normalKey(key string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimSpace(key)), "_", "-")
}

// withoutCards masks runs of digits, perhaps in groups, that are card numbers and no part of a longer number, a
// decimal or an id in hex. Go's regular expressions cannot look around, so the runs are found by hand.
func withoutCards(text string) string {
	var written strings.Builder
	kept := 0
	for start := 0; start < len(text); {
		if !isDigit(text[start]) {
			start++
			continue
		}
		digits, end := runOfDigits(text, start)
		if standsAlone(text, start, end) && isCard(digits) {
			written.WriteString(text[kept:start])
			written.WriteString(Mask)
			kept = end
		}
		start = end
	}
	if kept == 0 {
		return text
	}
	written.WriteString(text[kept:])
	return written.String()
}

// runOfDigits reads digits with at most one blank or hyphen between two of them; past longestCard, the digits are cut.
func runOfDigits(text string, start int) (digits string, end int) {
	var found [longestCard + 1]byte
	n := 0
	for at := start; at < len(text); at++ {
		if isDigit(text[at]) {
			if n < len(found) {
				found[n] = text[at]
				n++
			}
			end = at + 1
		} else if at != end || (text[at] != ' ' && text[at] != '-') {
			break
		}
	}
	return string(found[:n]), end
}

// standsAlone tells if a run of digits is no part of a word, an id or a decimal.
func standsAlone(text string, start, end int) bool {
	if start > 0 && (isAlphanumeric(text[start-1]) || text[start-1] == '.') {
		return false
	}
	if end == len(text) {
		return true
	}
	return !isAlphanumeric(text[end]) && !(text[end] == '.' && end+1 < len(text) && isDigit(text[end+1]))
}

// isCard tells if a number may be a payment card's: its length, its first digits, its check digit (Luhn).
func isCard(digits string) bool {
	if len(digits) < shortestCard || len(digits) > longestCard || !isBrand(digits[0], digits[1]) {
		return false
	}
	sum := 0
	for place := range len(digits) {
		digit := int(digits[len(digits)-1-place] - '0')
		if place%2 == 1 {
			if digit *= 2; digit > 9 {
				digit -= 9
			}
		}
		sum += digit
	}
	return sum%10 == 0
}

// isBrand knows the first digits of Mastercard, Diners, American Express, JCB, Visa, Discover and Maestro.
func isBrand(first, second byte) bool {
	switch first {
	case '2':
		return second >= '2' && second <= '7'
	case '3':
		return second == '0' || second >= '4'
	case '5':
		return second <= '8'
	default:
		return first == '4' || first == '6'
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isAlphanumeric(c byte) bool { return isDigit(c) || (c|0x20 >= 'a' && c|0x20 <= 'z') }
