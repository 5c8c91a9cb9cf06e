package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// idleLimit ends an attempt that moves no byte for so long.
	idleLimit = 30 * time.Second
	// completeLimit is how long S3 may think about putting parts together.
	completeLimit = 3 * time.Minute
)

var errStalled = errors.New("the object store sent and took nothing for too long")

// transport makes each attempt of a request end when it makes no progress.
type transport struct {
	base   http.RoundTripper
	idle   time.Duration           // idleLimit
	meters *atomic.Pointer[meters] // of the driver, nil until somebody wants to know
}

func newTransport(skipVerify bool, roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, InsecureSkipVerify: skipVerify},
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       90 * time.Second,
		WriteBufferSize:       256 << 10,
		ReadBufferSize:        64 << 10,
		DisableCompression:    true,
	}
}

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	limit := t.idle
	if req.Method == http.MethodPost && req.URL.Query().Has("uploadId") {
		limit = t.idle * (completeLimit / idleLimit)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{limit: limit, timer: time.AfterFunc(limit, func() { cancel(errStalled) })}
	req = req.Clone(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &watched{ReadCloser: req.Body, watch: w, sending: true}
	}
	began := time.Now()
	resp, err := t.base.RoundTrip(req)
	t.meters.Load().count(req, resp, err, began)
	if err != nil {
		w.timer.Stop()
		if errors.Is(context.Cause(ctx), errStalled) {
			err = stalledError{}
		}
		cancel(nil)
		return nil, err
	}
	w.timer.Stop()
	resp.Body = &watched{ReadCloser: resp.Body, watch: w, ctx: ctx, done: func() { cancel(nil) }}
	return resp, nil
}

// stalledError is a timeout to the SDK, which tries again then.
type stalledError struct{}

func (stalledError) Error() string   { return errStalled.Error() }
func (stalledError) Unwrap() error   { return errStalled }
func (stalledError) Timeout() bool   { return true }
func (stalledError) Temporary() bool { return true }

// watch ends an attempt when its timer fires.
type watch struct {
	limit time.Duration
	timer *time.Timer
}

// watched is a body whose progress is watched.
type watched struct {
	io.ReadCloser
	watch   *watch
	sending bool            // of a request: the time between reads counts, too
	ctx     context.Context // of an answer
	done    func()          // called by Close, if not nil
}

// Read implements [io.Reader]. Of an answer only the time spent in Read counts:
// who reads may be slow.
func (b *watched) Read(p []byte) (int, error) {
	b.watch.timer.Reset(b.watch.limit)
	n, err := b.ReadCloser.Read(p)
	if b.sending {
		b.watch.timer.Reset(b.watch.limit)
		return n, err
	}
	b.watch.timer.Stop()
	if err != nil && err != io.EOF && errors.Is(context.Cause(b.ctx), errStalled) {
		err = stalledError{}
	}
	return n, err
}

// Close implements [io.Closer].
func (b *watched) Close() error {
	err := b.ReadCloser.Close()
	if b.done != nil {
		b.watch.timer.Stop()
		b.done()
	}
	return err
}
