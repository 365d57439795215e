package tracewatch

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

// Transport makes a client span of every outgoing request and carries its context in the headers.
// The span ends when the response's body is read or closed. The zero value uses http.DefaultTransport.
type Transport struct {
	Base http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	method := knownMethod(request.Method)
	if request.Method == "" {
		method = http.MethodGet
	}
	ctx, span := otel.Tracer(instrumentationName).Start(request.Context(), nameOf(method, ""),
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(outgoingAttributes(request, method)...))
	// A RoundTripper must not change the request that it was given.
	request = request.Clone(ctx)
	otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(request.Header))

	response, err := base.RoundTrip(request)
	if err != nil {
		span.RecordError(err)
		span.SetAttributes(semconv.ErrorTypeKey.String(fmt.Sprintf("%T", err)))
		span.SetStatus(codes.Error, valid(err.Error()))
		span.End()
		return response, err
	}
	span.SetAttributes(semconv.HTTPResponseStatusCode(response.StatusCode))
	if response.StatusCode >= 400 {
		span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(response.StatusCode)))
		span.SetStatus(codes.Error, "")
	}
	response.Body = endsSpan(response.Body, span)
	return response, nil
}

// outgoingAttributes describe a request without the credentials that its URL may hold.
func outgoingAttributes(request *http.Request, method string) []attribute.KeyValue {
	url := *request.URL
	url.User = nil
	attributes := []attribute.KeyValue{
		semconv.HTTPRequestMethodKey.String(method),
		semconv.URLFull(valid(url.String())),
		semconv.ServerAddress(valid(url.Hostname())),
	}
	port, err := strconv.Atoi(url.Port())
	if err != nil {
		port = map[string]int{"http": 80, "https": 443}[strings.ToLower(url.Scheme)]
	}
	if port > 0 {
		attributes = append(attributes, semconv.ServerPort(port))
	}
	return attributes
}

func endsSpan(body io.ReadCloser, span trace.Span) io.ReadCloser {
	tracked := &trackedBody{ReadCloser: body, span: span}
	if writer, ok := body.(io.Writer); ok { // 101 Switching Protocols: the body is the connection
		return struct {
			*trackedBody
			io.Writer
		}{tracked, writer}
	}
	return tracked
}

type trackedBody struct {
	io.ReadCloser
	span trace.Span
}

func (b *trackedBody) Read(buffer []byte) (int, error) {
	n, err := b.ReadCloser.Read(buffer)
	switch {
	case err == io.EOF:
		b.span.End()
	case err != nil:
		b.span.RecordError(err)
		b.span.SetStatus(codes.Error, valid(err.Error()))
	}
	return n, err
}

func (b *trackedBody) Close() error {
	defer b.span.End()
	return b.ReadCloser.Close()
}
