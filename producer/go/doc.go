// Package tracewatch traces Go services into Tracewatch.
//
// Configure sets up OpenTelemetry's SDK; TracingMiddleware traces incoming requests of
// net/http, chi and gorilla routers; Transport traces outgoing ones and carries the context:
//
//	shutdown, err := tracewatch.Configure(ctx, tracewatch.Options{ServiceName: "api-service"})
//	if err != nil { ... }
//	defer shutdown(context.Background())
//
//	tracing := tracewatch.TracingMiddleware{ServiceName: "api-service"}
//	router.Use(tracing.Trace)
//	client := &http.Client{Transport: tracewatch.Transport{}}
//
// Spans go to a Kafka topic as OTLP, every partition's spans of a batch in one record, or to an
// OTLP/HTTP receiver such as Tracewatch's gateway. A service never waits for either.
package tracewatch
