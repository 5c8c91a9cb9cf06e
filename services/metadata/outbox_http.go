package metadata

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/registry/webhook"
)

// httpSink posts events in binary content mode (CloudEvents HTTP protocol binding,
// §3.1), as zot does.
type httpSink struct {
	cfg    config.Sink
	name   string
	client *outbound.Client
	now    func() time.Time
}

// HTTPSink returns a sink that posts events to a URL.
func HTTPSink(c config.Sink, rules outbound.Rules, p daemon.Process) (Sink, error) {
	o := outbound.Options{
		Purpose: "events", Rules: rules, Named: []string{c.Address}, PlainHTTP: strings.HasPrefix(c.Address, "http:"),
		Redirects: -1, MaxBody: 64 << 10, Conns: 1, Agent: "berth/" + p.Version, Log: p.Log, Metrics: p.Metrics,
	}
	if t := c.TLSConfig; t != nil {
		o.TLS = outbound.TLS{CAFile: t.CACertFile, CertFile: t.CertFile, KeyFile: t.KeyFile, CAOnly: t.CACertFile != ""}
	}
	if c.Proxy != "" {
		proxy, err := url.Parse(c.Proxy)
		if err != nil {
			return nil, fmt.Errorf("the proxy is not a URL")
		}
		o.Proxy = http.ProxyURL(proxy)
	}
	client, err := outbound.New(o)
	if err != nil {
		return nil, err
	}
	return &httpSink{cfg: c, name: SinkName("http", c.Address, c.Channel), client: client, now: time.Now}, nil
}

func (s *httpSink) Name() string { return s.name }

func (s *httpSink) Close() error {
	s.client.CloseIdle()
	return nil
}

func (s *httpSink) Send(ctx context.Context, e OutboxEvent) error {
	if s.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.Timeout)
		defer cancel()
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.Address, bytes.NewReader(e.Data))
	if err != nil {
		return fmt.Errorf("the address of a sink is not a URL")
	}
	for k, v := range s.cfg.Headers {
		r.Header.Set(k, string(v))
	}
	r.Header.Set("Content-Type", "application/json")
	for k, v := range EventAttributes(e, s.cfg.Channel) {
		r.Header.Set("Ce-"+k, v)
	}
	if c := s.cfg.Credentials; c != nil {
		switch {
		case c.Username != "":
			r.SetBasicAuth(c.Username, string(c.Password))
		case c.Token != "":
			r.Header.Set("Authorization", "Bearer "+string(c.Token))
		}
	}
	if s.cfg.Secret != "" {
		sign(r.Header, string(s.cfg.Secret), e, s.now())
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) // so that the connection can be used again
	switch code := resp.StatusCode; {
	case code < 300:
		return nil
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: it answered %s", ErrEventRefused, resp.Status)
	default:
		return fmt.Errorf("it answered %d", code)
	}
}

// EventAttributes are those of an event (CloudEvents 1.0.2, §3.1), by their names.
func EventAttributes(e OutboxEvent, channel string) map[string]string {
	all := map[string]string{
		"specversion": "1.0", "id": e.ID, "source": EventSource, "type": e.Type, "time": e.At.Format(time.RFC3339Nano),
	}
	if channel != "" {
		all["channel"] = channel
	}
	return all
}

// sign adds the headers of Standard Webhooks 1.0: HMAC-SHA-256 over id, time and
// body.
func sign(h http.Header, secret string, e OutboxEvent, now time.Time) {
	at := strconv.FormatInt(now.Unix(), 10)
	h.Set(webhook.ID, e.ID)
	h.Set(webhook.Timestamp, at)
	h.Set(webhook.Signature, "v1,"+base64.StdEncoding.EncodeToString(webhook.MAC(secret, e.ID, at, e.Data)))
}
