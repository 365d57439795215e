// Command w3crelay is the service that the W3C trace-context suite drives: it sends what it is told to send.
//
//	go run ./internal/w3crelay 127.0.0.1:5000
//	cd trace-context/test; STRICT_LEVEL=2 SPEC_LEVEL=2 python test.py http://127.0.0.1:5000/test
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"

	tracewatch "github.com/tracewatch/tracewatch/producer/go"
)

type call struct {
	URL       string          `json:"url"`
	Arguments json.RawMessage `json:"arguments"`
}

func main() {
	shutdown, err := tracewatch.Configure(context.Background(), tracewatch.Options{ServiceName: "w3c-relay"})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = shutdown(context.Background()) }()
	client := &http.Client{Transport: tracewatch.Transport{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /test", func(w http.ResponseWriter, r *http.Request) {
		var calls []call
		if err := json.NewDecoder(r.Body).Decode(&calls); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, call := range calls {
			request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, call.URL, bytes.NewReader(call.Arguments))
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			request.Header.Set("Content-Type", "application/json")
			response, err := client.Do(request)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			_ = response.Body.Close()
		}
	})
	log.Fatal(http.ListenAndServe(os.Args[1], tracewatch.TracingMiddleware{}.Trace(mux)))
}
