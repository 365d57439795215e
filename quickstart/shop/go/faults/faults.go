// Package faults holds the faults that a service of the shop can be told to have, each for a while.
// Their names and sizes are those of quickstart/shop/faults.py.
package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// Errors makes ErrorRatio of the requests fail.
	Errors = "errors"
	// Slow adds SlowBy to the time a service spends itself.
	Slow = "slow"

	ErrorRatio = 0.5
	SlowBy     = 800 * time.Millisecond

	longestS = 3600
)

// Faults are on until a time each. The zero value is ready.
type Faults struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// IsOn tells if the service is to have this fault now.
func (f *Faults) IsOn(kind string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Before(f.until[kind])
}

// ServeHTTP is POST /faults/{kind}?for_s=20.
func (f *Faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	kind := r.PathValue("kind")
	forS := 20.0
	if text := r.URL.Query().Get("for_s"); text != "" {
		parsed, err := strconv.ParseFloat(text, 64)
		if err != nil {
			parsed = -1
		}
		forS = parsed
	}
	switch {
	case kind != Errors && kind != Slow:
		answer(w, http.StatusBadRequest, "error", fmt.Sprintf("%q is no fault of this service; it can have %s, %s", kind, Errors, Slow))
	case !(forS > 0 && forS <= longestS):
		answer(w, http.StatusBadRequest, "error", "for_s: a fault lasts between 0 and 3600 seconds")
	default:
		f.mu.Lock()
		if f.until == nil {
			f.until = map[string]time.Time{}
		}
		f.until[kind] = time.Now().Add(time.Duration(forS * float64(time.Second)))
		f.mu.Unlock()
		answer(w, http.StatusAccepted, "fault", kind)
	}
}

func answer(w http.ResponseWriter, status int, key, text string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{key: text})
}
