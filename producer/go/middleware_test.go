package tracewatch

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/gorilla/mux"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/tracewatch/tracewatch/producer/go/gorilla"
)

func served(t *testing.T, handler http.Handler, request *http.Request) (*httptest.ResponseRecorder, sdktrace.ReadOnlySpan) {
	t.Helper()
	spans := recorded(t)
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, request)
	ended := spans.Ended()
	if len(ended) != 1 {
		t.Fatalf("%d spans, want 1", len(ended))
	}
	return response, ended[0]
}

func answering(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func TestTheRouteTemplateNamesTheSpanInEveryRouter(t *testing.T) {
	mux122 := http.NewServeMux()
	mux122.HandleFunc("GET /quotes/{symbol}", answering(200))
	chiRouter := chi.NewRouter()
	chiRouter.Use(TracingMiddleware{}.Trace)
	chiRouter.Get("/quotes/{symbol}", answering(200))
	gorillaRouter := mux.NewRouter()
	gorillaRouter.Use(TracingMiddleware{RouteOf: gorilla.Route}.Trace)
	gorillaRouter.HandleFunc("/quotes/{symbol}", answering(200))
	for name, handler := range map[string]http.Handler{
		"net/http": TracingMiddleware{}.Trace(mux122), "chi": chiRouter, "gorilla": gorillaRouter,
	} {
		t.Run(name, func(t *testing.T) {
			_, span := served(t, handler, httptest.NewRequest("GET", "/quotes/AAPL?day=1", nil))
			if span.Name() != "GET /quotes/{symbol}" || span.SpanKind() != trace.SpanKindServer {
				t.Errorf("span %q of kind %v", span.Name(), span.SpanKind())
			}
			attributes := attributesOf(span)
			for key, want := range map[string]string{
				"http.request.method": "GET", "http.route": "/quotes/{symbol}", "url.path": "/quotes/AAPL",
				"url.query": "day=1", "url.scheme": "http", "server.address": "example.com",
			} {
				if got := attributes[key].AsString(); got != want {
					t.Errorf("%s = %q, want %q", key, got, want)
				}
			}
			if got := attributes["http.response.status_code"].AsInt64(); got != 200 {
				t.Errorf("status %d", got)
			}
		})
	}
}

func TestOnlyServerErrorsAreErrors(t *testing.T) {
	for status, want := range map[int]codes.Code{200: codes.Unset, 302: codes.Unset, 404: codes.Unset, 500: codes.Error, 503: codes.Error} {
		_, span := served(t, TracingMiddleware{}.Trace(answering(status)), httptest.NewRequest("GET", "/", nil))
		if span.Status().Code != want {
			t.Errorf("status %d: %v, want %v", status, span.Status().Code, want)
		}
		if _, has := attributesOf(span)["error.type"]; has != (want == codes.Error) {
			t.Errorf("status %d: error.type set: %v", status, has)
		}
	}
}

func TestAPanicIsRecordedAndRaisedAgain(t *testing.T) {
	spans := recorded(t)
	handler := TracingMiddleware{}.Trace(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("no quote") }))
	func() {
		defer func() {
			if raised := recover(); raised != "no quote" {
				t.Errorf("raised %v", raised)
			}
		}()
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}()
	span := spans.Ended()[0]
	if span.Status().Code != codes.Error || !strings.Contains(span.Status().Description, "no quote") {
		t.Errorf("status %v", span.Status())
	}
	if events := span.Events(); len(events) != 1 || events[0].Name != "exception" {
		t.Errorf("events %v", events)
	}
	if got := attributesOf(span)["http.response.status_code"].AsInt64(); got != 500 {
		t.Errorf("status %d", got)
	}
}

func TestFlusherAndHijackerAreKept(t *testing.T) {
	spans := recorded(t)
	server := httptest.NewServer(TracingMiddleware{}.Trace(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			_, _ = io.WriteString(w, "one\n")
			w.(http.Flusher).Flush()
			return
		}
		connection, buffer, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer connection.Close()
		_, _ = buffer.WriteString("HTTP/1.1 101 Switching Protocols\r\n\r\nhello\n")
		_ = buffer.Flush()
	})))
	defer server.Close()
	response, err := http.Get(server.URL + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(response.Body).ReadString('\n'); line != "one\n" {
		t.Errorf("streamed %q", line)
	}
	_ = response.Body.Close()

	connection, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	_, _ = fmt.Fprint(connection, "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
	answer, _ := io.ReadAll(connection)
	if !strings.HasSuffix(string(answer), "hello\n") {
		t.Errorf("answered %q", answer)
	}
	for deadline := time.Now().Add(2 * time.Second); len(spans.Ended()) < 2; {
		if time.Now().After(deadline) {
			t.Fatalf("%d spans, want 2", len(spans.Ended()))
		}
		time.Sleep(time.Millisecond)
	}
}

func TestExcludedPathsAreServedUntraced(t *testing.T) {
	spans := recorded(t)
	handler := TracingMiddleware{ExcludedPaths: []string{"/healthz"}}.Trace(answering(204))
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, httptest.NewRequest("GET", "/healthz", nil))
	if response.Code != 204 || len(spans.Ended()) != 0 {
		t.Errorf("status %d, %d spans", response.Code, len(spans.Ended()))
	}
}

func TestGarbageInARequestBreaksNothing(t *testing.T) {
	request := httptest.NewRequest("GET", "/", nil)
	request.Method = "BREW\xff"
	request.Header.Set("User-Agent", strings.Repeat("\xff", 1<<20))
	request.Header.Set("traceparent", "\x00garbage")
	request.Header.Set("X-Trace-ID", "zz")
	request.Host = "[::1"
	response, span := served(t, TracingMiddleware{}.Trace(answering(200)), request)
	if response.Code != 200 || span.Name() != "HTTP" {
		t.Errorf("status %d, span %q", response.Code, span.Name())
	}
	if got := attributesOf(span)["http.request.method"].AsString(); got != "_OTHER" {
		t.Errorf("method %q", got)
	}
}

func TestACallThroughTransportContinuesTheTrace(t *testing.T) {
	spans := recorded(t)
	server := httptest.NewServer(TracingMiddleware{}.Trace(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		AddMetadata(r.Context(), map[string]any{"symbol": "AAPL", "attempt": 2, "raw": struct{ A int }{1}})
		w.WriteHeader(503)
	})))
	defer server.Close()
	client := &http.Client{Transport: Transport{}}
	response, err := client.Get(server.URL + "/quotes")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()

	ended := spans.Ended()
	if len(ended) != 2 {
		t.Fatalf("%d spans, want 2", len(ended))
	}
	called, calling := ended[0], ended[1]
	if called.Parent().SpanID() != calling.SpanContext().SpanID() || !called.Parent().IsRemote() {
		t.Errorf("the server's parent is %v, the client is %v", called.Parent().SpanID(), calling.SpanContext().SpanID())
	}
	if calling.Status().Code != codes.Error || calling.SpanKind() != trace.SpanKindClient {
		t.Errorf("client span: %v, %v", calling.Status(), calling.SpanKind())
	}
	attributes := attributesOf(called)
	if attributes["symbol"].AsString() != "AAPL" || attributes["attempt"].AsInt64() != 2 || attributes["raw"].AsString() != "{1}" {
		t.Errorf("metadata %v", attributes)
	}
}

func TestACallThatFailsIsAnErrorWithItsReason(t *testing.T) {
	spans := recorded(t)
	client := &http.Client{Transport: Transport{}}
	if _, err := client.Get("http://user:secret@127.0.0.1:1/quotes"); err == nil {
		t.Fatal("port 1 answered")
	}
	span := spans.Ended()[0]
	if span.Status().Code != codes.Error {
		t.Errorf("status %v", span.Status())
	}
	if got := attributesOf(span)["url.full"].AsString(); strings.Contains(got, "secret") {
		t.Errorf("the URL's password stands in %q", got)
	}
}

func BenchmarkPlainHandler(b *testing.B) { benchmarkHandler(b, answering(200)) }

func BenchmarkTracedHandler(b *testing.B) {
	recorded(b)
	benchmarkHandler(b, TracingMiddleware{}.Trace(answering(200)))
}

func benchmarkHandler(b *testing.B, handler http.Handler) {
	server := httptest.NewServer(handler)
	defer server.Close()
	b.ReportAllocs()
	for b.Loop() {
		response, err := http.Get(server.URL + "/quotes/AAPL")
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
}
