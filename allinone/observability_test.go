package allinone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry/certs/certstest"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/s3"
)

const observability = "../deploy/observability/"

// namesIn returns the metrics that a text of expressions is about.
func namesIn(text string) map[string]bool {
	all := make(map[string]bool)
	for _, n := range regexp.MustCompile(`\b(berth|zot|go|process)_[a-z0-9_]+\b`).FindAllString(text, -1) {
		all[n] = true
	}
	return all
}

// expressions returns all values with that key in a tree of JSON.
func expressions(v any, key string) (all string) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if s, ok := x.(string); ok && k == key {
				all += s + "\n"
			}
			all += expressions(x, key)
		}
	case []any:
		for _, x := range v {
			all += expressions(x, key)
		}
	}
	return all
}

// bucketServer answers as much as a pool of one writer needs that lists its bucket,
// the second time that it asks.
func bucketServer(t *testing.T) string {
	var lists atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("list-type") && lists.Add(1) == 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Etag", `"x"`)
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte("<ListBucketResult><Name>b</Name></ListBucketResult>"))
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// lines collects the records of a log.
type lines struct {
	mu  sync.Mutex // guards all
	all []map[string]any
}

func (l *lines) Write(b []byte) (int, error) {
	rec := make(map[string]any)
	if err := json.Unmarshal(b, &rec); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, rec)
	return len(b), nil
}

// address returns where something listens.
func (l *lines) address(t *testing.T, message string) string {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, rec := range l.all {
		if rec["msg"] == message {
			return rec["address"].(string)
		}
	}
	t.Fatalf("no line %q", message)
	return ""
}

// everything runs all that counts, in one process, and returns its metrics.
func everything(t *testing.T) string {
	t.Helper()
	log := new(lines)
	p := daemon.Process{Program: "berth", Version: "v0", Log: slog.New(slog.NewJSONHandler(log, nil)), Metrics: metrics.New(), Ready: new(daemon.Readiness)}
	p.Metrics.Runtime()
	p.Metrics.Gauge("berth_build_info", "The program that runs.") // serve adds it otherwise

	ca := certstest.NewAuthority(t, "ca")
	files := ca.Save(t, t.TempDir(), certstest.Request{Names: []string{"127.0.0.1"}})
	cfg := config.Defaults()
	cfg.Storage.RootDirectory = t.TempDir()
	cfg.HTTP.Address, cfg.HTTP.Port = "127.0.0.1", "0"
	cfg.HTTP.TLS = &config.TLS{Cert: files.Cert, Key: files.Key}
	cfg.Services.Metadata.Listen = "127.0.0.1:0"
	cfg.Extensions = &config.Extensions{Metrics: new(config.Metrics)}
	units, err := Link(t.Context(), cfg, localParts(), p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(ctx, p.Log, daemon.Options{Ready: p.Ready}, units...) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(ca.Cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, DisableKeepAlives: true}}
	url := "https://" + log.address(t, "listening for HTTP")
	get := func(path string) string {
		res, err := client.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, res.Status, err)
		}
		return string(b)
	}
	get("/v2/")

	catalog, err := rpc.DialCatalog([]string{log.address(t, "listening for metadata gRPC")}, rpc.DialOptions{Metrics: p.Metrics})
	if err != nil {
		t.Fatal(err)
	}
	defer catalog.Close()
	if _, err := catalog.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	pool := config.Pool{StorageDriver: config.Driver{
		"name": "s3", "bucket": "b", "region": "us-east-1", "regionendpoint": bucketServer(t), "forcepathstyle": true,
		"accesskey": "a", "secretkey": "s", "singlewriter": true,
	}}
	bucket, err := s3.OpenPool(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	bucket.(blobstore.Observed).Observe(p.Metrics, "default")
	if _, err := bucket.Copies(t.Context(), nil, 1); err != nil {
		t.Fatal(err)
	}
	// The call at the server may end after its answer.
	for range 1000 {
		if text := get("/metrics"); strings.Contains(text, "berth_grpc_server_duration_seconds_count{") {
			return text
		}
	}
	t.Fatal("the server's call is never counted")
	return ""
}

// TestDashboardAndAlerts: every metric that they are about is there.
func TestDashboardAndAlerts(t *testing.T) {
	text := everything(t)
	exposed := make(map[string]bool)
	for line := range strings.Lines(text) {
		if line[0] != '#' {
			exposed[line[:strings.IndexAny(line, "{ ")]] = true
		} else if name, ok := strings.CutPrefix(line, "# TYPE "); ok { // as texts call a histogram
			exposed[strings.Fields(name)[0]] = true
		}
	}
	b, err := os.ReadFile(observability + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard any
	if err := json.Unmarshal(b, &dashboard); err != nil {
		t.Fatal(err)
	}
	alerts, err := os.ReadFile(observability + "alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	queries := expressions(dashboard, "expr") + expressions(dashboard, "definition")
	for name, used := range map[string]map[string]bool{"dashboard.json": namesIn(queries), "alerts.yaml": namesIn(string(alerts))} {
		if len(used) < 10 {
			t.Errorf("%s: only %d metrics found", name, len(used))
		}
		for metric := range used {
			if !exposed[metric] {
				t.Errorf("%s: there is no %s", name, metric)
			}
		}
	}
	t.Run("promtool", func(t *testing.T) {
		promtool, err := exec.LookPath("promtool")
		if err != nil {
			t.Skip("NOT RUN: there is no promtool (Debian package prometheus)")
		}
		for _, args := range [][]string{{"check", "rules", observability + "alerts.yaml"}, {"check", "config", "--syntax-only", observability + "prometheus.yaml"}} {
			if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
				t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		}
		check := exec.Command(promtool, "check", "metrics")
		check.Stdin = strings.NewReader(text)
		out, err := check.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			// What has no unit of Prometheus's own is named as zot, or its client library, names it.
			if !strings.HasPrefix(line, "zot_") && !strings.HasPrefix(line, "go_") {
				t.Errorf("promtool check metrics: %s", line)
			}
		}
		if err != nil && len(out) == 0 {
			t.Error(err)
		}
	})
}
