package tracewatch

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// vectors reads one of the files that every language's producer asserts.
func vectors(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "tests", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatal(err)
	}
}

func TestPartitionsAreKafkas(t *testing.T) {
	var file struct {
		Vectors []struct {
			TraceID    string `json:"trace_id"`
			Murmur2    uint32 `json:"murmur2"`
			Partitions []int  `json:"partitions"`
		} `json:"vectors"`
	}
	vectors(t, "partitions.json", &file)
	if len(file.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	for _, vector := range file.Vectors {
		if got := murmur2([]byte(vector.TraceID)); got != vector.Murmur2 {
			t.Errorf("murmur2 of %s is %d, want %d", vector.TraceID, got, vector.Murmur2)
		}
		traceID, err := hex.DecodeString(vector.TraceID)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range vector.Partitions {
			if got := partitionOf(traceID, i+1); got != want {
				t.Errorf("%s of %d partitions: %d, want %d", vector.TraceID, i+1, got, want)
			}
		}
	}
}

// vectorParent is a caller's span as the vectors write it; nil for none.
type vectorParent struct {
	TraceID string `json:"trace_id"`
	SpanID  string `json:"span_id"`
	Flags   int    `json:"flags"`
}

func (v *vectorParent) check(t *testing.T, what any, got parent, ok bool) {
	t.Helper()
	if ok != (v != nil) {
		t.Errorf("%v: read %v, want %v", what, ok, v != nil)
	} else if ok && (got.traceID.String() != v.TraceID || got.spanID.String() != v.SpanID || int(got.flags) != v.Flags) {
		t.Errorf("%v: %+v, want %+v", what, got, *v)
	}
}

func TestHeadersAreReadAsEveryLanguageReadsThem(t *testing.T) {
	type header struct {
		Header string        `json:"header"`
		Parent *vectorParent `json:"parent"`
	}
	var file struct {
		Traceparent []header `json:"traceparent"`
		Tracestate  []struct {
			Headers []string    `json:"headers"`
			Members [][2]string `json:"members"`
		} `json:"tracestate"`
		B3         []header `json:"b3"`
		B3Multiple []struct {
			TraceID string        `json:"trace_id"`
			SpanID  string        `json:"span_id"`
			Sampled *string       `json:"sampled"`
			Flags   *string       `json:"flags"`
			Parent  *vectorParent `json:"parent"`
		} `json:"b3_multiple"`
		XIDs []struct {
			TraceID string        `json:"trace_id"`
			SpanID  *string       `json:"span_id"`
			Parent  *vectorParent `json:"parent"`
		} `json:"x_ids"`
		Request []struct {
			Headers [][2]string   `json:"headers"`
			Parent  *vectorParent `json:"parent"`
		} `json:"request"`
	}
	vectors(t, "headers.json", &file)
	text := func(value *string) string {
		if value == nil {
			return ""
		}
		return *value
	}
	for _, vector := range file.Traceparent {
		got, ok := parseTraceparent(vector.Header)
		vector.Parent.check(t, vector.Header, got, ok)
	}
	for _, vector := range file.Tracestate {
		var members []string
		for _, member := range vector.Members {
			members = append(members, member[0]+"="+member[1])
		}
		if got, want := parseTracestate(vector.Headers), strings.Join(members, ","); got != want {
			t.Errorf("tracestate %q: %q, want %q", vector.Headers, got, want)
		}
	}
	for _, vector := range file.B3 {
		got, ok := parseB3Single(vector.Header)
		vector.Parent.check(t, vector.Header, got, ok)
	}
	for _, vector := range file.B3Multiple {
		got, ok := parseB3Multiple(vector.TraceID, vector.SpanID, text(vector.Sampled), text(vector.Flags))
		vector.Parent.check(t, vector, got, ok)
	}
	for _, vector := range file.XIDs {
		got, ok := parseXIDs(vector.TraceID, text(vector.SpanID))
		vector.Parent.check(t, vector, got, ok)
	}
	for _, vector := range file.Request {
		headers := http.Header{}
		for _, header := range vector.Headers {
			headers.Add(header[0], header[1])
		}
		got, _, ok := callerOf(propagation.HeaderCarrier(headers))
		vector.Parent.check(t, vector.Headers, got, ok)
	}
}

// captured is an otlptrace.Client that keeps what it is to send.
type captured struct{ batch []*tracepb.ResourceSpans }

func (c *captured) Start(context.Context) error { return nil }
func (c *captured) Stop(context.Context) error  { return nil }
func (c *captured) UploadTraces(_ context.Context, batch []*tracepb.ResourceSpans) error {
	c.batch = batch
	return nil
}

func TestSpansAreWrittenAsEveryLanguageWritesThem(t *testing.T) {
	var file struct {
		Spans []struct {
			Span    string          `json:"span"`
			Request json.RawMessage `json:"request"`
		} `json:"spans"`
	}
	vectors(t, "spans.json", &file)
	asserted := 0
	for _, vector := range file.Spans {
		t.Run(vector.Span, func(t *testing.T) {
			var want coltracepb.ExportTraceServiceRequest
			if err := protojson.Unmarshal(idsToBase64(t, vector.Request), &want); err != nil {
				t.Fatal(err)
			}
			span, expressible := spanOf(want.ResourceSpans[0])
			if !expressible {
				t.Skip("OpenTelemetry's Go API has no such attribute values")
			}
			asserted++
			client := &captured{}
			exporter, err := otlptrace.New(context.Background(), client)
			if err != nil {
				t.Fatal(err)
			}
			if err := exporter.ExportSpans(context.Background(), []sdktrace.ReadOnlySpan{span}); err != nil {
				t.Fatal(err)
			}
			records := recordsOf(client.batch, 8, maxRecordBytes)
			if len(records) != 1 {
				t.Fatalf("%d records", len(records))
			}
			got := records[0].request
			// OpenTelemetry's Go exporter leaves out a link's tracestate; nothing in the pipeline reads it.
			for _, link := range want.ResourceSpans[0].ScopeSpans[0].Spans[0].Links {
				link.TraceState = ""
			}
			for _, request := range []*coltracepb.ExportTraceServiceRequest{got, &want} {
				written := request.ResourceSpans[0].ScopeSpans[0].Spans[0]
				if proto.Size(written.Status) == 0 {
					written.Status = nil
				}
			}
			if !proto.Equal(got, &want) {
				t.Errorf("written %v\nwant %v", got, &want)
			}
		})
	}
	if asserted < 8 {
		t.Errorf("only %d vectors could be asserted", asserted)
	}
}

// idsToBase64 turns OTLP's JSON, whose ids are hex, into protobuf's JSON.
func idsToBase64(t *testing.T, document []byte) []byte {
	t.Helper()
	var value any
	decoder := json.NewDecoder(strings.NewReader(string(document)))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		t.Fatal(err)
	}
	var walk func(any)
	walk = func(value any) {
		switch v := value.(type) {
		case map[string]any:
			for key, inner := range v {
				if text, isText := inner.(string); isText && (key == "traceId" || key == "spanId" || key == "parentSpanId") {
					id, err := hex.DecodeString(text)
					if err != nil {
						t.Fatal(err)
					}
					v[key] = base64.StdEncoding.EncodeToString(id)
				}
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(value)
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// spanOf makes the ended span that a vector describes; false if Go's API cannot express its attributes.
func spanOf(resourceSpans *tracepb.ResourceSpans) (sdktrace.ReadOnlySpan, bool) {
	scopeSpans := resourceSpans.ScopeSpans[0]
	span := scopeSpans.Spans[0]
	context := func(traceID, spanID []byte, flags uint32, state string) trace.SpanContext {
		config := trace.SpanContextConfig{TraceFlags: trace.TraceFlags(flags & 0xff), Remote: flags&0x200 != 0}
		copy(config.TraceID[:], traceID)
		copy(config.SpanID[:], spanID)
		config.TraceState, _ = trace.ParseTraceState(state)
		return trace.NewSpanContext(config)
	}
	expressible := true
	attributes := func(pairs []*commonpb.KeyValue) []attribute.KeyValue {
		var out []attribute.KeyValue
		for _, pair := range pairs {
			switch value := pair.Value.GetValue().(type) {
			case *commonpb.AnyValue_StringValue:
				out = append(out, attribute.String(pair.Key, value.StringValue))
			case *commonpb.AnyValue_BoolValue:
				out = append(out, attribute.Bool(pair.Key, value.BoolValue))
			case *commonpb.AnyValue_IntValue:
				out = append(out, attribute.Int64(pair.Key, value.IntValue))
			case *commonpb.AnyValue_DoubleValue:
				out = append(out, attribute.Float64(pair.Key, value.DoubleValue))
			default:
				expressible = false
			}
		}
		return out
	}
	stub := tracetest.SpanStub{
		Name:              span.Name,
		SpanContext:       context(span.TraceId, span.SpanId, span.Flags&0xff, span.TraceState),
		SpanKind:          trace.SpanKind(span.Kind),
		StartTime:         time.Unix(0, int64(span.StartTimeUnixNano)),
		EndTime:           time.Unix(0, int64(span.EndTimeUnixNano)),
		Attributes:        attributes(span.Attributes),
		DroppedAttributes: int(span.DroppedAttributesCount),
		DroppedEvents:     int(span.DroppedEventsCount),
		DroppedLinks:      int(span.DroppedLinksCount),
		Status: sdktrace.Status{
			Code:        map[tracepb.Status_StatusCode]codes.Code{1: codes.Ok, 2: codes.Error}[span.Status.GetCode()],
			Description: span.Status.GetMessage(),
		},
		Resource: resource.NewWithAttributes(resourceSpans.SchemaUrl, attributes(resourceSpans.Resource.Attributes)...),
		InstrumentationScope: instrumentation.Scope{
			Name: scopeSpans.Scope.Name, Version: scopeSpans.Scope.Version, SchemaURL: scopeSpans.SchemaUrl,
			Attributes: attribute.NewSet(attributes(scopeSpans.Scope.Attributes)...),
		},
	}
	if len(span.ParentSpanId) > 0 {
		stub.Parent = context(span.TraceId, span.ParentSpanId, span.Flags, "")
	}
	for _, event := range span.Events {
		stub.Events = append(stub.Events, sdktrace.Event{
			Name: event.Name, Time: time.Unix(0, int64(event.TimeUnixNano)), Attributes: attributes(event.Attributes),
			DroppedAttributeCount: int(event.DroppedAttributesCount),
		})
	}
	for _, link := range span.Links {
		stub.Links = append(stub.Links, sdktrace.Link{
			SpanContext: context(link.TraceId, link.SpanId, link.Flags, link.TraceState),
			Attributes:  attributes(link.Attributes), DroppedAttributeCount: int(link.DroppedAttributesCount),
		})
	}
	return stub.Snapshot(), expressible
}
