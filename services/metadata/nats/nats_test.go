package nats

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	server "github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/services/metadata"
)

// serve starts a NATS server that wants a password.
func serve(t *testing.T, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, Username: "berth", Password: "hush", NoSigs: true, NoLog: true, MaxPayload: 4096})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Shutdown)
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server does not start")
	}
	return s
}

func open(t *testing.T, c config.Sink) metadata.Sink {
	t.Helper()
	c.Type, c.Channel = "nats", "registry.events"
	s, err := Open(c, outbound.Rules{}, daemon.Process{Log: slog.New(slog.DiscardHandler), Metrics: metrics.New()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestSend publishes over a server that ends and comes back.
func TestSend(t *testing.T) {
	srv := serve(t, -1)
	address := srv.ClientURL()
	listener, err := client.Connect(address, client.UserInfo("berth", "hush"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	sub, err := listener.SubscribeSync("registry.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Flush(); err != nil {
		t.Fatal(err)
	}
	s := open(t, config.Sink{Address: address, Credentials: &config.SinkCredentials{Username: "berth", Password: "hush"}})
	e := metadata.OutboxEvent{ID: "1", Type: "zotregistry.image.updated", At: time.Unix(1, 0).UTC(), Data: []byte(`{"name":"a"}`)}
	if err := s.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsg(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Data) != `{"name":"a"}` || m.Header.Get("ce-type") != e.Type || m.Header.Get("ce-id") != "1" || m.Header.Get("ce-source") != "zotregistry.dev" ||
		m.Header.Get("ce-specversion") != "1.0" || m.Header.Get("ce-time") != "1970-01-01T00:00:01Z" {
		t.Errorf("got %s with %v", m.Data, m.Header)
	}
	if err := s.Send(t.Context(), metadata.OutboxEvent{ID: "2", Data: make([]byte, 5000)}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("an event that is too large: %v", err)
	}
	srv.Shutdown()
	srv.WaitForShutdown()
	if err := s.Send(t.Context(), e); err == nil {
		t.Error("an event counts as taken though the server is gone")
	}
	serve(t, port(t, address))
	if err := s.Send(t.Context(), e); err != nil {
		t.Errorf("after the server came back: %v", err)
	}
}

// TestRefused tells no password, and does not go where the rules forbid.
func TestRefused(t *testing.T) {
	srv := serve(t, -1)
	s := open(t, config.Sink{Address: srv.ClientURL(), Credentials: &config.SinkCredentials{Username: "berth", Password: "sesame"}})
	err := s.Send(t.Context(), metadata.OutboxEvent{ID: "1"})
	if err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("a wrong password: %v", err)
	}
	strict, parseErr := outbound.ParseRules(nil, true)
	if parseErr != nil {
		t.Fatal(parseErr)
	}
	c := config.Sink{Type: "nats", Channel: "x", Address: srv.ClientURL()}
	guarded, err := Open(c, strict, daemon.Process{Log: slog.New(slog.DiscardHandler), Metrics: metrics.New()})
	if err != nil {
		t.Fatal(err)
	}
	if err := guarded.Send(t.Context(), metadata.OutboxEvent{ID: "1"}); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("an address that is not allowed: %v", err)
	}
	for _, address := range []string{"http://x", "x", "nats://"} {
		if _, err := Open(config.Sink{Address: address}, strict, daemon.Process{}); err == nil {
			t.Errorf("%q is taken", address)
		}
	}
}

func port(t *testing.T, address string) int {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSilentServer: a server that says nothing holds nobody up who stops.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := open(t, config.Sink{Address: "nats://" + l.Addr().String(), Timeout: time.Hour})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		stop()
		_, _ = io.Copy(io.Discard, c) // until the client ends it
	}()
	if err := s.Send(ctx, metadata.OutboxEvent{ID: "1", Data: []byte("{}")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestNamedServer: a server that the file names may be on a private address.
func TestNamedServer(t *testing.T) {
	srv := serve(t, -1)
	u, err := url.Parse(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, config.Sink{Address: "nats://berth:hush@localhost:" + u.Port()})
	if err := s.Send(t.Context(), metadata.OutboxEvent{ID: "1", Data: []byte("{}")}); err != nil {
		t.Error(err)
	}
}
