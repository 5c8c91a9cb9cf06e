// Package nats sends events to a NATS server.
package nats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	client "github.com/nats-io/nats.go"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/services/metadata"
)

// sink publishes events in binary content mode (CloudEvents NATS protocol binding,
// §3.1). Its methods are called by one goroutine.
type sink struct {
	cfg     config.Sink
	name    string
	address string // without credentials
	timeout time.Duration
	guard   *outbound.Client
	options []client.Option
	conn    *client.Conn // nil if there is none
}

// Open returns a sink that publishes to the channel of c. It connects when there is
// something to send, and waits for the server to answer before an event counts as
// taken.
func Open(c config.Sink, rules outbound.Rules, p daemon.Process) (metadata.Sink, error) {
	u, err := url.Parse(c.Address)
	if err != nil || u.Hostname() == "" || u.Scheme != "nats" && u.Scheme != "tls" {
		return nil, errors.New("the address must be nats://host:port or tls://host:port")
	}
	port := u.Port()
	if port == "" {
		port = "4222"
	}
	host := net.JoinHostPort(u.Hostname(), port)
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	o := outbound.Options{
		Purpose: "events", Rules: rules, Named: []string{"https://" + host}, Dial: timeout, Idle: 10 * time.Minute, Log: p.Log, Metrics: p.Metrics,
	}
	secure := u.Scheme == "tls"
	if t := c.TLSConfig; t != nil {
		secure = secure || t.CACertFile != "" || t.CertFile != ""
		o.TLS = outbound.TLS{CAFile: t.CACertFile, CertFile: t.CertFile, KeyFile: t.KeyFile, CAOnly: t.CACertFile != ""}
	}
	guard, err := outbound.New(o)
	if err != nil {
		return nil, err
	}
	s := &sink{cfg: c, name: metadata.SinkName("nats", c.Address, c.Channel), address: u.Scheme + "://" + host, timeout: timeout, guard: guard}
	s.options = []client.Option{
		client.Name(metadata.EventSource), client.Timeout(timeout), client.NoReconnect(),
		client.SkipHostLookup(), // where it may go depends on the name
	}
	if secure {
		s.options = append(s.options, client.Secure(guard.TLS()))
	}
	if k := c.Credentials; k != nil {
		switch {
		case k.File != "":
			s.options = append(s.options, client.UserCredentials(k.File))
		case k.Username != "":
			s.options = append(s.options, client.UserInfo(k.Username, string(k.Password)))
		case k.Token != "":
			s.options = append(s.options, client.Token(string(k.Token)))
		}
	} else if u.User != nil {
		password, _ := u.User.Password()
		s.options = append(s.options, client.UserInfo(u.User.Username(), password))
	}
	return s, nil
}

type dialer func(address string) (net.Conn, error)

// Dial implements [client.CustomDialer].
func (d dialer) Dial(_, address string) (net.Conn, error) { return d(address) }

// connect connects to the server, unless ctx ends before it has answered.
func (s *sink) connect(ctx context.Context) (*client.Conn, error) {
	stop := func() bool { return true }
	dial := dialer(func(address string) (net.Conn, error) {
		conn, err := s.guard.Dial(ctx, address)
		if err == nil { // the client knows nothing of ctx, and waits for the server's first words
			stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		return conn, err
	})
	conn, err := client.Connect(s.address, append(slices.Clip(s.options), client.SetCustomDialer(dial))...)
	stop()
	if ended := ctx.Err(); ended != nil {
		if err == nil {
			conn.Close()
		}
		return nil, ended
	}
	return conn, err
}

// Name implements [metadata.Sink].
func (s *sink) Name() string { return s.name }

// Close implements [metadata.Sink].
func (s *sink) Close() error {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	return nil
}

// Send implements [metadata.Sink].
func (s *sink) Send(ctx context.Context, e metadata.OutboxEvent) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if s.conn == nil || !s.conn.IsConnected() {
		_ = s.Close()
		conn, err := s.connect(ctx)
		if err != nil {
			return fmt.Errorf("connecting to NATS: %w", err)
		}
		s.conn = conn
	}
	if int64(len(e.Data)) > s.conn.MaxPayload() {
		return fmt.Errorf("%w: it has %d bytes, and the server takes %d", metadata.ErrEventRefused, len(e.Data), s.conn.MaxPayload())
	}
	m := client.NewMsg(s.cfg.Channel)
	m.Data = e.Data
	for k, v := range metadata.EventAttributes(e, "") {
		m.Header.Set("ce-"+k, v)
	}
	m.Header.Set("ce-datacontenttype", "application/json")
	m.Header.Set("content-type", "application/json")
	err := s.conn.PublishMsg(m)
	if err == nil {
		err = s.conn.FlushWithContext(ctx)
	}
	if err == nil {
		err = s.conn.LastError() // a subject that we may not publish to
	}
	if err != nil {
		_ = s.Close()
		return fmt.Errorf("publishing to NATS: %w", err)
	}
	return nil
}
