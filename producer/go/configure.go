package tracewatch

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

const instrumentationName = "github.com/tracewatch/tracewatch/producer/go"

// Options say who the service is and where its spans go. The zero value reads everything from the environment.
type Options struct {
	// ServiceName is the resource's service.name; OTEL_SERVICE_NAME if empty.
	ServiceName string
	// Attributes are added to the resource; OTEL_RESOURCE_ATTRIBUTES are read too.
	Attributes map[string]string
	// OTLPEndpoint, such as http://localhost:4318, sends spans there by OTLP/HTTP instead of to Kafka.
	OTLPEndpoint string
	// Sampler decides which traces are recorded: Ratio, RateLimited, PerRoute or OpenTelemetry's own. If nil, as
	// OTEL_TRACES_SAMPLER says, by default every one.
	Sampler sdktrace.Sampler
	// KeepErrors exports the local part of traces that the sampler passed over if their local root ends in an error.
	KeepErrors bool
}

var (
	configuring sync.Mutex
	counters    Counters
	shutdown    func(context.Context) error
)

// Configure sets OpenTelemetry's global tracer provider and propagator, so that everything OpenTelemetry's own
// instrumentation packages emit flows too. A second call changes nothing and returns the first call's shutdown.
//
// shutdown delivers what is queued until its context ends; call it before the process ends. The only errors are
// *InvalidSettingError and OpenTelemetry's own of the resource: a Kafka that is away is none.
func Configure(ctx context.Context, options Options) (func(context.Context) error, error) {
	configuring.Lock()
	defer configuring.Unlock()
	if shutdown != nil {
		return shutdown, nil
	}
	provider, err := newProvider(ctx, options, &counters)
	if err != nil {
		return nil, err
	}
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(Propagator())
	shutdown = func(ctx context.Context) error {
		configuring.Lock()
		defer configuring.Unlock()
		shutdown = nil
		return provider.Shutdown(ctx)
	}
	return shutdown, nil
}

// configured tells if Configure was called.
func configured() bool {
	configuring.Lock()
	defer configuring.Unlock()
	return shutdown != nil
}

// Delivered returns what became of the spans of this process.
func Delivered() *Counters { return &counters }

func newProvider(ctx context.Context, options Options, counters *Counters) (*sdktrace.TracerProvider, error) {
	producer, err := producerFromEnvironment()
	if err != nil {
		return nil, err
	}
	masks, err := redactionFromEnvironment()
	if err != nil {
		return nil, err
	}
	described, err := describe(ctx, options)
	if err != nil {
		return nil, err
	}
	client, delivered, err := newClient(options, producer, counters)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptrace.New(ctx, maskingClient{client, masks})
	if err != nil {
		return nil, err
	}
	next := newProcessor(exporter, delivered, producer, counters)
	spans := sdktrace.SpanProcessor(next)
	sampler, err := samplerOf(options)
	if err != nil {
		return nil, err
	}
	if options.KeepErrors {
		spans, sampler = newKeptErrors(next), errorsToo{sampler}
	}
	return sdktrace.NewTracerProvider(
		sdktrace.WithResource(described), sdktrace.WithIDGenerator(idGenerator{}),
		sdktrace.WithSampler(sampler), sdktrace.WithSpanProcessor(spans)), nil
}

// samplerOf takes OTEL_TRACES_SAMPLER's ratio samplers in their consistent form, so that counts can be weighted.
func samplerOf(options Options) (sdktrace.Sampler, error) {
	if options.Sampler != nil {
		return options.Sampler, nil
	}
	name, err := choice("OTEL_TRACES_SAMPLER", "parentbased_always_on", "parentbased_always_off",
		"parentbased_traceidratio", "always_on", "always_off", "traceidratio")
	if err != nil {
		return nil, err
	}
	root := ratioOf(1)
	if strings.HasSuffix(name, "traceidratio") {
		text := orDefault("OTEL_TRACES_SAMPLER_ARG", "1")
		ratio, err := strconv.ParseFloat(text, 64)
		if err != nil || !(ratio >= 0 && ratio <= 1) {
			return nil, &InvalidSettingError{"OTEL_TRACES_SAMPLER_ARG", text + " is not a number from 0 to 1"}
		}
		root = ratioOf(ratio)
	}
	switch name {
	case "traceidratio":
		return root, nil
	case "parentbased_traceidratio":
		return sdktrace.ParentBased(root), nil
	case "always_on":
		return sdktrace.AlwaysSample(), nil
	case "always_off":
		return sdktrace.NeverSample(), nil
	case "parentbased_always_off":
		return sdktrace.ParentBased(sdktrace.NeverSample()), nil
	default:
		return sdktrace.ParentBased(sdktrace.AlwaysSample()), nil
	}
}

func describe(ctx context.Context, options Options) (*resource.Resource, error) {
	var attributes []attribute.KeyValue
	if options.ServiceName != "" {
		attributes = append(attributes, semconv.ServiceName(options.ServiceName))
	}
	for key, value := range options.Attributes {
		attributes = append(attributes, attribute.String(key, value))
	}
	described, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(), resource.WithFromEnv(),
		resource.WithAttributes(attributes...))
	if err != nil && !errors.Is(err, resource.ErrPartialResource) && !errors.Is(err, resource.ErrSchemaURLConflict) {
		return nil, &InvalidSettingError{"OTEL_RESOURCE_ATTRIBUTES", err.Error()}
	}
	return resource.Merge(resource.Default(), described)
}

func newClient(
	options Options, producer producerSettings, counters *Counters,
) (otlptrace.Client, func(context.Context) error, error) {
	if options.OTLPEndpoint != "" || os.Getenv("OTEL_TRACES_EXPORTER") == "otlp" {
		var httpOptions []otlptracehttp.Option
		if options.OTLPEndpoint != "" {
			httpOptions = append(httpOptions, otlptracehttp.WithEndpointURL(options.OTLPEndpoint+"/v1/traces"))
		}
		return countingClient{otlptracehttp.NewClient(httpOptions...), counters}, nil, nil
	}
	settings, err := kafkaFromEnvironment()
	if err != nil {
		return nil, nil, err
	}
	client, err := newKafkaClient(settings, producer, counters)
	if err != nil {
		return nil, nil, err
	}
	return client, client.flush, nil
}

// countingClient counts what an OTLP/HTTP receiver took.
type countingClient struct {
	otlptrace.Client
	counters *Counters
}

func (c countingClient) UploadTraces(ctx context.Context, batch []*tracepb.ResourceSpans) error {
	err := c.Client.UploadTraces(ctx, batch)
	if err != nil {
		c.counters.Dropped.Add(spanCount(batch))
	} else {
		c.counters.Exported.Add(spanCount(batch))
	}
	return err
}
