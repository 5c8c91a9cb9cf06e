package metadata

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/outbound"
)

// TestS070HTTPSink: events go to whom the file names, signed, and nowhere else; no secret
// of ours and no word of the receiver's is told of.
func TestS070HTTPSink(t *testing.T) {
	var got *http.Request
	var body []byte
	status := 204
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(status)
		if status >= 300 {
			_, _ = io.WriteString(w, "what is inside")
		}
	}))
	defer srv.Close()
	p := daemon.Process{Log: slog.New(slog.DiscardHandler), Metrics: metrics.New(), Version: "1"}
	address := strings.Replace(srv.URL, "http://", "http://who:hush@", 1) + "/hook?token=hush"
	c := config.Sink{
		Type: "http", Address: srv.URL + "/hook?token=hush", Channel: "prod", Timeout: time.Minute, Headers: map[string]config.Secret{"X-Tenant": "t"},
		Credentials: &config.SinkCredentials{Username: "berth", Password: "hush"}, Secret: "key",
	}
	s, err := HTTPSink(c, outbound.Rules{}, p)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	e := OutboxEvent{ID: "1", Type: "zotregistry.image.updated", At: time.Unix(1, 5000).UTC(), Data: []byte(`{"name":"a"}`)}
	if err := s.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{
		"Ce-Id": "1", "Ce-Type": e.Type, "Ce-Source": "zotregistry.dev", "Ce-Specversion": "1.0", "Ce-Time": "1970-01-01T00:00:01.000005Z", "Ce-Channel": "prod",
		"Content-Type": "application/json", "X-Tenant": "t", "Authorization": "Basic YmVydGg6aHVzaA==", "Webhook-Id": "1",
	} {
		if v := got.Header.Get(k); v != want {
			t.Errorf("%s is %q, want %q", k, v, want)
		}
	}
	mac := hmac.New(sha256.New, []byte("key"))
	_, _ = io.WriteString(mac, "1."+got.Header.Get("Webhook-Timestamp")+`.{"name":"a"}`)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); string(body) != `{"name":"a"}` || got.Header.Get("Webhook-Signature") != want {
		t.Errorf("body %s, signature %q, want %q", body, got.Header.Get("Webhook-Signature"), want)
	}
	for code, refused := range map[int]bool{302: false, 400: true, 401: false, 404: false, 413: true, 429: false, 500: false} {
		status = code
		if err := s.Send(t.Context(), e); err == nil || errors.Is(err, ErrEventRefused) != refused || strings.Contains(err.Error(), "inside") {
			t.Errorf("after %d: %v", code, err)
		}
	}
	srv.Close()
	err = s.Send(t.Context(), e)
	if err == nil || strings.Contains(err.Error(), "hush") || strings.Contains(s.Name(), "hush") {
		t.Errorf("the sink %q says %v", s.Name(), err)
	}
	if name := SinkName("http", address, "x"); strings.Contains(name, "hush") {
		t.Errorf("a name with a secret: %s", name)
	}
	strict, err := outbound.ParseRules(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = HTTPSink(c, strict, p); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), e); !errors.Is(err, outbound.ErrRefused) {
		t.Errorf("an address that is not allowed: %v", err)
	}
	c.Address = "http://169.254.169.254/latest/meta-data" // although the file names it
	if s, err = HTTPSink(c, outbound.Rules{}, p); err == nil {
		err = s.Send(t.Context(), e)
	}
	if !errors.Is(err, outbound.ErrRefused) {
		t.Errorf("the address of a cloud's secrets: %v", err)
	}
}

// TestS070SinksAreGuarded: events go to no address inside, however it is written, unless
// the operator has allowed it, and no redirect is followed. What the receiver answers is
// in no error that somebody is shown.
func TestS070SinksAreGuarded(t *testing.T) {
	inside := 0
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside++ }))
	defer target.Close()
	p := daemon.Process{Log: slog.New(slog.DiscardHandler), Metrics: metrics.New(), Version: "1"}
	strict, err := outbound.ParseRules(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	e := OutboxEvent{ID: "1", Type: "x", At: time.Unix(1, 0), Data: []byte("{}")}
	send := func(address string, rules outbound.Rules) error {
		t.Helper()
		s, err := HTTPSink(config.Sink{Type: "http", Address: address, Timeout: time.Minute}, rules, p)
		if err != nil {
			return err
		}
		defer s.Close()
		return s.Send(t.Context(), e)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(target.URL, "http://"), ":")
	for _, host := range []string{"127.0.0.1", "localhost", "localhost.", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "0x7f.1", "2130706433", "169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "192.168.0.1"} {
		if err := send("http://"+host+":"+port+"/", strict); err == nil {
			t.Errorf("an event went to %s", host)
		}
	}
	answer := http.StatusFound
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", target.URL)
		w.WriteHeader(answer)
		_, _ = io.WriteString(w, "the secret of an inner service")
	}))
	defer hostile.Close()
	for _, answer = range []int{302, 307, 400, 401, 404, 500} {
		if err := send(hostile.URL, outbound.Rules{}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("after %d: %v", answer, err)
		}
	}
	if inside != 0 {
		t.Errorf("%d requests went inside", inside)
	}
}
