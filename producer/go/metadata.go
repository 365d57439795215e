package tracewatch

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// AddMetadata puts custom metadata on the current span as attributes. Numbers, booleans, strings and slices of
// them keep their type; anything else is printed. Without a recording span it does nothing.
func AddMetadata(ctx context.Context, metadata map[string]any) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	attributes := make([]attribute.KeyValue, 0, len(metadata))
	for key, value := range metadata {
		attributes = append(attributes, attributeOf(valid(key), value))
	}
	span.SetAttributes(attributes...)
}

func attributeOf(key string, value any) attribute.KeyValue {
	switch v := value.(type) {
	case string:
		return attribute.String(key, valid(v))
	case bool:
		return attribute.Bool(key, v)
	case int:
		return attribute.Int(key, v)
	case int32:
		return attribute.Int64(key, int64(v))
	case int64:
		return attribute.Int64(key, v)
	case float32:
		return attribute.Float64(key, float64(v))
	case float64:
		return attribute.Float64(key, v)
	case []string:
		texts := make([]string, len(v))
		for i, text := range v {
			texts[i] = valid(text)
		}
		return attribute.StringSlice(key, texts)
	case []bool:
		return attribute.BoolSlice(key, v)
	case []int:
		return attribute.IntSlice(key, v)
	case []int64:
		return attribute.Int64Slice(key, v)
	case []float64:
		return attribute.Float64Slice(key, v)
	default:
		return attribute.String(key, valid(fmt.Sprint(v)))
	}
}
