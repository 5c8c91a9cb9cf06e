package s3

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/doctor"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

func TestExamine(t *testing.T) {
	srv := s3test.Start(t)
	examine := func(change map[string]any) string {
		d := srv.Driver("doctor")
		maps.Copy(d, change)
		var out bytes.Buffer
		doctor.Run(t.Context(), doctor.NewReport(&out, false), Examine("storage.storageDriver", config.Pool{StorageDriver: d}))
		return out.String()
	}
	for _, test := range []struct {
		change map[string]any
		want   string
	}{
		{nil, "ok    storage.storageDriver: bucket "},
		{nil, "its clock agrees"},
		{map[string]any{"singlewriter": true}, "warn  storage.storageDriver: nothing keeps two"},
		{map[string]any{"bucket": "elsewhere"}, "fail  storage.storageDriver: opening bucket elsewhere"},
		{map[string]any{"secretkey": "canary-of-a-secret-key"}, "fail  storage.storageDriver:"},
	} {
		if got := examine(test.change); !strings.Contains(got, test.want) || strings.Contains(got, "canary") {
			t.Errorf("%v: want %q, and no secret, in\n%s", test.change, test.want, got)
		}
	}
}

// TestRequestsAreCounted counts what a pool asks of the object store.
func TestRequestsAreCounted(t *testing.T) {
	srv := s3test.Start(t)
	d, err := OpenPool(t.Context(), config.Pool{StorageDriver: srv.Driver("counted")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := metrics.New()
	d.(*Driver).Observe(m, "default")
	if _, err := d.Copies(t.Context(), nil, 1); err != nil {
		t.Fatal(err)
	}
	text := string(m.Text())
	for _, want := range []string{
		`berth_s3_requests_total{pool="default",operation="list",outcome="ok"} `,
		`berth_s3_request_duration_seconds_count{pool="default",operation="list"} `,
		`berth_s3_bytes_total{pool="default",direction="received"} `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "berth_s3_retries_total") {
		t.Error("a repetition is counted that was none")
	}
}
