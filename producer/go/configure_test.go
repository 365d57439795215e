package tracewatch

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

func TestSpansGoToAnOTLPReceiverByOneOption(t *testing.T) {
	var spans atomic.Int64
	var service atomic.Value
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/traces" {
			t.Errorf("path %s", r.URL.Path)
		}
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(r.Body)
		}
		content, _ := io.ReadAll(body)
		var request coltracepb.ExportTraceServiceRequest
		if err := proto.Unmarshal(content, &request); err != nil {
			t.Error(err)
		}
		for _, resource := range request.ResourceSpans {
			for _, attribute := range resource.Resource.Attributes {
				if attribute.Key == "service.name" {
					service.Store(attribute.Value.GetStringValue())
				}
			}
			for _, scope := range resource.ScopeSpans {
				spans.Add(int64(len(scope.Spans)))
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer receiver.Close()
	counters := &Counters{}
	provider, err := newProvider(context.Background(),
		Options{ServiceName: "api-service", OTLPEndpoint: receiver.URL}, counters)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		_, span := provider.Tracer("test").Start(context.Background(), "root")
		span.End()
	}
	if err := provider.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if spans.Load() != 100 || counters.Exported.Load() != 100 || service.Load() != "api-service" {
		t.Errorf("%d spans received of %v, %d counted", spans.Load(), service.Load(), counters.Exported.Load())
	}
}

func TestASecondConfigureChangesNothing(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	first, err := Configure(context.Background(), Options{ServiceName: "one", OTLPEndpoint: receiver.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first(context.Background()) }()
	provider := otel.GetTracerProvider()
	if _, err := Configure(context.Background(), Options{ServiceName: "two", OTLPEndpoint: receiver.URL}); err != nil {
		t.Fatal(err)
	}
	if otel.GetTracerProvider() != provider {
		t.Error("the tracer provider was replaced")
	}
}

func TestAnEnvironmentsSamplerIsConsistentAndItsBadValueIsNamed(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
	t.Setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
	sampler, err := samplerOf(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, state := sampledOf(sampler, 100); state != "ot=th:8" {
		t.Errorf("tracestate %q", state)
	}
	t.Setenv("OTEL_TRACES_SAMPLER_ARG", "half")
	if _, err := samplerOf(Options{}); err == nil || err.(*InvalidSettingError).Variable != "OTEL_TRACES_SAMPLER_ARG" {
		t.Errorf("error %v", err)
	}
}
