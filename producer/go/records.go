package tracewatch

import (
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// maxRecordBytes bounds a record; Kafka's own default limit is 1 048 588 bytes for a batch.
const maxRecordBytes = 1_000_000

// record is one Kafka record: spans that all belong to one partition.
type record struct {
	partition int32
	spans     int
	request   *coltracepb.ExportTraceServiceRequest
	bytes     int
}

// recordsOf groups spans by partition, each group as few records of at most maxBytes as the spans'
// order allows. A single span above the limit still gets its record.
func recordsOf(batch []*tracepb.ResourceSpans, partitions, maxBytes int) []*record {
	var done []*record
	open := map[int32]*record{}
	for _, resourceSpans := range batch {
		for _, scopeSpans := range resourceSpans.ScopeSpans {
			envelope := proto.Size(resourceSpans.Resource) + proto.Size(scopeSpans.Scope) + 32
			for _, span := range scopeSpans.Spans {
				partition := int32(partitionOf(span.TraceId, partitions))
				// A tag and a length of at most four bytes stand before each nested message.
				size := proto.Size(span) + 5
				current := open[partition]
				if current != nil && current.bytes+size+envelope > maxBytes {
					done = append(done, current)
					current = nil
				}
				if current == nil {
					current = &record{partition: partition, request: &coltracepb.ExportTraceServiceRequest{}}
					open[partition] = current
				}
				current.add(resourceSpans, scopeSpans, span, size, envelope)
			}
		}
	}
	for _, current := range open {
		done = append(done, current)
	}
	return done
}

func (r *record) add(resource *tracepb.ResourceSpans, scope *tracepb.ScopeSpans, span *tracepb.Span, size, envelope int) {
	r.spans++
	r.bytes += size
	resources := r.request.ResourceSpans
	if n := len(resources); n > 0 && resources[n-1].Resource == resource.Resource {
		scopes := resources[n-1].ScopeSpans
		if last := scopes[len(scopes)-1]; last.Scope == scope.Scope {
			last.Spans = append(last.Spans, span)
			return
		}
	} else {
		r.request.ResourceSpans = append(resources, &tracepb.ResourceSpans{
			Resource: resource.Resource, SchemaUrl: resource.SchemaUrl,
		})
		resources = r.request.ResourceSpans
	}
	r.bytes += envelope
	last := resources[len(resources)-1]
	last.ScopeSpans = append(last.ScopeSpans, &tracepb.ScopeSpans{
		Scope: scope.Scope, SchemaUrl: scope.SchemaUrl, Spans: []*tracepb.Span{span},
	})
}
