package tracewatch

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

type redactedAttribute struct {
	Key    string          `json:"key"`
	Value  json.RawMessage `json:"value"`
	Masked json.RawMessage `json:"masked"`
}

func (v redactedAttribute) check(t *testing.T, rules *redaction) {
	t.Helper()
	pair := &commonpb.KeyValue{Key: v.Key, Value: anyValueOf(t, v.Value)}
	rules.maskPairs([]*commonpb.KeyValue{pair})
	if want := anyValueOf(t, v.Masked); !proto.Equal(pair.Value, want) {
		t.Errorf("%s = %s: became %v, want %v", v.Key, v.Value, pair.Value, want)
	}
}

// anyValueOf makes OTLP's value of a JSON value.
func anyValueOf(t *testing.T, document json.RawMessage) *commonpb.AnyValue {
	t.Helper()
	var value any
	decoder := json.NewDecoder(strings.NewReader(string(document)))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		t.Fatal(err)
	}
	var of func(any) *commonpb.AnyValue
	of = func(value any) *commonpb.AnyValue {
		switch v := value.(type) {
		case string:
			return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: v}}
		case bool:
			return &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: v}}
		case json.Number:
			if whole, err := v.Int64(); err == nil {
				return &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: whole}}
			}
			number, err := v.Float64()
			if err != nil {
				t.Fatal(err)
			}
			return &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: number}}
		case []any:
			list := &commonpb.ArrayValue{}
			for _, item := range v {
				list.Values = append(list.Values, of(item))
			}
			return &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: list}}
		case map[string]any:
			pairs := &commonpb.KeyValueList{}
			for _, key := range slices.Sorted(maps.Keys(v)) {
				pairs.Values = append(pairs.Values, &commonpb.KeyValue{Key: key, Value: of(v[key])})
			}
			return &commonpb.AnyValue{Value: &commonpb.AnyValue_KvlistValue{KvlistValue: pairs}}
		default:
			t.Fatalf("no value for %v", value)
			return nil
		}
	}
	return of(value)
}

func rulesOf(t *testing.T) *redaction {
	t.Helper()
	rules, err := redactionFromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestValuesAreMaskedAsEveryLanguageMasksThem(t *testing.T) {
	var file struct {
		Mask       string              `json:"mask"`
		Attributes []redactedAttribute `json:"attributes"`
		Texts      []struct {
			Text   string `json:"text"`
			Masked string `json:"masked"`
		} `json:"texts"`
		Configured struct {
			Keys       string              `json:"keys"`
			Patterns   json.RawMessage     `json:"patterns"`
			Attributes []redactedAttribute `json:"attributes"`
		} `json:"configured"`
		WithoutDefaults struct {
			Keys       string              `json:"keys"`
			Attributes []redactedAttribute `json:"attributes"`
		} `json:"without_defaults"`
	}
	vectors(t, "redaction.json", &file)
	if len(file.Attributes) == 0 || len(file.Texts) == 0 || len(file.Configured.Attributes) == 0 ||
		len(file.WithoutDefaults.Attributes) == 0 {
		t.Fatal("no vectors")
	}
	if file.Mask != Mask {
		t.Errorf("the mask is %q, want %q", Mask, file.Mask)
	}
	rules := rulesOf(t)
	for _, vector := range file.Attributes {
		vector.check(t, rules)
	}
	for _, vector := range file.Texts {
		if got := rules.text(vector.Text); got != vector.Masked {
			t.Errorf("%q became %q, want %q", vector.Text, got, vector.Masked)
		}
	}
	t.Setenv("TRACEWATCH_REDACT_KEYS", file.Configured.Keys)
	t.Setenv("TRACEWATCH_REDACT_PATTERNS", string(file.Configured.Patterns))
	rules = rulesOf(t)
	for _, vector := range file.Configured.Attributes {
		vector.check(t, rules)
	}
	t.Setenv("TRACEWATCH_REDACT_KEYS", file.WithoutDefaults.Keys)
	t.Setenv("TRACEWATCH_REDACT_PATTERNS", "")
	t.Setenv("TRACEWATCH_REDACT_DEFAULTS", "false")
	rules = rulesOf(t)
	for _, vector := range file.WithoutDefaults.Attributes {
		vector.check(t, rules)
	}
}

func TestAWrongRedactionSettingIsNamed(t *testing.T) {
	for _, wrong := range [][2]string{
		{"TRACEWATCH_REDACT_PATTERNS", "["},
		{"TRACEWATCH_REDACT_PATTERNS", `["("]`},
		{"TRACEWATCH_REDACT_PATTERNS", `["(?=a)"]`}, // Go's expressions cannot look ahead
		{"TRACEWATCH_REDACT_PATTERNS", `{"a": 1}`},
		{"TRACEWATCH_REDACT_DEFAULTS", "yes please"},
	} {
		t.Run(wrong[1], func(t *testing.T) {
			t.Setenv(wrong[0], wrong[1])
			var invalid *InvalidSettingError
			_, err := newProvider(context.Background(), Options{OTLPEndpoint: "http://localhost:4318"}, &Counters{})
			if !errors.As(err, &invalid) || invalid.Variable != wrong[0] {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestNoByteThatLeavesTheServiceHoldsASecret(t *testing.T) {
	const card = "4111111111111111"
	var sent []byte
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sent = append(sent, body...)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer receiver.Close()
	provider, err := newProvider(context.Background(), Options{
		ServiceName: "api-service", OTLPEndpoint: receiver.URL, Attributes: map[string]string{"db.password": "hunter2"},
	}, &Counters{})
	if err != nil {
		t.Fatal(err)
	}
	tracer := provider.Tracer("test", trace.WithInstrumentationAttributes(attribute.String("api_key", "hunter2")))
	_, other := tracer.Start(context.Background(), "other")
	_, span := tracer.Start(context.Background(), "GET /pay/"+card, trace.WithLinks(trace.Link{
		SpanContext: other.SpanContext(), Attributes: []attribute.KeyValue{attribute.String("cookie", "s3ss10n")},
	}))
	span.SetAttributes(
		attribute.String("http.route", "/pay"),
		attribute.StringSlice("http.request.header.cookie", []string{"s3ss10n"}),
		attribute.String("http.request.header.authorization", "Bearer b34r3r"),
		attribute.StringSlice("cards", []string{card, "none"}),
		attribute.Int64("card", 4111111111111111),
	)
	span.AddEvent("tried "+card, trace.WithAttributes(attribute.String("password", "hunter2")))
	span.RecordError(errors.New("no " + card))
	span.SetStatus(codes.Error, "declined "+card)
	span.End()
	if err := provider.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{card, card[:12], "s3ss10n", "b34r3r", "hunter2"} {
		if strings.Contains(string(sent), secret) {
			t.Errorf("%s was sent", secret)
		}
	}
	var request coltracepb.ExportTraceServiceRequest
	if err := proto.Unmarshal(sent, &request); err != nil {
		t.Fatal(err)
	}
	got := request.ResourceSpans[0].ScopeSpans[0].Spans[0]
	values := map[string]*commonpb.AnyValue{}
	for _, pair := range got.Attributes {
		values[pair.Key] = pair.Value
	}
	if got.Name != "GET /pay/[redacted]" || got.Status.Message != "declined [redacted]" {
		t.Errorf("%s: %s", got.Name, got.Status.Message)
	}
	if values["http.route"].GetStringValue() != "/pay" || values["card"].GetStringValue() != Mask ||
		values["cards"].GetArrayValue().Values[1].GetStringValue() != "none" {
		t.Errorf("attributes %v", values)
	}
}

func FuzzNoCardNumberIsLeftAlone(f *testing.F) {
	f.Add("paid with", ", thanks")
	f.Add("", "")
	f.Add("1", "2.5")
	f.Add("ü4111 ", " -\x80")
	rules := &redaction{cards: true}
	f.Fuzz(func(t *testing.T, before, after string) {
		got := rules.text(before + "\n4111 1111 1111 1111\n" + after)
		if !strings.Contains(got, "\n"+Mask+"\n") {
			t.Errorf("%q", got)
		}
		if again := rules.text(got); again != got {
			t.Errorf("%q became %q", got, again)
		}
	})
}

func BenchmarkMaskingASpanWithNothingToMask(b *testing.B) {
	rules := &redaction{keys: map[string]bool{"cookie": true}, cards: true}
	text := func(value string) *commonpb.AnyValue {
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}
	}
	pairs := []*commonpb.KeyValue{
		{Key: "http.request.method", Value: text("GET")},
		{Key: "http.route", Value: text("/quotes/{symbol}")},
		{Key: "url.path", Value: text("/quotes/GOOG")},
		{Key: "user_agent.original", Value: text("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101")},
		{Key: "http.response.status_code", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: 200}}},
		{Key: "n", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: math.MaxInt64}}},
	}
	for b.Loop() {
		rules.maskPairs(pairs)
	}
}
