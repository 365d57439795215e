package tracewatch

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// vectors reads one of the files that every language's producer asserts.
func vectors(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "tests", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatal(err)
	}
}

func TestPartitionsAreKafkas(t *testing.T) {
	var file struct {
		Vectors []struct {
			TraceID    string `json:"trace_id"`
			Murmur2    uint32 `json:"murmur2"`
			Partitions []int  `json:"partitions"`
		} `json:"vectors"`
	}
	vectors(t, "partitions.json", &file)
	if len(file.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	for _, vector := range file.Vectors {
		if got := murmur2([]byte(vector.TraceID)); got != vector.Murmur2 {
			t.Errorf("murmur2 of %s is %d, want %d", vector.TraceID, got, vector.Murmur2)
		}
		traceID, err := hex.DecodeString(vector.TraceID)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range vector.Partitions {
			if got := partitionOf(traceID, i+1); got != want {
				t.Errorf("%s of %d partitions: %d, want %d", vector.TraceID, i+1, got, want)
			}
		}
	}
}
