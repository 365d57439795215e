// Package gorilla tells the route template of requests that gorilla/mux routes:
//
//	tracing := tracewatch.TracingMiddleware{ServiceName: "api-service", RouteOf: gorilla.Route}
//	router.Use(tracing.Trace)
package gorilla

import (
	"net/http"

	"github.com/gorilla/mux"
)

// Route is the template of the route that matched, or "".
func Route(r *http.Request) string {
	if route := mux.CurrentRoute(r); route != nil {
		if template, err := route.GetPathTemplate(); err == nil {
			return template
		}
	}
	return ""
}
