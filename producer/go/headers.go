package tracewatch

import (
	"encoding/hex"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// Trace context as it stands in headers: parsing and writing, nothing else. tests/vectors/headers.json holds
// the laws of this file for every language.
//
// Sources: W3C Trace Context level 2, OpenZipkin b3-propagation, and the X-Trace-ID / X-Span-ID pair of the
// users' guide.

const (
	maxTracestateMembers = 32
	// The specification asks for at least 512; servers bound headers at 8 to 16 KiB anyway.
	maxTracestateLength = 8192
)

// parent is the caller's span. A zero span id: the trace is named, the span is not.
type parent struct {
	traceID trace.TraceID
	spanID  trace.SpanID
	flags   trace.TraceFlags
}

// parseTraceparent reads the one traceparent header. Versions above 00 may carry more after a dash.
func parseTraceparent(value string) (parent, bool) {
	parts := strings.SplitN(strings.Trim(value, " \t"), "-", 5)
	if len(parts) < 4 || len(parts[0]) != 2 || parts[0] == "ff" || parts[0] == "00" && len(parts) > 4 {
		return parent{}, false
	}
	var version, flags [1]byte
	var found parent
	ok := lowerHex(version[:], parts[0]) && lowerHex(found.traceID[:], parts[1]) &&
		lowerHex(found.spanID[:], parts[2]) && lowerHex(flags[:], parts[3])
	found.flags = trace.TraceFlags(flags[0])
	return found, ok && found.traceID.IsValid() && found.spanID.IsValid()
}

// parseTracestate reads all tracestate headers, in order, as one list; "" if a member is invalid or a limit is passed.
func parseTracestate(values []string) string {
	var members []string
	seen := map[string]bool{}
	length := 0
	for _, value := range values {
		length += len(value)
		for _, member := range strings.Split(value, ",") {
			member = strings.Trim(member, " \t")
			if member == "" {
				continue
			}
			key, text, _ := strings.Cut(member, "=")
			if !validTracestateKey(key) || !validTracestateValue(text) {
				return ""
			}
			// Of a key that stands twice the first is kept: the rest of the list is inherited.
			if !seen[key] {
				seen[key] = true
				members = append(members, member)
			}
		}
	}
	if length > maxTracestateLength || len(members) > maxTracestateMembers {
		return ""
	}
	return strings.Join(members, ",")
}

// parseB3Single reads `b3: {trace id}-{span id}[-{sampling}[-{parent span id}]]`; a deferred decision counts as sampled.
func parseB3Single(value string) (parent, bool) {
	parts := strings.Split(strings.ToLower(strings.Trim(value, " \t")), "-")
	if len(parts) < 2 || len(parts) > 4 {
		return parent{}, false
	}
	var ignored [8]byte
	if len(parts) == 4 && !lowerHex(ignored[:], parts[3]) {
		return parent{}, false
	}
	flags := trace.FlagsSampled
	if len(parts) > 2 {
		decision, known := b3Decision(parts[2])
		if !known {
			return parent{}, false
		}
		flags = decision
	}
	return b3Parent(parts[0], parts[1], flags)
}

// parseB3Multiple reads X-B3-TraceId, -SpanId, -Sampled (absent: sampled) and -Flags (1, debug: sampled).
func parseB3Multiple(traceID, spanID, sampled, flags string) (parent, bool) {
	decision := trace.FlagsSampled
	if flags != "1" && sampled != "" {
		if told, known := b3Decision(strings.ToLower(strings.Trim(sampled, " \t"))); known {
			decision = told
		}
	}
	return b3Parent(strings.ToLower(strings.Trim(traceID, " \t")), strings.ToLower(strings.Trim(spanID, " \t")), decision)
}

// parseXIDs reads X-Trace-ID and X-Span-ID: hex of 16 or 32 digits, or UUIDs, in any case; always sampled.
// A span id of 32 digits keeps its last 16. Without a valid span id the trace is joined with no parent span.
func parseXIDs(traceID, spanID string) (parent, bool) {
	found := parent{flags: trace.FlagsSampled}
	text := unhyphened(traceID)
	if len(text) == 16 {
		text = strings.Repeat("0", 16) + text
	}
	if !lowerHex(found.traceID[:], text) || !found.traceID.IsValid() {
		return parent{}, false
	}
	var span [16]byte
	switch text = unhyphened(spanID); len(text) {
	case 16:
		_ = lowerHex(found.spanID[:], text) && found.spanID.IsValid()
	case 32:
		if lowerHex(span[:], text) {
			copy(found.spanID[:], span[8:])
		}
	}
	return found, true
}

func b3Decision(text string) (trace.TraceFlags, bool) {
	switch text {
	case "1", "d", "true":
		return trace.FlagsSampled, true
	case "0", "false":
		return 0, true
	}
	return 0, false
}

func b3Parent(traceID, spanID string, flags trace.TraceFlags) (parent, bool) {
	if len(traceID) == 16 {
		traceID = strings.Repeat("0", 16) + traceID
	}
	found := parent{flags: flags}
	ok := lowerHex(found.traceID[:], traceID) && lowerHex(found.spanID[:], spanID)
	return found, ok && found.traceID.IsValid() && found.spanID.IsValid()
}

// lowerHex fills all of dst from text, which must be its lowercase hex; dst is zero where it is not.
func lowerHex(dst []byte, text string) bool {
	valid := len(text) == hex.EncodedLen(len(dst)) && text == strings.ToLower(text)
	if valid {
		_, err := hex.Decode(dst, []byte(text))
		valid = err == nil
	}
	if !valid {
		clear(dst)
	}
	return valid
}

func unhyphened(text string) string {
	text = strings.ToLower(strings.Trim(text, " \t"))
	if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		return strings.ReplaceAll(text, "-", "")
	}
	return text
}

// validTracestateKey knows level 2's keys: a digit may come first, @ may stand anywhere after.
func validTracestateKey(key string) bool {
	for i := range len(key) {
		c := key[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alphanumeric && (i == 0 || !strings.ContainsRune("_-*/@", rune(c))) {
			return false
		}
	}
	return len(key) >= 1 && len(key) <= 256
}

func validTracestateValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == ',' || c == '=' {
			return false
		}
	}
	return len(value) >= 1 && len(value) <= 256 && value[len(value)-1] != ' '
}
