package oracle

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/writ-run/writ/internal/evidence/log"
	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/translate"
)

// TestOTLP: the spans are of the OTLP message, with no field that it does not
// have and no value of another type.
func TestOTLP(t *testing.T) {
	dir, keys := t.TempDir(), testlog.NewKeys(1)
	at := filepath.Join(dir, "log")
	testlog.Whole(t, keys).Write(at, keys.LogOptions(""))
	r, err := log.OpenReader(at, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b bytes.Buffer
	if err := translate.OTel(&b, r); err != nil {
		t.Fatal(err)
	}
	var data tracepb.TracesData
	if err := protojson.Unmarshal(b.Bytes(), &data); err != nil {
		t.Fatal(err)
	}
	spans := data.ResourceSpans[0].ScopeSpans[0].Spans
	if len(spans) != 4 {
		t.Fatalf("%d spans", len(spans))
	}
	for _, s := range spans {
		if s.StartTimeUnixNano == 0 || s.EndTimeUnixNano < s.StartTimeUnixNano || len(s.Attributes) == 0 {
			t.Errorf("%v", s)
		}
	}
	// IDs are in hexadecimal digits, unlike in other JSON of protocol buffers.
	var ids struct {
		ResourceSpans []struct {
			ScopeSpans []struct {
				Spans []struct{ TraceID, SpanID string }
			}
		}
	}
	if err := json.Unmarshal(b.Bytes(), &ids); err != nil {
		t.Fatal(err)
	}
	for _, s := range ids.ResourceSpans[0].ScopeSpans[0].Spans {
		if len(s.TraceID) != 32 || len(s.SpanID) != 16 || strings.Trim(s.TraceID+s.SpanID, "0123456789abcdef") != "" {
			t.Errorf("%+v", s)
		}
	}
	if err := protojson.Unmarshal(bytes.Replace(b.Bytes(), []byte(`"kind":1`), []byte(`"kynd":1`), 1), &data); err == nil {
		t.Error("a field that is not there is taken")
	}
}
