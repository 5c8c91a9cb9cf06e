package syncer

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/certs"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/webhook"
)

const (
	// maxNotice is how many bytes an event has at most: it may hold a manifest, as JSON.
	maxNotice = 6 << 20
	// smallNotice is how many bytes an event may have without a place among those that
	// are large: most have. So nobody who sends slowly holds up others than those.
	smallNotice = 64 << 10
	// noticesAtOnce is how many large events are read at a time, each in memory.
	noticesAtOnce = 4
	// noticeConns is how many connections there are at a time.
	noticeConns = 64
	// noticeSkew is how far the clocks of both registries may be apart.
	noticeSkew = 5 * time.Minute
)

// Notices answers posts of CloudEvents in binary mode (CloudEvents HTTP protocol
// binding, §3.1) that say that a tag was set or removed in an upstream. Who sends one is known by
// its signature (Standard Webhooks 1.0), which is good for the rules with that secret;
// without one that is good nothing is done and nobody asked. 204 says that the tag is
// noted and will be looked at, or is no business of ours.
func (s *Service) Notices() http.Handler {
	slots := make(chan struct{}, noticesAtOnce)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "events are posted here", http.StatusMethodNotAllowed)
			return
		}
		status, text := s.notice(w, r, slots)
		if status == http.StatusNoContent {
			w.WriteHeader(status)
			return
		}
		http.Error(w, text, status)
	})
}

func (s *Service) notice(w http.ResponseWriter, r *http.Request, slots chan struct{}) (status int, text string) {
	from := http.MaxBytesReader(w, r.Body, maxNotice)
	body, err := io.ReadAll(io.LimitReader(from, smallNotice))
	if err == nil && len(body) == smallNotice {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			w.Header().Set("Retry-After", "1")
			return http.StatusServiceUnavailable, "too many large events at a time"
		}
		var rest []byte
		rest, err = io.ReadAll(from)
		body = append(body, rest...)
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, "the event is too large"
	case err != nil:
		return http.StatusBadRequest, "the event did not come"
	}
	rules := s.signers(r.Header, body)
	if len(rules) == 0 {
		s.meters.unsigned.Inc()
		return http.StatusUnauthorized, "the signature is no rule's"
	}
	kind := r.Header.Get("Ce-Type")
	if kind != registry.ImageUpdated && kind != registry.ImageDeleted {
		return http.StatusNoContent, ""
	}
	var event struct {
		Name      string `json:"name"`
		Reference string `json:"reference"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return http.StatusBadRequest, "the event is not JSON"
	}
	if _, err := registry.ParseName(event.Name); err != nil {
		return http.StatusBadRequest, "the event names no repository"
	}
	tag, err := registry.ParseTag(event.Reference)
	if err != nil { // a digest: it comes, and goes, with the tags that lead to it
		return http.StatusNoContent, ""
	}
	if err := s.tell(r.Context(), rules, event.Name, tag, kind == registry.ImageDeleted); err != nil {
		s.log.Warn("what an upstream has told of could not be noted", "repository", event.Name, "tag", tag, "error", err)
		return http.StatusServiceUnavailable, "the event could not be noted"
	}
	return http.StatusNoContent, ""
}

// signers returns the rules whose secret has signed an event (see [webhook.MAC]), not
// long ago.
func (s *Service) signers(h http.Header, body []byte) []*Rule {
	id, at := h.Get(webhook.ID), h.Get(webhook.Timestamp)
	unix, err := strconv.ParseInt(at, 10, 64)
	if err != nil || s.now().Sub(time.Unix(unix, 0)).Abs() > noticeSkew {
		return nil
	}
	var given [][]byte // there are several while a secret is being replaced
	for one := range strings.FieldsSeq(h.Get(webhook.Signature)) {
		if text, ok := strings.CutPrefix(one, "v1,"); ok && len(given) < 8 {
			if sum, err := base64.StdEncoding.DecodeString(text); err == nil {
				given = append(given, sum)
			}
		}
	}
	if len(given) == 0 {
		return nil
	}
	var all []*Rule
	for _, r := range s.rules() {
		if !r.takesNotices() {
			continue
		}
		secret, err := r.NoticeSecret()
		if err != nil || secret == "" {
			s.log.Warn("the secret of a rule's notices can't be read", "rule", r.Name, "error", err)
			continue
		}
		want := webhook.MAC(secret, id, at, body)
		for _, sum := range given {
			if hmac.Equal(sum, want) {
				all = append(all, r)
				break
			}
		}
	}
	return all
}

// noticeServer listens for notices.
type noticeServer struct {
	http *http.Server
	done chan struct{} // closed when it has ended
}

// listenNotices serves [Service.Notices] where the config file says.
func (s *Service) listenNotices(ctx context.Context, c *config.SyncNotices, log *slog.Logger) (*noticeServer, error) {
	srv := &noticeServer{done: make(chan struct{}), http: &http.Server{
		Handler: s.Notices(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}}
	var pair *certs.Pair
	if c.Cert != "" {
		var err error
		if pair, err = certs.LoadPair(c.Cert, c.Key, log); err != nil {
			return nil, err
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listening for notices: %w", err)
	}
	log.Info("listening for notices of pushes", "address", l.Addr().String(), "tls", pair != nil)
	l = netutil.LimitListener(l, noticeConns)
	if pair != nil {
		l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.Current(), nil }})
	}
	go func() {
		defer close(srv.done)
		if err := srv.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("notices of pushes are not taken any more", "error", err)
		}
	}()
	return srv, nil
}

// Close ends it: whoever waits for an answer tells again.
func (n *noticeServer) Close() error {
	err := n.http.Close()
	<-n.done
	return err
}
