// Package http2test does to servers what hostile clients of HTTP/2 do.
package http2test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Target is the server that is abused.
type Target struct {
	Address string // host:port, TLS
	// Config is used for connections. Names are not checked.
	Config *tls.Config
	// Header is that of a request that the server answers, pseudo headers first.
	Header [][2]string
	// Well fails the test if others are not served. when says after what.
	Well func(when string)
}

// conn is a connection that frames are sent on by hand.
type conn struct {
	net.Conn
	*http2.Framer
}

func (x Target) dial(t *testing.T) conn {
	t.Helper()
	cfg := x.Config.Clone()
	cfg.InsecureSkipVerify, cfg.NextProtos = true, []string{"h2"} //nolint:gosec // a test abuses its own server
	c, err := (&tls.Dialer{Config: cfg}).DialContext(t.Context(), "tcp", x.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	return conn{c, http2.NewFramer(c, c)}
}

// ended reads until the server has hung up, or has said that it will.
func (c conn) ended(t *testing.T, what string) {
	t.Helper()
	for {
		f, err := c.ReadFrame()
		if _, away := f.(*http2.GoAwayFrame); away {
			return
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			t.Errorf("%s: the connection is open still", what)
			return
		}
		if err != nil {
			return
		}
	}
}

// block is the header, with so many kilobytes more.
func (x Target) block(more int) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, h := range x.Header {
		_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	for range more {
		_ = enc.WriteField(hpack.HeaderField{Name: "x", Value: string(bytes.Repeat([]byte("x"), 1000)), Sensitive: true})
	}
	return b.Bytes()
}

// Abuse resets streams as soon as they are opened, sends headers without an end, and
// frames and settings that are malformed. Each may cost its own connection; others go on.
func Abuse(t *testing.T, x Target) {
	t.Helper()
	c := x.dial(t)
	if err := c.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, c.Conn) }() // it answers, and must not wait for us
	for id := uint32(1); id < 20_000; id += 2 {
		err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: x.block(0), EndHeaders: true})
		if err == nil {
			err = c.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil {
			break // it has had enough
		}
	}
	x.Well("after 10,000 streams that were reset,")

	c = x.dial(t)
	err := errors.Join(c.WriteSettings(), c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: x.block(0)}))
	for i := 0; err == nil && i < 100_000; i++ {
		err = c.WriteContinuation(1, false, x.block(10)[:10_000])
	}
	if err == nil {
		t.Error("a gigabyte of headers was taken")
	}
	x.Well("after headers without an end,")

	for _, test := range []struct {
		what string
		ends bool // the connection
		send func(c conn) error
	}{
		// Of frames to us, which are small.
		{"settings that are none", false, func(c conn) error {
			return c.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1})
		}},
		{"a window of nothing", true, raw(http2.FrameWindowUpdate, 0, []byte{0, 0, 0, 0})},
		{"a frame of a stream nobody", true, raw(http2.FrameData, 0, []byte("x"))},
		{"a ping of seven bytes", true, raw(http2.FramePing, 0, make([]byte, 7))},
		{"a continuation of nothing", true, raw(http2.FrameContinuation, 1, []byte("x"))},
		{"a stream of an even number", true, func(c conn) error {
			return errors.Join(c.WriteSettings(), c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2, BlockFragment: x.block(0), EndHeaders: true}))
		}},
		{"headers that are not packed", true, func(c conn) error {
			return errors.Join(c.WriteSettings(), c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bytes.Repeat([]byte{0xff}, 100), EndHeaders: true}))
		}},
		// An error of the stream, which is not open.
		{"a priority that is too short", false, raw(http2.FramePriority, 1, []byte{1})},
	} {
		c := x.dial(t)
		if err := test.send(c); err != nil {
			t.Fatal(err)
		}
		if test.ends {
			c.ended(t, test.what)
		}
		x.Well("after " + test.what + ",")
	}
}

// raw sends one frame behind the settings.
func raw(kind http2.FrameType, stream uint32, payload []byte) func(conn) error {
	return func(c conn) error {
		return errors.Join(c.WriteSettings(), c.WriteRawFrame(kind, 0, stream, payload))
	}
}
