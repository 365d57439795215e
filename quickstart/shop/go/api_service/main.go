// Command api_service is the shop's API in Go: it asks for prices, keeps the last ones in PostgreSQL and values
// portfolios, as quickstart/shop/api_service.py does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	tracewatch "github.com/tracewatch/tracewatch/producer/go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/tracewatch/tracewatch/quickstart/shop/go/faults"
)

const (
	createPrices = "CREATE TABLE IF NOT EXISTS prices (symbol text PRIMARY KEY, price float8 NOT NULL)"
	upsertPrice  = "INSERT INTO prices (symbol, price) VALUES ($1, $2) ON CONFLICT (symbol) DO UPDATE SET price = excluded.price"
)

var (
	portfolios = map[string][]string{
		"ada":    {"AAPL", "MSFT", "NVDA"},
		"grace":  {"IBM", "ORCL"},
		"edsger": {"TSM", "ASML", "SAP", "INTC"},
	}
	tracer = otel.Tracer("quickstart/shop/api_service")
	// errValuation is the shop's own mistake, when it is told to make one.
	errValuation = errors.New("a portfolio without owner was found in the ledger")
)

type service struct {
	proxy    string
	client   *http.Client
	prices   *pgxpool.Pool
	database *url.URL
	faults   faults.Faults
}

func main() {
	port := flag.Int("port", 0, "port to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *port); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, port int) error {
	shutdown, err := tracewatch.Configure(ctx, tracewatch.Options{ServiceName: "api-service"})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = shutdown(ctx)
	}()
	database, err := url.Parse(os.Getenv("SHOP_DATABASE_URL"))
	if err != nil {
		return fmt.Errorf("SHOP_DATABASE_URL: %w", err)
	}
	prices, err := pgxpool.New(ctx, database.String())
	if err != nil {
		return fmt.Errorf("SHOP_DATABASE_URL: %w", err)
	}
	defer prices.Close()
	if _, err := prices.Exec(ctx, createPrices); err != nil {
		return err
	}
	shop := &service{
		proxy:    os.Getenv("SHOP_PROXY_URL"),
		client:   &http.Client{Transport: tracewatch.Transport{}, Timeout: 10 * time.Second},
		prices:   prices,
		database: database,
	}
	tracing := tracewatch.TracingMiddleware{ServiceName: "api-service", ExcludedPaths: []string{"/faults/errors", "/faults/slow"}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/quotes/{symbol}", shop.quote)
	mux.HandleFunc("GET /api/portfolios/{owner}", shop.portfolio)
	mux.Handle("POST /faults/{kind}", &shop.faults)
	server := &http.Server{
		Addr: fmt.Sprintf("127.0.0.1:%d", port), Handler: tracing.Trace(mux), ReadHeaderTimeout: 5 * time.Second,
	}
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *service) quote(w http.ResponseWriter, r *http.Request) {
	if s.failed(w, r) {
		return
	}
	symbol := r.PathValue("symbol")
	tracewatch.AddMetadata(r.Context(), map[string]any{"symbol": symbol})
	price, err := s.fetchedPrice(r.Context(), symbol)
	if err == nil {
		err = s.store(r.Context(), symbol, price)
	}
	answer(w, map[string]any{"symbol": symbol, "price": price}, err)
}

func (s *service) portfolio(w http.ResponseWriter, r *http.Request) {
	owner := r.PathValue("owner")
	symbols, known := portfolios[owner]
	if !known {
		http.Error(w, fmt.Sprintf("no portfolio of %q", owner), http.StatusNotFound)
		return
	}
	if s.failed(w, r) {
		return
	}
	type fetched struct {
		price float64
		err   error
	}
	answers := make(chan fetched, len(symbols))
	for _, symbol := range symbols {
		go func() {
			price, err := s.fetchedPrice(r.Context(), symbol)
			answers <- fetched{price, err}
		}()
	}
	var total float64
	var failed error
	for range symbols {
		got := <-answers
		total += got.price
		failed = errors.Join(failed, got.err)
	}
	answer(w, map[string]any{"owner": owner, "value": valued(r.Context(), total)}, failed)
}

func valued(ctx context.Context, total float64) float64 {
	_, span := tracer.Start(ctx, "value_portfolio")
	defer span.End()
	time.Sleep(time.Millisecond + rand.N(2*time.Millisecond))
	return math.Round(total*100) / 100
}

func (s *service) fetchedPrice(ctx context.Context, symbol string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.proxy+"/quote/"+url.PathEscape(symbol), nil)
	if err != nil {
		return 0, err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("no price: the proxy answered %s", response.Status)
	}
	var quote struct {
		Price float64 `json:"price"`
	}
	err = json.NewDecoder(response.Body).Decode(&quote)
	return quote.Price, err
}

func (s *service) store(ctx context.Context, symbol string, price float64) error {
	ctx, span := tracer.Start(ctx, "INSERT prices", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("db.system.name", "postgresql"),
		attribute.String("db.namespace", strings.TrimPrefix(s.database.Path, "/")),
		attribute.String("db.operation.name", "INSERT"),
		attribute.String("db.collection.name", "prices"),
		attribute.String("db.query.text", upsertPrice),
		attribute.String("server.address", s.database.Hostname()),
		attribute.Int("server.port", portOf(s.database)),
	))
	defer span.End()
	_, err := s.prices.Exec(ctx, upsertPrice, symbol, price)
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}

// failed answers 500 if the service was told to fail; it is slow first if it was told that.
func (s *service) failed(w http.ResponseWriter, r *http.Request) bool {
	if s.faults.IsOn(faults.Slow) {
		time.Sleep(faults.SlowBy)
	}
	if !s.faults.IsOn(faults.Errors) || rand.Float64() >= faults.ErrorRatio {
		return false
	}
	trace.SpanFromContext(r.Context()).RecordError(errValuation)
	http.Error(w, errValuation.Error(), http.StatusInternalServerError)
	return true
}

func answer(w http.ResponseWriter, body map[string]any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		body = map[string]any{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(body)
}

func portOf(where *url.URL) int {
	if port, err := strconv.Atoi(where.Port()); err == nil {
		return port
	}
	return 5432
}
