package tracewatch

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	// lossesLoggedEvery keeps a Kafka that is away from filling the service's log.
	lossesLoggedEvery = time.Minute
	// maxExportSpans bounds one export; the rest follows at once.
	maxExportSpans = 2048
)

// Counters tell what became of the spans of this process.
type Counters struct {
	Exported atomic.Int64 // delivered
	Dropped  atomic.Int64 // never delivered: a queue was full, or delivery failed for good
}

// processor queues ended spans and exports them a linger after the first, or earlier when an error
// or a local root ends; at most one early flush per interval, so that a busy service keeps large records.
// OnEnd never blocks: a full queue drops the span and counts it.
type processor struct {
	exporter sdktrace.SpanExporter
	// delivered waits until the receiver has what was exported; nil where ExportSpans itself waits.
	delivered func(context.Context) error
	settings  producerSettings
	counters  *Counters

	mu      sync.Mutex
	queue   []sdktrace.ReadOnlySpan
	hurried bool
	stopped bool

	wake    chan struct{}
	flush   chan chan struct{}
	ended   chan struct{}
	loop    context.Context
	endLoop context.CancelFunc

	loggedAt    time.Time
	loggedDrops int64
}

func newProcessor(
	exporter sdktrace.SpanExporter, delivered func(context.Context) error, settings producerSettings, counters *Counters,
) *processor {
	p := &processor{
		exporter:  exporter,
		delivered: delivered,
		settings:  settings,
		counters:  counters,
		wake:      make(chan struct{}, 1),
		flush:     make(chan chan struct{}),
		ended:     make(chan struct{}),
	}
	p.loop, p.endLoop = context.WithCancel(context.Background())
	go p.run()
	return p
}

// OnStart does nothing: nothing is known of a span that has not ended.
func (p *processor) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd queues a sampled span.
func (p *processor) OnEnd(span sdktrace.ReadOnlySpan) {
	if span.SpanContext().IsSampled() {
		p.offer(span)
	}
}

// offer queues a span, or drops and counts it.
func (p *processor) offer(span sdktrace.ReadOnlySpan) {
	parent := span.Parent()
	urgent := !parent.IsValid() || parent.IsRemote() || span.Status().Code == codes.Error

	p.mu.Lock()
	if p.stopped || len(p.queue) >= p.settings.maxQueueSpans {
		p.mu.Unlock()
		p.counters.Dropped.Add(1)
		return
	}
	p.queue = append(p.queue, span)
	wakes := len(p.queue) == 1 || (urgent && !p.hurried)
	p.hurried = p.hurried || urgent
	p.mu.Unlock()

	if wakes {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// ForceFlush returns when the receiver has every span queued so far, or ctx ends.
func (p *processor) ForceFlush(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case p.flush <- done:
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.delivered != nil {
		return p.delivered(ctx)
	}
	return nil
}

// Shutdown flushes, then ends the exporter. Later spans are dropped and counted.
func (p *processor) Shutdown(ctx context.Context) error {
	flushed := p.ForceFlush(ctx)
	p.mu.Lock()
	p.stopped = true
	lost := len(p.queue)
	p.queue = nil
	p.mu.Unlock()
	p.counters.Dropped.Add(int64(lost))
	p.endLoop()
	if err := p.exporter.Shutdown(ctx); err != nil {
		return err
	}
	return flushed
}

func (p *processor) run() {
	defer close(p.ended)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	var due, nextFlush time.Time
	for {
		select {
		case <-p.loop.Done():
			return
		case done := <-p.flush:
			p.exportAll()
			close(done)
			due = time.Time{}
			nextFlush = time.Now().Add(p.settings.earlyFlushInterval)
		case <-p.wake:
			now := time.Now()
			at := now.Add(p.settings.linger)
			p.mu.Lock()
			if p.hurried {
				at = now
			}
			p.mu.Unlock()
			if at.Before(nextFlush) {
				at = nextFlush
			}
			if due.IsZero() || at.Before(due) {
				due = at
				timer.Reset(time.Until(due))
			}
		case <-timer.C:
			due = time.Time{}
			nextFlush = time.Now().Add(p.settings.earlyFlushInterval)
			p.exportAll()
			p.logLosses()
		}
	}
}

func (p *processor) exportAll() {
	p.mu.Lock()
	spans := p.queue
	p.queue = make([]sdktrace.ReadOnlySpan, 0, min(cap(spans), maxExportSpans))
	p.hurried = false
	p.mu.Unlock()
	for len(spans) > 0 {
		batch := spans[:min(len(spans), maxExportSpans)]
		spans = spans[len(batch):]
		if err := p.exporter.ExportSpans(p.loop, batch); err != nil {
			// The exporter has counted what it did not take.
			slog.Debug("tracewatch: export failed", "error", err)
		}
	}
}

func (p *processor) logLosses() {
	dropped := p.counters.Dropped.Load()
	if dropped > p.loggedDrops && time.Since(p.loggedAt) >= lossesLoggedEvery {
		slog.Warn("tracewatch: spans were dropped; is the receiver reachable?", "spans", dropped-p.loggedDrops)
		p.loggedDrops, p.loggedAt = dropped, time.Now()
	}
}
