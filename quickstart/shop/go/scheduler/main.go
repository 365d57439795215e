// Command scheduler is the shop's scheduler in Go: jobs that call the other services again and again, and so make
// all of its traffic, as quickstart/shop/scheduler.py does.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	tracewatch "github.com/tracewatch/tracewatch/producer/go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
)

var (
	symbols = []string{"AAPL", "MSFT", "NVDA", "IBM", "ORCL", "TSM", "ASML", "SAP", "INTC", "AMD"}
	owners  = []string{"ada", "grace", "edsger"}
	tracer  = otel.Tracer("quickstart/shop/scheduler")
)

// job is what the scheduler does: a call, and its share of all calls. Each call is a trace of its own.
type job struct {
	name  string
	share float64
	url   func() string
}

func main() {
	api := flag.String("api-url", "", "URL of the API service")
	proxy := flag.String("proxy-url", "", "URL of the price source")
	rate := flag.Float64("rate", 8, "traces a second")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	shutdown, err := tracewatch.Configure(ctx, tracewatch.Options{ServiceName: "scheduler"})
	if err != nil {
		log.Fatal(err)
	}
	jobs := []job{
		{"refresh_quote", 0.5, func() string { return *api + "/api/quotes/" + oneOf(symbols) }},
		{"value_portfolio", 0.2, func() string { return *api + "/api/portfolios/" + oneOf(owners) }},
		{"check_market", 0.3, func() string { return *proxy + "/market" }},
	}
	client := &http.Client{Transport: tracewatch.Transport{}, Timeout: 10 * time.Second}
	var running sync.WaitGroup
	for _, each := range jobs {
		running.Go(func() { each.runRegularly(ctx, client, *rate) })
	}
	log.Print("scheduler is running")
	running.Wait()
	flushing, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = shutdown(flushing)
}

// runRegularly calls about rate*share times a second, in an irregular rhythm, until ctx ends.
func (j job) runRegularly(ctx context.Context, client *http.Client, rate float64) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(rand.ExpFloat64() / (rate * j.share) * float64(time.Second))):
		}
		if err := j.run(ctx, client); err != nil && ctx.Err() == nil {
			log.Printf("job %s failed: %v", j.name, err)
		}
	}
}

func (j job) run(ctx context.Context, client *http.Client) (err error) {
	ctx, span := tracer.Start(ctx, j.name)
	defer func() {
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url(), nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode >= 400 {
		return fmt.Errorf("answered %s", response.Status)
	}
	return nil
}

func oneOf(texts []string) string { return texts[rand.IntN(len(texts))] }
