package tracewatch

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/felixge/httpsnoop"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

var knownMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	http.MethodConnect, http.MethodOptions, http.MethodTrace,
}

// otherMethod stands for a method that the semantic conventions do not list: a name must not grow without bound.
const otherMethod = "_OTHER"

// TracingMiddleware makes a server span of every request, by OpenTelemetry's semantic conventions for HTTP:
// named after the route, 5xx is an error and 4xx is not, a panic is recorded and raised again.
type TracingMiddleware struct {
	// ServiceName sets OpenTelemetry up under this name if Configure was not called before Trace.
	ServiceName string
	// RouteOf tells the route template of a served request, where the router does not set http.Request.Pattern
	// (net/http and chi do). For gorilla/mux: gorilla.Route of this module.
	RouteOf func(*http.Request) string
	// ExcludedPaths are served untraced: health checks, metrics.
	ExcludedPaths []string
}

// Trace wraps a handler; its form is what net/http, chi and gorilla expect of a middleware.
func (m TracingMiddleware) Trace(next http.Handler) http.Handler {
	if m.ServiceName != "" && !configured() {
		if _, err := Configure(context.Background(), Options{ServiceName: m.ServiceName}); err != nil {
			slog.Error("tracewatch: this service is not traced", "error", err)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(m.ExcludedPaths, r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		m.serve(next, w, r)
	})
}

func (m TracingMiddleware) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	method := knownMethod(r.Method)
	ctx, span := otel.Tracer(instrumentationName).Start(ctx, nameOf(method, ""),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(requestAttributes(r, method)...))
	r = r.WithContext(ctx)

	status := http.StatusOK
	wrote := false
	wrapped := httpsnoop.Wrap(w, httpsnoop.Hooks{
		WriteHeader: func(write httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(code int) {
				// 1xx other than 101 is informational: the real status follows.
				if !wrote && (code >= 200 || code == http.StatusSwitchingProtocols) {
					status, wrote = code, true
				}
				write(code)
			}
		},
		Write: func(write httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(body []byte) (int, error) {
				wrote = true
				return write(body)
			}
		},
	})
	defer func() {
		panicked := recover()
		if route := m.route(r); route != "" {
			span.SetName(nameOf(method, route))
			span.SetAttributes(semconv.HTTPRoute(route))
		}
		if panicked != nil && panicked != http.ErrAbortHandler && !wrote {
			// net/http closes the connection; what the caller sees is a failed request.
			status = http.StatusInternalServerError
		}
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
		switch {
		case panicked != nil && panicked != http.ErrAbortHandler:
			err, isError := panicked.(error)
			if !isError {
				err = fmt.Errorf("%v", panicked)
			}
			span.RecordError(err, trace.WithStackTrace(true))
			span.SetAttributes(semconv.ErrorTypeKey.String(fmt.Sprintf("%T", panicked)))
			span.SetStatus(codes.Error, "panic: "+err.Error())
		case status >= 500:
			span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
			span.SetStatus(codes.Error, "")
		}
		span.End()
		if panicked != nil {
			panic(panicked)
		}
	}()
	next.ServeHTTP(wrapped, r)
}

// route is the matched template without net/http's method and host.
func (m TracingMiddleware) route(r *http.Request) string {
	if m.RouteOf != nil {
		return m.RouteOf(r)
	}
	pattern := r.Pattern
	if slash := strings.IndexByte(pattern, '/'); slash >= 0 {
		return pattern[slash:]
	}
	return ""
}

func requestAttributes(r *http.Request, method string) []attribute.KeyValue {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	attributes := []attribute.KeyValue{
		semconv.HTTPRequestMethodKey.String(method),
		semconv.URLPath(valid(r.URL.Path)),
		semconv.URLScheme(scheme),
		semconv.NetworkProtocolVersion(fmt.Sprintf("%d.%d", r.ProtoMajor, r.ProtoMinor)),
	}
	if method == otherMethod {
		attributes = append(attributes, semconv.HTTPRequestMethodOriginal(valid(r.Method)))
	}
	if r.URL.RawQuery != "" {
		attributes = append(attributes, semconv.URLQuery(valid(r.URL.RawQuery)))
	}
	if agent := r.UserAgent(); agent != "" {
		attributes = append(attributes, semconv.UserAgentOriginal(valid(agent)))
	}
	host, port := splitHost(r.Host)
	if host != "" {
		attributes = append(attributes, semconv.ServerAddress(valid(host)))
	}
	if port > 0 {
		attributes = append(attributes, semconv.ServerPort(port))
	}
	if peer, _ := splitHost(r.RemoteAddr); peer != "" {
		attributes = append(attributes, semconv.ClientAddress(peer))
	}
	return attributes
}

func nameOf(method, route string) string {
	if method == otherMethod {
		method = "HTTP"
	}
	if route == "" {
		return method
	}
	return method + " " + route
}

func knownMethod(method string) string {
	if slices.Contains(knownMethods, method) {
		return method
	}
	return otherMethod
}

// splitHost takes "host", "host:port" and "[v6]:port" apart; port is 0 where none is named.
func splitHost(address string) (string, int) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return strings.Trim(address, "[]"), 0
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return host, 0
	}
	return host, number
}

// valid makes text from a request fit for protobuf, which refuses a whole message for one invalid character.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
